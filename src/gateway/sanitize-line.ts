/**
 * Sanitizes a volume that does not replicate (SBC-3 4.11):
 *
 *   refuse   every request, of every protocol, from the command on (guarded-device.ts)
 *   record   durably, and only then is the command answered as begun: a start goes on with it, from its beginning
 *   write    every block, as any client writes, pass after pass; or all of it is freed
 *   wash     as many bytes more as the log has room for: its files are written over in turn, and hold what came before
 *   flush    then the record is removed, durably, and only then is anybody served: it never begins over later writes
 *
 * A failure is recorded too: what is there may be the old or the new, and nobody is served before a further sanitize, or,
 * where the command allowed that, before its failure is ended.
 */
import { DurabilityLostError, GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { LOGICAL_BLOCK_BYTES } from '../base/units.js';
import {
  readSanitizeRecord,
  removeSanitizeRecord,
  SANITIZE_FILE,
  writeSanitizeRecord,
} from '../engine/sanitize-record.js';
import type { SanitizeRecord } from '../engine/sanitize-record.js';
import type { BlockDevice } from '../ports/block-device.js';
import type { Checksums } from '../ports/checksum.js';
import type { Clock } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { Log } from '../ports/log.js';
import type { SanitizeOrder, VolumeSanitizer } from '../ports/volume-sanitizer.js';
import { requested, untilWritable } from './device-request.js';
import { keep } from './durable-record.js';
import { pace } from './scrub-pace.js';

/** What a sanitize leaves to the other volumes of the disk. */
const BYTES_PER_SECOND_MAX = 64 * 1024 * 1024;

export interface SanitizeLineOptions {
  readonly volume: string;
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly clock: Clock;
  readonly log: Log;
  readonly onFatal: (error: Error) => void;
}

/** What it writes to: the volume itself, behind the guard. */
export type SanitizedDevice = Pick<BlockDevice, 'sizeBytes' | 'writable' | 'onceWritable' | 'write' | 'trim' | 'flush'>;

export class SanitizeLine implements VolumeSanitizer {
  readonly #options: SanitizeLineOptions;
  #record: SanitizeRecord | undefined;
  #device: SanitizedDevice | undefined;
  #logBytes = 0;
  #doneBytes = 0;
  #totalBytes = 1;
  readonly #listeners: ((succeeded: boolean) => void)[] = [];
  #closed = false;

  constructor(options: SanitizeLineOptions) {
    this.#options = options;
  }

  get state(): 'none' | 'running' | 'failed' {
    if (this.#record === undefined) return 'none';
    return this.#record.failed ? 'failed' : 'running';
  }

  get progress(): number {
    return Math.min(1, this.#doneBytes / this.#totalBytes);
  }

  /** Why requests are refused. */
  refusal(): GatewayError | undefined {
    if (this.#record === undefined) return undefined;
    const { volume } = this.#options;
    return new GatewayError(
      'volume-sanitizing',
      this.#record.failed
        ? `the sanitize of volume ${volume} failed, and what it holds may be the old or the new`
        : `volume ${volume} is being sanitized (${Math.floor(this.progress * 100)} %)`,
    );
  }

  /** Before anybody is served. format-unknown, format-newer. */
  async load(): Promise<void> {
    this.#record = await readSanitizeRecord(this.#options.disk, this.#options.checksums);
  }

  /** `logBytes`: what the files of its log hold. Goes on with what a restart has interrupted. */
  start(device: SanitizedDevice, logBytes: number): void {
    this.#device = device;
    this.#logBytes = logBytes;
    if (this.state === 'running') void this.#run();
  }

  begin(order: SanitizeOrder): { readonly begun: Promise<void>; readonly ended: Promise<boolean> } {
    const before = this.#record;
    this.#record = { order, failed: false };
    this.#doneBytes = 0;
    const ended = new Promise<boolean>((resolve) => this.#listeners.push(resolve));
    const begun = this.#save(this.#record).catch(async (error: unknown) => {
      // Where the disk has failed it may be there all the same: then it goes durably before anybody is served.
      if (before === undefined && (await this.#options.disk.exists(SANITIZE_FILE))) {
        await this.#keep(removeSanitizeRecord(this.#options.disk));
      }
      this.#record = before;
      this.#listeners.length = 0;
      throw error;
    });
    void begun.then(
      () => this.#run(),
      () => undefined,
    );
    return { begun, ended };
  }

  async exitFailure(): Promise<boolean> {
    if (this.#record?.failed !== true) return true;
    if (!this.#record.order.mayExitFailure) return false;
    await this.#keep(removeSanitizeRecord(this.#options.disk));
    this.#record = undefined;
    this.#options.log.warn(`volume ${this.#options.volume} is served again, although its sanitize failed`);
    return true;
  }

  /** It goes on after the next start. */
  close(): void {
    this.#closed = true;
  }

  async #run(): Promise<void> {
    const { log, volume, disk } = this.#options;
    const [record, device] = [this.#record, this.#device];
    if (record === undefined || device === undefined) return;
    log.warn(`volume ${volume} is being sanitized`, { method: record.order.method });
    try {
      await this.#apply(device, record.order);
      if (this.#closed) return;
      await requested((completion) => device.flush(completion));
      await this.#keep(removeSanitizeRecord(disk));
      this.#record = undefined;
      log.warn(`volume ${volume} was sanitized`);
      this.#tell(true);
    } catch (error) {
      await this.#failed(record, error);
    }
  }

  async #failed(record: SanitizeRecord, error: unknown): Promise<void> {
    const { log, volume } = this.#options;
    // After a failed sync nobody knows; the next start begins anew.
    if (this.#closed || error instanceof DurabilityLostError) return;
    if (!(error instanceof GatewayError)) throw error;
    if (error.code === 'volume-closed') return;
    log.error(`the sanitize of volume ${volume} failed: ${error.message}`, { code: error.code });
    const failed = { ...record, failed: true };
    // Without its record the next start begins anew, which is no worse.
    await this.#save(failed).catch(() => undefined);
    this.#record = failed;
    this.#tell(false);
  }

  async #apply(device: SanitizedDevice, order: SanitizeOrder): Promise<void> {
    const erases = order.method === 'blockErase';
    const { sizeBytes } = device;
    const passes = erases ? 0 : order.passes;
    this.#totalBytes = sizeBytes * passes + this.#logBytes;
    this.#doneBytes = 0;
    const paced = pace(this.#options.clock, BYTES_PER_SECOND_MAX);
    let piece: Uint8Array = new Uint8Array(Math.min(limits.recordBytesMax, sizeBytes));
    for (let pass = 0; pass < passes; pass++) {
      piece = patternOf(order, pass, piece.length);
      await this.#write(device, piece, sizeBytes, paced);
    }
    const free = (): Promise<void> => requested((completion) => device.trim(0, sizeBytes, false, completion));
    // First, so that there is room for what comes, however full the disk is.
    if (erases) await free();
    await this.#write(device, piece, this.#logBytes, paced);
    if (erases && !this.#closed) await free();
  }

  /** `lengthBytes`, from the volume's beginning, and from there again once its end is reached. */
  async #write(
    device: SanitizedDevice,
    piece: Uint8Array,
    lengthBytes: number,
    paced: (lengthBytes: number) => Promise<void>,
  ): Promise<void> {
    for (let done = 0; done < lengthBytes && !this.#closed;) {
      const offset = done % device.sizeBytes;
      const bytes = Math.min(piece.length, device.sizeBytes - offset, lengthBytes - done);
      await untilWritable(device);
      await requested((completion) => device.write(offset, bytes, piece, 0, false, completion));
      done += bytes;
      this.#doneBytes += bytes;
      await paced(bytes);
    }
  }

  #save(record: SanitizeRecord): Promise<void> {
    // Its directory may be another volume's by now.
    if (this.#closed)
      return Promise.reject(new GatewayError('volume-closed', `volume ${this.#options.volume} is closed`));
    return this.#keep(writeSanitizeRecord(this.#options.disk, this.#options.checksums, record));
  }

  #keep(change: Promise<void>): Promise<void> {
    return keep(change, this.#options.onFatal);
  }

  #tell(succeeded: boolean): void {
    for (const listener of this.#listeners.splice(0)) listener(succeeded);
  }
}

/** The pattern of a pass, through as many whole logical blocks as fit. */
function patternOf({ pattern, inverts }: SanitizeOrder, pass: number, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  const mask = inverts && pass % 2 === 1 ? 0xff : 0;
  if (pattern.length === 0 && mask === 0) return bytes;
  for (let at = 0; at < lengthBytes; at++) {
    bytes[at] = (pattern[(at % LOGICAL_BLOCK_BYTES) % Math.max(1, pattern.length)] ?? 0) ^ mask;
  }
  return bytes;
}
