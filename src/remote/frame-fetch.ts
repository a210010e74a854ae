/**
 * Frames of segments, as those who read a recovery point want them: each comes by a ranged GET that everybody shares who
 * wants it at the same time, neighbouring ones by the same GET; the last few are kept for whoever comes right after. Every
 * frame and every index was authenticated as that of the segment that the table names.
 */
import { GatewayError } from '../base/errors.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import { keyText } from './chain.js';
import type { ObjectSealer } from './seal.js';
import { readSegmentHead } from './segment-reader.js';
import type { OpenedSegment } from './segment-reader.js';
import { framesOfRow, isOfRow } from './shard-table.js';
import type { SegmentRow } from './shard-table.js';
import { SharedFetch } from './shared-fetch.js';

/** Frames that come by one GET at most: 4 MiB. */
export const HAUL_FRAMES_MAX = 16;
/** Frames that are kept. */
const KEPT_FRAMES_MAX = 16;
/** Indexes that are kept, by what their columns take. */
const HEADS_BYTES_MAX = 8 * 1024 * 1024;

/** Frames that come together, and by which name. */
interface Haul {
  readonly name: string;
  readonly first: number;
  readonly count: number;
}

export class FrameFetch {
  readonly #sealer: ObjectSealer;
  readonly #heads = new SharedFetch<OpenedSegment>();
  readonly #hauls = new SharedFetch<readonly Uint8Array[]>();
  /** By which haul a frame is on its way. */
  readonly #underWay = new Map<string, Haul>();
  /** Least recently used first. */
  readonly #keptFrames = new Map<string, Uint8Array>();
  readonly #keptHeads = new Map<number, OpenedSegment>();
  #keptHeadsBytes = 0;

  constructor(sealer: ObjectSealer) {
    this.#sealer = sealer;
  }

  /** The index of a segment; remote-gap when it is not there, object-damaged; store errors. */
  async head(row: SegmentRow, store: ObjectStore, request: StoreRequest): Promise<OpenedSegment> {
    const kept = this.#keptHeads.get(row.number);
    if (kept !== undefined && isOfRow(row, kept)) return kept;
    return this.#heads.get(`the index of segment ${keyText(row)}`, request, async (shared) => {
      const head = await readSegmentHead(store, this.#sealer, row, shared);
      if (head.kind !== 'segment' || !isOfRow(row, head)) throw missing(row);
      this.#keepHead(row.number, head);
      return head;
    });
  }

  /**
   * The plain bytes of frames of a segment, in the order of `wanted`, which ascends. `keep`: for whoever may want one of
   * them right after. Store errors, object-missing, object-damaged.
   */
  async frames(
    row: SegmentRow,
    wanted: readonly number[],
    options: { readonly store: ObjectStore; readonly request: StoreRequest; readonly keep: boolean },
  ): Promise<readonly Uint8Array[]> {
    const found = new Map<number, Uint8Array>();
    const hauls = new Map<string, Haul>();
    const absent: number[] = [];
    for (const frame of wanted) {
      const kept = this.#keptFrames.get(nameOf(row, frame));
      const underWay = this.#underWay.get(nameOf(row, frame));
      if (kept !== undefined) found.set(frame, kept);
      else if (underWay === undefined) absent.push(frame);
      else hauls.set(underWay.name, underWay);
    }
    for (const haul of haulsOf(row, absent)) hauls.set(haul.name, haul);
    await Promise.all(
      [...hauls.values()].map(async (haul) => {
        const frames = await this.#haul(row, haul, options);
        frames.forEach((bytes, at) => found.set(haul.first + at, bytes));
      }),
    );
    return wanted.map((frame) => found.get(frame) ?? raise(missing(row)));
  }

  #haul(
    row: SegmentRow,
    haul: Haul,
    { store, request, keep }: { readonly store: ObjectStore; readonly request: StoreRequest; readonly keep: boolean },
  ): Promise<readonly Uint8Array[]> {
    const names = Array.from({ length: haul.count }, (_, at) => nameOf(row, haul.first + at));
    return this.#hauls.get(haul.name, request, async (shared) => {
      for (const name of names) this.#underWay.set(name, haul);
      try {
        const frames = await this.#read(row, haul, store, shared);
        if (keep) frames.forEach((bytes, at) => this.#keepFrame(names[at] ?? '', bytes));
        return frames;
      } finally {
        for (const name of names) if (this.#underWay.get(name) === haul) this.#underWay.delete(name);
      }
    });
  }

  async #read(row: SegmentRow, haul: Haul, store: ObjectStore, request: StoreRequest): Promise<Uint8Array[]> {
    const opener = framesOfRow(this.#sealer, row);
    const last = haul.first + haul.count - 1;
    if (last >= opener.count) {
      throw new GatewayError('object-damaged', `segment ${keyText(row)} has no frame ${last}, which the map names`);
    }
    const { start } = opener.range(haul.first);
    const end = opener.range(last);
    const range = { start, lengthBytes: end.start + end.lengthBytes - start };
    const sealed = await store.get(this.#sealer.names.segment(row), { ...request, range });
    return Array.from({ length: haul.count }, (_, at) => {
      const one = opener.range(haul.first + at);
      return opener.open(haul.first + at, sealed.subarray(one.start - start, one.start - start + one.lengthBytes));
    });
  }

  #keepFrame(name: string, bytes: Uint8Array): void {
    this.#keptFrames.delete(name);
    this.#keptFrames.set(name, bytes);
    const [oldest] = this.#keptFrames.keys();
    if (this.#keptFrames.size > KEPT_FRAMES_MAX && oldest !== undefined) this.#keptFrames.delete(oldest);
  }

  #keepHead(number: number, head: OpenedSegment): void {
    const before = this.#keptHeads.get(number);
    if (before !== undefined) this.#keptHeadsBytes -= headBytes(before);
    this.#keptHeads.delete(number);
    this.#keptHeads.set(number, head);
    this.#keptHeadsBytes += headBytes(head);
    for (const [oldest, kept] of this.#keptHeads) {
      if (this.#keptHeadsBytes <= HEADS_BYTES_MAX || oldest === number) return;
      this.#keptHeads.delete(oldest);
      this.#keptHeadsBytes -= headBytes(kept);
    }
  }
}

/** Neighbours together. */
function haulsOf(row: SegmentRow, frames: readonly number[]): Haul[] {
  const hauls: Haul[] = [];
  for (let from = 0; from < frames.length;) {
    const first = frames[from] ?? 0;
    let count = 1;
    while (count < HAUL_FRAMES_MAX && frames[from + count] === first + count) count++;
    const name = `frames ${first} to ${first + count - 1} of segment ${keyText(row)}`;
    hauls.push({ name, first, count });
    from += count;
  }
  return hauls;
}

function nameOf(row: SegmentRow, frame: number): string {
  return `${row.number}/${frame}`;
}

function headBytes({ index }: OpenedSegment): number {
  return index.sums.byteLength + index.extents.count * 16 + index.zeros.count * 16 + 1024;
}

function missing(row: SegmentRow): GatewayError {
  return new GatewayError('object-missing', `segment ${keyText(row)} is not there, and blocks lie in it`);
}

function raise(error: Error): never {
  throw error;
}
