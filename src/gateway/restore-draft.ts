/**
 * What a restore makes before it is whole, in DATADIR/volumes/.keepgate-restoring, or DATADIR/.keepgate-restoring where
 * there are no volumes yet: on the file system that the volume will be on, which may be another one than DATADIR's. It is
 * removed by the next restore, and by the next start of a gateway (but for the pins), which both hold the data directory's
 * lock. A volume takes its place among the others by one rename.
 *
 *     volume     its directory to be
 *     pins       JSON {formatVersion 1, uuid, pins}: the pins that may stand in the bucket for it, written before each of
 *                them is put; the restore that finds them takes them back once its own stands
 *     the rest   what the reading of the bucket needs
 */
import { dirname, join } from 'node:path';
import { ensureWritableDirectory, exists, listDirectory, moveDirectory, removeTree } from '../platform/text-file.js';
import type { Disk } from '../ports/disk.js';
import type { PinNotes } from '../remote/pin.js';
import type { SystemPorts } from './system-ports.js';

/** Removed with all that is in it, so no name that somebody else would give, whatever directory is named. */
const DRAFT_DIRECTORY = '.keepgate-restoring';
const VOLUME = 'volume';
const PINS = 'pins';

/** Where one may lie. */
function placesIn(dataDir: string): readonly string[] {
  return [join(dataDir, 'volumes', DRAFT_DIRECTORY), join(dataDir, DRAFT_DIRECTORY)];
}

/** What was left takes space; whose pins stand, the next restore is still to know. */
export async function clearDraft(dataDir: string): Promise<void> {
  for (const directory of placesIn(dataDir)) {
    const left = await listDirectory(directory);
    if (!left.includes(PINS)) await removeTree(directory);
    for (const name of left) if (name !== PINS) await removeTree(join(directory, name));
  }
}

interface LeftPins {
  readonly uuid: string;
  readonly pins: readonly string[];
}

export class RestoreDraft implements PinNotes {
  readonly #directory: string;
  readonly #ports: SystemPorts;
  readonly #left: LeftPins | undefined;
  /** For whatever is needed only until the volume is whole. */
  readonly scratch: Disk;

  private constructor(directory: string, ports: SystemPorts, left: LeftPins | undefined) {
    this.#directory = directory;
    this.#ports = ports;
    this.#left = left;
    this.scratch = ports.openDisk(directory);
  }

  /** Takes the place of what a restore that was killed has left. */
  static async begin(dataDir: string, ports: SystemPorts): Promise<RestoreDraft> {
    let left: LeftPins | undefined;
    for (const place of placesIn(dataDir)) {
      left ??= await leftPins(ports.openDisk(place));
      await removeTree(place);
    }
    const parent = (await exists(join(dataDir, 'volumes'))) ? join(dataDir, 'volumes') : dataDir;
    const directory = join(parent, DRAFT_DIRECTORY);
    await ensureWritableDirectory(directory, '--data-dir');
    return new RestoreDraft(directory, ports, left);
  }

  /** The directory of the volume, which is empty. */
  async volume(): Promise<Disk> {
    const directory = join(this.#directory, VOLUME);
    await ensureWritableDirectory(directory, '--data-dir');
    return this.#ports.openDisk(directory);
  }

  /** Nothing is written to the volume any more, and what pins stand is its own affair: from now on it is there. */
  async place(directory: string): Promise<void> {
    if (await this.scratch.exists(PINS)) await this.scratch.remove(PINS);
    await ensureWritableDirectory(dirname(directory), '--data-dir');
    await moveDirectory(join(this.#directory, VOLUME), directory);
  }

  inherited(uuid: string): readonly string[] {
    return this.#left?.uuid === uuid ? this.#left.pins : [];
  }

  note(uuid: string, pins: readonly string[]): Promise<void> {
    return this.scratch.writeSmall(PINS, Buffer.from(`${JSON.stringify({ formatVersion: 1, uuid, pins })}\n`));
  }

  remove(): Promise<void> {
    return removeTree(this.#directory);
  }
}

/** undefined where it cannot be understood too: an owner forgets a pin in a day. */
async function leftPins(disk: Disk): Promise<LeftPins | undefined> {
  if (!(await disk.exists(PINS))) return undefined;
  let found: unknown;
  try {
    found = JSON.parse(Buffer.from(await disk.readSmall(PINS)).toString('utf8'));
  } catch {
    return undefined;
  }
  const { formatVersion, uuid, pins } = (found ?? {}) as Readonly<Record<string, unknown>>;
  if (formatVersion !== 1 || typeof uuid !== 'string' || !Array.isArray(pins)) return undefined;
  return { uuid, pins: pins.filter((pin) => typeof pin === 'string' && /^[0-9a-z-]{1,64}$/.test(pin)) };
}
