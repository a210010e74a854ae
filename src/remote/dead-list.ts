/**
 * Objects that nothing needs any more, on their way to deletion (deletion.ts): since when this owner knows, in its running
 * time, and from which recovery point on they are dead.
 *
 * The running time is what this directory's replicators ran, over restarts: no clock that jumps, and no time in which the
 * owner was off, brings a deletion nearer. Kept in the file `deletions` of the volume's directory (docs/formats.md); what is
 * lost of it is found again by a sweep, and waits once more.
 */
import { assert } from '../base/assert.js';
import { GatewayError } from '../base/errors.js';
import type { Clock } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { Log } from '../ports/log.js';
import { deathOf } from './deletion-rule.js';
import type { DeadObject } from './deletion-rule.js';
import type { ObjectNames } from './name.js';
import type { SeenPin } from './pin-watch.js';
import { contentHash } from './seal.js';

export const DELETIONS_FILE = 'deletions';
const FORMAT_VERSION = 1;
/** What does not fit is found again by the next sweep. */
const SAVED_MAX = 8192;

interface Saved {
  readonly runningMs: number;
  readonly dead: readonly (readonly [name: string, deadAt: number, sinceMs: number])[];
  readonly pins: readonly (readonly [name: string, sinceMs: number, floor: number])[];
}

export class DeadList {
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #names: ObjectNames;
  readonly #startedMs: number;
  readonly #before: number;
  readonly #dead = new Map<string, DeadObject>();
  /** Pins as they were saved. */
  readonly pins: readonly SeenPin[];

  private constructor(disk: Disk, clock: Clock, names: ObjectNames, saved: Saved) {
    this.#disk = disk;
    this.#clock = clock;
    this.#names = names;
    this.#startedMs = clock.nowMs();
    this.#before = saved.runningMs;
    for (const [name, deadAt, sinceMs] of saved.dead) this.#put(name, deadAt, sinceMs);
    this.pins = saved.pins.map(([name, sinceMs, floor]) => ({ name, sinceMs, floor }));
  }

  static async open(disk: Disk, clock: Clock, names: ObjectNames, log: Log): Promise<DeadList> {
    const empty: Saved = { runningMs: 0, dead: [], pins: [] };
    if (!(await disk.exists(DELETIONS_FILE))) return new DeadList(disk, clock, names, empty);
    const saved = parse(await disk.readSmall(DELETIONS_FILE));
    if (saved === undefined) log.warn(`${DELETIONS_FILE} cannot be read: what was to be deleted waits once more`);
    return new DeadList(disk, clock, names, saved ?? empty);
  }

  get runningMs(): number {
    return this.#before + this.#clock.nowMs() - this.#startedMs;
  }

  get size(): number {
    return this.#dead.size;
  }

  /** What is known already keeps its age. */
  add(name: string, deadAt: number): void {
    if (!this.#dead.has(name)) this.#put(name, deadAt, this.runningMs);
  }

  /** It is gone, or needed after all. */
  remove(name: string): void {
    this.#dead.delete(name);
  }

  /** Everything, however long it waited. */
  get all(): Iterable<DeadObject> {
    return this.#dead.values();
  }

  hasWaited({ sinceMs }: DeadObject, graceMs: number): boolean {
    return sinceMs <= this.runningMs - graceMs;
  }

  #put(name: string, deadAt: number, sinceMs: number): void {
    const death = deathOf(this.#names, name);
    assert(death !== undefined, 'nothing but checkpoints, shards, segments, pins and scratch objects is ever deleted');
    this.#dead.set(name, { ...death, deadAt, sinceMs });
  }

  async save(pins: readonly SeenPin[]): Promise<void> {
    const saved: Saved = {
      runningMs: this.runningMs,
      dead: [...this.#dead.values()].slice(0, SAVED_MAX).map(({ name, deadAt, sinceMs }) => [name, deadAt, sinceMs]),
      pins: pins.map(({ name, sinceMs, floor }) => [name, sinceMs, floor]),
    };
    const text = JSON.stringify(saved);
    const file = { formatVersion: FORMAT_VERSION, sha256: hashOf(text), saved: text };
    await this.#disk.writeSmall(DELETIONS_FILE, Buffer.from(`${JSON.stringify(file)}\n`));
  }
}

function hashOf(text: string): string {
  return Buffer.from(contentHash(Buffer.from(text))).toString('hex');
}

/** undefined: it is torn, or a bit of it has flipped, which might name an object that is needed. */
function parse(bytes: Uint8Array): Saved | undefined {
  try {
    const file = JSON.parse(Buffer.from(bytes).toString('utf8')) as Record<string, unknown>;
    const { formatVersion, sha256, saved } = file;
    if (typeof formatVersion === 'number' && formatVersion > FORMAT_VERSION) {
      throw new GatewayError('format-newer', `${DELETIONS_FILE} has format version ${formatVersion}`);
    }
    if (typeof saved !== 'string' || sha256 !== hashOf(saved)) return undefined;
    return JSON.parse(saved) as Saved;
  } catch (error) {
    if (error instanceof GatewayError) throw error;
    return undefined;
  }
}
