/**
 * A log in memory with LogReader's interface, for tests of what reads logs: batches of writes, zeros and resizes, each
 * remembered, so that the volume's content can be computed as of any LSN.
 */
import type { LogBatch, LogRecord } from '../../src/engine/log-reader.js';
import type { LogCursor } from '../../src/ports/replication.js';
import type { LogSource } from '../../src/remote/group-collector.js';
import { plainChecksums } from './checksums.js';

const BLOCK = 4096;
const FILE_PAGES = 65_536;

export type FakeOp =
  | { readonly kind: 'write'; readonly firstBlock: number; readonly data: Uint8Array }
  | { readonly kind: 'trim' | 'zero'; readonly firstBlock: number; readonly blockCount: number }
  | { readonly kind: 'resize'; readonly sizeBytes: number }
  | { readonly kind: 'snapshot'; readonly name: string; readonly snapshotLsn: number }
  | { readonly kind: 'mark' };

interface Entry {
  readonly batch: LogBatch;
  readonly ops: readonly FakeOp[];
}

export class FakeLog implements LogSource {
  readonly createdSizeBytes: number;
  #entries: Entry[] = [];
  #pages: Uint8Array[] = [];
  /** Recorded by tests that look at what was read. */
  reads = 0;

  constructor(createdSizeBytes: number) {
    this.createdSizeBytes = createdSizeBytes;
  }

  get start(): LogCursor {
    return { file: 1, offset: 0, lsn: 1, chain: 0, epoch: '0000000000000001' };
  }

  /** Where the next batch will begin. */
  get end(): LogCursor {
    return this.#entries.at(-1)?.batch.next ?? this.start;
  }

  get lastLsn(): number {
    return this.#entries.at(-1)?.batch.lastLsn ?? 0;
  }

  /** Appends one batch; returns its last LSN. */
  append(ops: readonly FakeOp[], wallMs = 1_800_000_000_000): number {
    const firstLsn = this.lastLsn + 1;
    const records: LogRecord[] = [];
    const sums: number[] = [];
    ops.forEach((op, at) => {
      const lsn = firstLsn + at;
      const base = {
        lsn,
        keepAllocated: false,
        firstBlock: 0,
        blockCount: 0,
        payloadPosition: 0,
        sumsStart: sums.length,
        sizeBytes: 0,
        name: '',
        snapshotLsn: 0,
      };
      if (op.kind === 'mark') records.push({ ...base, kind: 'mark' });
      else if (op.kind === 'snapshot') records.push({ ...base, ...op });
      else if (op.kind === 'resize') records.push({ ...base, kind: 'resize', sizeBytes: op.sizeBytes });
      else if (op.kind === 'write') {
        const blockCount = op.data.length / BLOCK;
        records.push({
          ...base,
          kind: 'write',
          firstBlock: op.firstBlock,
          blockCount,
          payloadPosition: (this.#pages.length % FILE_PAGES) * BLOCK,
        });
        for (let block = 0; block < blockCount; block++) {
          const page = op.data.slice(block * BLOCK, (block + 1) * BLOCK);
          const sum = new Uint32Array(1);
          plainChecksums.sumBlocks(page, 0, 1, sum, 0);
          plainChecksums.toLogSums(sum, 0, 1, op.firstBlock + block, lsn);
          sums.push(sum[0]!);
          this.#pages.push(page);
        }
      } else records.push({ ...base, kind: op.kind, firstBlock: op.firstBlock, blockCount: op.blockCount });
    });
    const index = this.#entries.length;
    const lastLsn = firstLsn + ops.length - 1;
    const next = { ...this.start, offset: (index + 1) * BLOCK, lsn: lastLsn + 1 };
    const batch = {
      file: 1,
      offset: index * BLOCK,
      lengthBytes: BLOCK,
      firstLsn,
      lastLsn,
      durableThrough: 0,
      wallMs,
      records,
      sums: Uint32Array.from(sums),
      next,
    };
    this.#entries.push({ batch, ops });
    return lastLsn;
  }

  next(cursor: LogCursor): Promise<LogBatch | undefined> {
    return Promise.resolve(this.#entries[cursor.offset / BLOCK]?.batch);
  }

  readPayload(
    file: number,
    position: number,
    blockCount: number,
    target: Uint8Array,
    targetStart: number,
  ): Promise<void> {
    this.reads++;
    const first = (file - 1) * FILE_PAGES + position / BLOCK;
    for (let at = 0; at < blockCount; at++) target.set(this.#pages[first + at]!, targetStart + at * BLOCK);
    return Promise.resolve();
  }

  async readRuns(file: number, target: Uint8Array, runs: Float64Array, runCount: number): Promise<void> {
    for (let run = 0; run < runCount; run++) {
      const [start = 0, lengthBytes = 0, position = 0] = runs.subarray(3 * run, 3 * run + 3);
      await this.readPayload(file, position, lengthBytes / BLOCK, target, start);
    }
  }

  releaseMemory(): void {
    // Its pages are the log itself.
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** A second directory with the same past. */
  clone(throughLsn = this.lastLsn): FakeLog {
    const copy = new FakeLog(this.createdSizeBytes);
    copy.#entries = this.#entries.filter(({ batch }) => batch.lastLsn <= throughLsn);
    copy.#pages = this.#pages.map((page) => page.slice());
    return copy;
  }

  /** Damages the payload block that was written as the `page`-th. */
  rot(page: number): void {
    this.#pages[page]![7]! ^= 0x20;
  }

  /** Whether a batch ends at `lsn`. */
  endsAt(lsn: number): boolean {
    return lsn === 0 || this.#entries.some(({ batch }) => batch.lastLsn === lsn);
  }

  /** The volume's content as of `lsn`. */
  imageAt(lsn: number): Uint8Array {
    let image = new Uint8Array(this.createdSizeBytes);
    for (const { batch, ops } of this.#entries) {
      ops.forEach((op, at) => {
        if (batch.firstLsn + at > lsn) return;
        if (op.kind === 'write') image.set(op.data, op.firstBlock * BLOCK);
        else if (op.kind === 'resize') {
          const grown = new Uint8Array(op.sizeBytes);
          grown.set(image);
          image = grown;
        } else if (op.kind !== 'mark' && op.kind !== 'snapshot')
          image.fill(0, op.firstBlock * BLOCK, (op.firstBlock + op.blockCount) * BLOCK);
      });
    }
    return image;
  }
}
