/**
 * Notices sequential readers among reads that had to fetch, and says what they will want next. Each time a reader comes
 * to where its window ended, the window doubles.
 */
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, type BlockNumber } from '../base/units.js';

const WINDOW_BLOCKS_MIN = 64;
const WINDOW_BLOCKS_MAX = limits.readAheadBytesMax / BLOCK_BYTES;
/** Readers that are told apart. */
const STREAMS_MAX = 8;

export class ReadAhead {
  /** Where a sequential reader would come to next, and how much was fetched ahead for it; oldest first. */
  private streams: { readonly next: BlockNumber; readonly windowBlocks: number }[] = [];
  private readonly fetch: (first: BlockNumber, count: number) => void;

  constructor(fetch: (first: BlockNumber, count: number) => void) {
    this.fetch = fetch;
  }

  /** Somebody fetched blocks of a volume of `volumeBlocks`. */
  note(first: BlockNumber, count: number, volumeBlocks: number): void {
    const end = first + count;
    const before = this.streams.find(({ next }) => first <= next && next < end);
    this.streams = this.streams.filter((stream) => stream !== before).slice(1 - STREAMS_MAX);
    const windowBlocks =
      before === undefined ? 0 : Math.min(WINDOW_BLOCKS_MAX, Math.max(WINDOW_BLOCKS_MIN, 2 * before.windowBlocks));
    this.streams.push({ next: end + windowBlocks, windowBlocks });
    const ahead = Math.min(windowBlocks, volumeBlocks - end);
    if (ahead > 0) this.fetch(end, ahead);
  }
}
