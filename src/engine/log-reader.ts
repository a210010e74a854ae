/**
 * Walks the batches of a log in order, header by header. Recovery, the destager and the replicator each have one.
 *
 * A reader trusts nothing: a batch is returned only when it follows the cursor (log-format.ts, `follows`). How far it
 * may walk is its caller's business: the destager and the replicator stop at the durable LSN.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, KIB, MIB } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk, DiskFile } from '../ports/disk.js';
import type { LogCursor } from '../ports/replication.js';
import {
  claimedBytes,
  decodeBatch,
  follows,
  HEADER_PAGES_MAX,
  readClaim,
  type BatchClaim,
  type LogBatch,
} from './log-format.js';

export type { LogBatch, LogRecord } from './log-format.js';

const WINDOW_BYTES = 3 * MIB;
/** Read first at a new place; doubled while reading goes on in sequence, so that a short tail costs a short read. */
const WINDOW_BYTES_FIRST = 128 * KIB;
const PAGE_ATTEMPTS_MAX = 3;

/** Name of a log file below the log directory. */
export function logFileName(file: number): string {
  return String(file).padStart(8, '0');
}

export interface LogReaderOptions {
  readonly disk: Disk;
  readonly checksums: Checksums;
  /** Directory of the log below the disk's root. */
  readonly directory: string;
  /** At least the longest batch that there can be; default: of a log with files of the usual sizes. */
  readonly windowBytes?: number;
}

export class LogReader {
  private readonly options: LogReaderOptions;
  private readonly window: Uint8Array;
  private windowFile = -1;
  private windowStart = 0;
  private windowEnd = 0;
  private windowAtEnd = false;
  private readBytes = WINDOW_BYTES_FIRST;
  private file: DiskFile | undefined;
  private fileNumber = -1;

  constructor(options: LogReaderOptions) {
    this.options = options;
    this.window = options.checksums.alignedBuffer(Math.min(options.windowBytes ?? WINDOW_BYTES, WINDOW_BYTES));
  }

  /** The batch at the cursor, or at the start of the next file; undefined when neither holds one that follows it. */
  async next(cursor: LogCursor): Promise<LogBatch | undefined> {
    return (await this.at(cursor, cursor.file, cursor.offset)) ?? (await this.at(cursor, cursor.file + 1, 0));
  }

  /** The payload of a batch that `next` just returned, where it lies in the window; valid until the next call. */
  payload(batch: LogBatch): { bytes: Uint8Array; start: number } {
    const payloadBytes = batch.sums.length * BLOCK_BYTES;
    const start = batch.offset + batch.lengthBytes - payloadBytes - this.windowStart;
    return { bytes: this.window, start };
  }

  /** Forgets what was read, so that the next call sees what was appended since. */
  refresh(): void {
    this.windowFile = -1;
  }

  /** As refresh; the window's memory goes back to the system. Not while a call is under way. */
  releaseMemory(): void {
    this.refresh();
    this.options.checksums.discard(this.window);
  }

  /** Reads payload blocks as they lie in the file; the caller verifies them against the batch's sums. */
  async readPayload(
    file: number,
    position: number,
    blockCount: number,
    target: Uint8Array,
    targetStart: number,
  ): Promise<void> {
    const source = await this.open(file);
    const length = blockCount * BLOCK_BYTES;
    const read = (): Promise<number> =>
      source === undefined ? Promise.resolve(0) : source.read(target, targetStart, length, position);
    // One failure may pass; a sector that is gone fails again.
    const got = await read().catch((error: unknown) => {
      if (!isReadFailure(error)) throw error;
      return read();
    });
    if (got !== length) {
      throw new GatewayError(
        'log-damaged',
        `log file ${logFileName(file)} ends at ${position + got}, payload expected up to ${position + length}`,
      );
    }
  }

  /**
   * As readPayload, for many runs of one file at once: run k of blocks goes to target[runs[3k]…], is runs[3k + 1] bytes
   * long and lies at runs[3k + 2].
   */
  async readRuns(file: number, target: Uint8Array, runs: Float64Array, runCount: number): Promise<void> {
    const source = await this.open(file);
    const wanted = sumOfLengths(runs, runCount);
    const got = await source?.readScattered(target, runs, runCount).catch((error: unknown) => {
      if (!isReadFailure(error)) throw error;
      return -1;
    });
    if (got === wanted) return;
    // It is for readPayload to say what is wrong; perhaps only what lies between two runs is.
    for (let run = 0; run < runCount; run++) {
      const [start = 0, lengthBytes = 0, position = 0] = runs.subarray(3 * run, 3 * run + 3);
      await this.readPayload(file, position, lengthBytes / BLOCK_BYTES, target, start);
    }
  }

  /** A batch that `next` returned, as it lies in the file. */
  async whole(batch: LogBatch): Promise<Uint8Array> {
    const bytes = new Uint8Array(batch.lengthBytes);
    const source = await this.open(batch.file);
    if (source !== undefined) await readTolerantly(source, bytes, bytes.length, batch.offset);
    return bytes;
  }

  /** Every header from a place on that is valid by itself, whatever it follows; for recovery's search for claims. */
  async *claims(file: number, offset: number): AsyncGenerator<{ claim: BatchClaim; file: number; offset: number }> {
    for (let at = offset; await this.hold(file, at, HEADER_PAGES_MAX * BLOCK_BYTES); at += BLOCK_BYTES) {
      const claim = readClaim(this.held(), at - this.windowStart, this.options.checksums);
      if (claim !== undefined) yield { claim, file, offset: at };
    }
  }

  async close(): Promise<void> {
    const file = this.file;
    this.file = undefined;
    this.fileNumber = -1;
    this.windowFile = -1;
    await file?.close();
  }

  private async at(cursor: LogCursor, file: number, offset: number): Promise<LogBatch | undefined> {
    const seenBefore = this.windowFile === file && offset >= this.windowStart && offset < this.windowEnd;
    const batch = await this.decode(cursor, file, offset);
    if (batch !== undefined || !seenBefore) return batch;
    // What the window holds there may be older than the batch.
    this.refresh();
    return await this.decode(cursor, file, offset);
  }

  private async decode(cursor: LogCursor, file: number, offset: number): Promise<LogBatch | undefined> {
    if (!(await this.hold(file, offset, BLOCK_BYTES))) return undefined;
    const claimed = claimedBytes(this.held(), offset - this.windowStart);
    if (claimed === undefined || !(await this.hold(file, offset, claimed))) return undefined;
    const start = offset - this.windowStart;
    if (start + claimed > this.windowEnd - this.windowStart) return undefined;
    const claim = readClaim(this.held(), start, this.options.checksums);
    if (claim === undefined || !follows(claim, cursor)) return undefined;
    return decodeBatch(this.held(), start, claim, file, offset);
  }

  private held(): Uint8Array {
    return this.window.subarray(0, this.windowEnd - this.windowStart);
  }

  /** Brings lengthBytes at a place into the window, or what the file has of them; false when it ends before that place. */
  private async hold(file: number, offset: number, lengthBytes: number): Promise<boolean> {
    const inWindow = this.windowFile === file && offset >= this.windowStart;
    if (inWindow && offset + lengthBytes <= this.windowEnd) return true;
    if (inWindow && this.windowAtEnd) return offset < this.windowEnd;
    const source = await this.open(file);
    if (source === undefined) return false;
    const sequential = inWindow && offset <= this.windowEnd;
    this.readBytes = Math.min(this.window.length, sequential ? 2 * this.readBytes : WINDOW_BYTES_FIRST);
    const wanted = Math.min(this.window.length, Math.max(this.readBytes, lengthBytes));
    this.windowFile = -1;
    const length = await readTolerantly(source, this.window, wanted, offset);
    this.windowFile = file;
    this.windowStart = offset;
    this.windowEnd = offset + length;
    this.windowAtEnd = length < wanted;
    return length > 0;
  }

  private async open(file: number): Promise<DiskFile | undefined> {
    if (this.fileNumber === file) return this.file;
    const path = `${this.options.directory}/${logFileName(file)}`;
    let opened: DiskFile;
    try {
      opened = await this.options.disk.open(path, { mode: 'read' });
    } catch (error) {
      if (error instanceof GatewayError && error.code === 'not-found') return undefined;
      throw error;
    }
    const before = this.file;
    this.file = opened;
    this.fileNumber = file;
    await before?.close();
    return opened;
  }
}

function sumOfLengths(runs: Float64Array, runCount: number): number {
  let sum = 0;
  for (let run = 0; run < runCount; run++) sum += runs[3 * run + 1] ?? 0;
  return sum;
}

function isReadFailure(error: unknown): boolean {
  return error instanceof GatewayError && error.code === 'disk-failed';
}

/**
 * A page that cannot be read counts as damaged, like any other that holds no batch: where the power went, sectors may
 * be unreadable until they are written again, behind the log's end and where a file was left early.
 */
async function readTolerantly(
  source: DiskFile,
  target: Uint8Array,
  lengthBytes: number,
  offset: number,
): Promise<number> {
  try {
    return await source.read(target, 0, lengthBytes, offset);
  } catch (error) {
    if (!isReadFailure(error)) throw error;
  }
  let length = 0;
  for (let at = 0; at < lengthBytes && length === at; at += BLOCK_BYTES) {
    length += await readPage(source, target, at, offset + at);
  }
  return length;
}

/** A failure that passes must not make a sound batch look torn: only what fails again and again counts as unreadable. */
async function readPage(source: DiskFile, target: Uint8Array, at: number, offset: number): Promise<number> {
  for (let attemptsLeft = PAGE_ATTEMPTS_MAX; attemptsLeft > 0; attemptsLeft--) {
    try {
      return await source.read(target, at, BLOCK_BYTES, offset);
    } catch (error) {
      if (!isReadFailure(error)) throw error;
    }
  }
  target.fill(0, at, at + BLOCK_BYTES);
  return BLOCK_BYTES;
}
