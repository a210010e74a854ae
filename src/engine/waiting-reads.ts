/**
 * Reads that cannot be answered within their turn: what they want is not in memory, or rotten here, or in the bucket only.
 *
 * Invariant: as long as a read is under way its volume stays open (`idle`). Ranges that a client asks to be brought nearer
 * are read in the same way, and hold nobody up.
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, type ByteLength, type ByteOffset } from '../base/units.js';
import type { Completion } from '../ports/block-device.js';
import type { Log as TextLog } from '../ports/log.js';
import type { BufferPool } from './buffer-pool.js';
import type { ByteReader } from './byte-reader.js';
import type { FilledBlocks } from './filled-block.js';

export interface WaitingReadsOptions {
  readonly volume: string;
  readonly bytes: ByteReader;
  readonly pool: BufferPool;
  /** Of a restored volume whose content still comes from the bucket. */
  readonly filled: FilledBlocks | undefined;
  readonly log: TextLog;
}

export class WaitingReads {
  private readonly options: WaitingReadsOptions;
  private underWay = 0;
  private whenIdle: (() => void) | undefined;

  constructor(options: WaitingReadsOptions) {
    this.options = options;
  }

  async read(
    offset: ByteOffset,
    lengthBytes: ByteLength,
    target: Uint8Array,
    targetStart: number,
    completion: Completion,
  ): Promise<void> {
    this.underWay++;
    let failure: GatewayError | undefined;
    try {
      await this.options.bytes.read(offset, lengthBytes, target, targetStart);
    } catch (error) {
      failure = this.noteError(error);
    }
    this.underWay--;
    if (this.underWay === 0) this.whenIdle?.();
    completion.done(failure);
  }

  /** Brings a range nearer: what only the bucket has comes here, the rest into memory, as far as there may be room for it. */
  async warm(offset: ByteOffset, lengthBytes: ByteLength): Promise<GatewayError | undefined> {
    const { bytes, pool, filled } = this.options;
    const buffer = pool.take(limits.recordBytesMax);
    try {
      for (let done = 0; done < lengthBytes; done += buffer.length) {
        const length = Math.min(buffer.length, lengthBytes - done);
        const first = Math.floor((offset + done) / BLOCK_BYTES);
        const count = Math.ceil((offset + done + length) / BLOCK_BYTES) - first;
        const absent = filled !== undefined && !filled.done && (await filled.wanted(first, count)).includes(1);
        // What is here needs no help to be read fast: no more of it is brought into memory than there may be room for.
        if (absent || done < limits.cachedBytesMax) await bytes.read(offset + done, length, buffer, 0);
        else if (filled === undefined || filled.done) break;
      }
      return undefined;
    } catch (error) {
      return this.noteError(error);
    } finally {
      pool.give(buffer);
    }
  }

  /** Resolves once no read is under way. */
  async idle(): Promise<void> {
    if (this.underWay > 0) await new Promise<void>((resolve) => (this.whenIdle = resolve));
  }

  private noteError(error: unknown): GatewayError {
    const { volume, log } = this.options;
    const known =
      error instanceof GatewayError ? error : new GatewayError('disk-failed', String(error), { cause: error });
    log.error(known.message, { volume, code: known.code });
    return known;
  }
}
