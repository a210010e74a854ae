/**
 * What a run of log batches leaves behind: each block's newest version inside the run, no block twice. Walks headers, as
 * the destager does; payload is read when the group is sealed (group-sealer.ts).
 *
 * A snapshot ends the run, so that the group's end is the snapshot, exactly.
 */
import type { BlockNumber, Lsn } from '../base/units.js';
import { GatewayError } from '../base/errors.js';
import { ZERO_LOCATION } from '../engine/block-table.js';
import type { LogBatch } from '../engine/log-reader.js';
import { Overlay } from '../engine/overlay.js';
import type { LogCursor } from '../ports/replication.js';
import type { SegmentEvent } from './segment-event.js';

/** How the replicator reads the log; engine/log-reader.ts implements it. */
export interface LogSource {
  next(cursor: LogCursor): Promise<LogBatch | undefined>;
  readPayload(
    file: number,
    position: number,
    blockCount: number,
    target: Uint8Array,
    targetStart: number,
  ): Promise<void>;
  readRuns(file: number, target: Uint8Array, runs: Float64Array, runCount: number): Promise<void>;
  /** Its buffer's memory goes back to the system; not while a call is under way. */
  releaseMemory(): void;
  close(): Promise<void>;
}

/** Bounds of a group's metadata, whatever its payload: extents of zeros, and events. */
const ZERO_EXTENTS_MAX = 8192;
const EVENTS_MAX = 1024;

/** Columns, in the order in which the payload lies in the log. */
export interface GroupContent {
  readonly count: number;
  readonly blocks: Float64Array;
  readonly lsns: Float64Array;
  /** engine/overlay.ts, locationOf. */
  readonly locations: Float64Array;
  readonly logSums: Uint32Array;
  /** Disjoint and ascending: what trims and zero records leave zero. */
  readonly zeros: readonly BlockRange[];
  readonly events: readonly SegmentEvent[];
}

export interface BlockRange {
  readonly first: BlockNumber;
  readonly count: number;
}

export class GroupCollector {
  readonly #overlay = new Overlay();
  readonly #events: SegmentEvent[] = [];
  readonly #blocksMax: number;
  #cursor: LogCursor;
  #wallMs = 0;
  #payloadBlocks = 0;
  /** Its last batch is a snapshot. */
  #ended = false;

  /** `blocksMax`: payload blocks that the group may have at most. */
  constructor(options: { readonly cursor: LogCursor; readonly blocksMax: number }) {
    this.#cursor = options.cursor;
    this.#blocksMax = options.blocksMax;
  }

  /** Behind the last batch that was taken. */
  get cursor(): LogCursor {
    return this.#cursor;
  }

  get lastLsn(): Lsn {
    return this.#cursor.lsn - 1;
  }

  /** When the last batch was written. */
  get wallMs(): number {
    return this.#wallMs;
  }

  /** Blocks with a newest version in the group, an upper bound of its payload. */
  get blocks(): number {
    return this.#overlay.table.size;
  }

  /** Payload blocks that were taken, superseded ones too. */
  get payloadBlocks(): number {
    return this.#payloadBlocks;
  }

  /** Nothing in it changes the volume (marks and epochs only). */
  get empty(): boolean {
    return this.#overlay.isEmpty && this.#events.length === 0;
  }

  /** Takes batches up to `throughLsn`; 'full' when the group has reached its bounds, or a snapshot, before or there. */
  async collect(source: LogSource, throughLsn: Lsn): Promise<'caughtUp' | 'full'> {
    if (this.#ended) return 'full';
    while (this.#cursor.lsn <= throughLsn) {
      const batch = await source.next(this.#cursor);
      if (batch === undefined) {
        throw new GatewayError(
          'log-damaged',
          `the log ends at LSN ${this.lastLsn} (file ${this.#cursor.file}, offset ${this.#cursor.offset}), it is durable up to ${throughLsn}`,
        );
      }
      if (batch.lastLsn > throughLsn) return 'caughtUp';
      if (!this.#hasRoom(batch)) return 'full';
      this.#take(batch);
      if (isSnapshot(batch)) {
        this.#ended = true;
        return 'full';
      }
    }
    return 'caughtUp';
  }

  #hasRoom(batch: LogBatch): boolean {
    if (this.empty) return true;
    const { table, extents } = this.#overlay;
    return (
      table.size + blocksOf(batch) <= this.#blocksMax &&
      extents.count + batch.records.length <= ZERO_EXTENTS_MAX &&
      this.#events.length + eventsOf(batch).length <= EVENTS_MAX
    );
  }

  #take(batch: LogBatch): void {
    this.#overlay.replay(batch);
    this.#events.push(...eventsOf(batch));
    this.#payloadBlocks += batch.sums.length;
    this.#wallMs = batch.wallMs;
    this.#cursor = batch.next;
  }

  content(): GroupContent {
    const { table } = this.#overlay;
    const sorted = table.sortedBlocks();
    const slots = new Uint32Array(sorted.length);
    let count = 0;
    for (const block of sorted) {
      const slot = this.#overlay.lookup(block);
      if (slot >= 0 && table.locationAt(slot) !== ZERO_LOCATION) slots[count++] = slot;
    }
    const order = slots.subarray(0, count).sort((left, right) => table.locationAt(left) - table.locationAt(right));
    const content = {
      count,
      blocks: new Float64Array(count),
      lsns: new Float64Array(count),
      locations: new Float64Array(count),
      logSums: new Uint32Array(count),
      zeros: this.#zeroRanges(sorted),
      events: [...this.#events],
    };
    for (let at = 0; at < count; at++) {
      const slot = order[at] ?? 0;
      content.blocks[at] = table.blockAt(slot);
      content.lsns[at] = table.lsnAt(slot);
      content.locations[at] = table.locationAt(slot);
      content.logSums[at] = table.logSumAt(slot);
    }
    return content;
  }

  /** Extents, less the blocks that were written after them, and single zero blocks. */
  #zeroRanges(sorted: Uint32Array): BlockRange[] {
    const { table, extents } = this.#overlay;
    const ranges = new RangeList();
    let at = 0;
    const singles = (before: number, inside: number): number => {
      let from = inside;
      for (let block = sorted[at]; block !== undefined && block < before; block = sorted[++at]) {
        const slot = this.#overlay.lookup(block);
        if (slot < 0) continue;
        const zero = table.locationAt(slot) === ZERO_LOCATION;
        if (inside < 0) {
          if (zero) ranges.add(block, block + 1);
        } else if (!zero) {
          ranges.add(from, block);
          from = block + 1;
        }
      }
      return from;
    };
    for (const { start, end } of extents) {
      singles(start, -1);
      ranges.add(singles(end, start), end);
    }
    singles(Infinity, -1);
    return ranges.list;
  }
}

/** Grows by ascending, disjoint ranges; joins those that touch. */
class RangeList {
  readonly list: BlockRange[] = [];

  add(first: BlockNumber, end: BlockNumber): void {
    if (end <= first) return;
    const last = this.list.at(-1);
    if (last !== undefined && last.first + last.count === first) {
      this.list[this.list.length - 1] = { first: last.first, count: end - last.first };
    } else {
      this.list.push({ first, count: end - first });
    }
  }
}

/** Table entries that a batch can add: payload, and short zero records (engine/overlay.ts). */
function blocksOf(batch: LogBatch): number {
  let blocks = batch.sums.length;
  for (const record of batch.records) {
    if (record.kind === 'trim' || record.kind === 'zero') blocks += Math.min(record.blockCount, 32);
  }
  return blocks;
}

function eventsOf(batch: LogBatch): SegmentEvent[] {
  const events: SegmentEvent[] = [];
  for (const { kind, lsn, sizeBytes, name, snapshotLsn } of batch.records) {
    if (kind === 'resize') events.push({ kind, lsn, sizeBytes });
    else if (kind === 'snapshot')
      events.push(snapshotLsn === 0 ? { kind, lsn, name } : { kind: 'snapshotDeleted', lsn, name, snapshotLsn });
  }
  return events;
}

/** A snapshot has a batch of its own. */
function isSnapshot(batch: LogBatch): boolean {
  return eventsOf(batch).at(-1)?.kind === 'snapshot';
}

/** The volume's size after these events, if they change it. */
export function newestSize(events: readonly SegmentEvent[]): number | undefined {
  return events.findLast((event) => event.kind === 'resize')?.sizeBytes;
}
