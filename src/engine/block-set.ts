/**
 * A set of block numbers in memory: 508 bytes for each group of 4064 neighbours of which one is in it, as many as one
 * sector of the file `dirty` holds (dirty-map.ts). Groups that are wholly in it share one array.
 */
import type { BlockNumber } from '../base/units.js';

const WORDS = 127;
export const BLOCKS_PER_GROUP = WORDS * 32;

const full = new Uint32Array(WORDS).fill(0xffff_ffff);

export class BlockSet {
  private readonly groups = new Map<number, Uint32Array>();

  /** Numbers of the groups that have something in them. */
  groupNumbers(): IterableIterator<number> {
    return this.groups.keys();
  }

  /** The bits of a group, lowest block first, not to be written to; undefined: all 0. */
  group(number: number): Uint32Array | undefined {
    return this.groups.get(number);
  }

  /** Takes a group as it is, or wholly. */
  setGroup(number: number, words: Uint32Array | 'full'): void {
    if (words === 'full') this.groups.set(number, full);
    else if (words.some((word) => word !== 0)) this.groups.set(number, words);
  }

  /** Adds what a group has. */
  addGroup(number: number, words: Uint32Array): void {
    const found = this.groups.get(number);
    if (found === undefined) this.setGroup(number, words.slice());
    else if (found !== full)
      this.groups.set(number, words === full ? full : found.map((word, at) => word | (words[at] ?? 0)));
  }

  has(block: BlockNumber): boolean {
    const words = this.groups.get(Math.floor(block / BLOCKS_PER_GROUP));
    if (words === undefined) return false;
    const bit = block % BLOCKS_PER_GROUP;
    return (((words[bit >>> 5] ?? 0) >>> (bit & 31)) & 1) === 1;
  }

  /** Adds a range; calls `changed` with each group that was not wholly in it before. */
  add(first: BlockNumber, count: number, changed?: (group: number) => void): void {
    const end = first + count;
    for (let at = first; at < end;) {
      const number = Math.floor(at / BLOCKS_PER_GROUP);
      const start = number * BLOCKS_PER_GROUP;
      const until = Math.min(end, start + BLOCKS_PER_GROUP);
      if (this.addWithin(number, at - start, until - start)) changed?.(number);
      at = until;
    }
  }

  private addWithin(number: number, from: number, to: number): boolean {
    const found = this.groups.get(number);
    if (found === full) return false;
    if (to - from === BLOCKS_PER_GROUP) {
      this.groups.set(number, full);
      return true;
    }
    const words = found ?? new Uint32Array(WORDS);
    if (found === undefined) this.groups.set(number, words);
    let changed = false;
    for (let bit = from; bit < to; bit++) {
      const mask = 1 << (bit & 31);
      const word = words[bit >>> 5] ?? 0;
      if ((word & mask) !== 0) continue;
      words[bit >>> 5] = word | mask;
      changed = true;
    }
    return changed;
  }

  remove(block: BlockNumber): void {
    const number = Math.floor(block / BLOCKS_PER_GROUP);
    const found = this.groups.get(number);
    if (found === undefined) return;
    const words = found === full ? full.slice() : found;
    const bit = block % BLOCKS_PER_GROUP;
    words[bit >>> 5] = (words[bit >>> 5] ?? 0) & ~(1 << (bit & 31));
    if (words.every((word) => word === 0)) this.groups.delete(number);
    else if (found === full) this.groups.set(number, words);
  }

  addAll(other: BlockSet): void {
    for (const [number, words] of other.groups) {
      if (words === full) this.groups.set(number, full);
      else this.addGroup(number, words);
    }
  }

  clear(): void {
    this.groups.clear();
  }

  /** How many blocks below `end` are in it, or in `also`. */
  countBelow(end: BlockNumber, also?: BlockSet): number {
    let count = 0;
    for (const [number, words] of this.groups) count += countGroup(end, number, words, also?.groups.get(number));
    for (const [number, words] of also?.groups ?? [])
      if (!this.groups.has(number)) count += countGroup(end, number, words, undefined);
    return count;
  }

  /** Groups of [from, to) that have something in them, ascending. */
  private *numbersWithin(from: number, to: number): Generator<number, void, undefined> {
    if (to - from <= 8 * this.groups.size) {
      for (let number = from; number < to; number++) if (this.groups.has(number)) yield number;
      return;
    }
    const numbers = [...this.groups.keys()].filter((number) => number >= from && number < to);
    yield* numbers.sort((left, right) => left - right);
  }

  /** The blocks of [first, end) that are in it, ascending. */
  *within(first: BlockNumber, end: BlockNumber): Generator<BlockNumber, void, undefined> {
    for (const number of this.numbersWithin(Math.floor(first / BLOCKS_PER_GROUP), Math.ceil(end / BLOCKS_PER_GROUP))) {
      const start = number * BLOCKS_PER_GROUP;
      for (let at = 0; at < WORDS; at++) {
        // What is taken out meanwhile is not given.
        const words = this.groups.get(number);
        if ((words?.[at] ?? 0) === 0) continue;
        for (let bit = 0; bit < 32; bit++) {
          const block = start + 32 * at + bit;
          if (block >= first && block < end && this.has(block)) yield block;
        }
      }
    }
  }
}

/** The blocks below `end` of a group that are in either. */
function countGroup(end: BlockNumber, number: number, words: Uint32Array, also: Uint32Array | undefined): number {
  const left = end - number * BLOCKS_PER_GROUP;
  if (left <= 0) return 0;
  if (words === full || also === full) return Math.min(left, BLOCKS_PER_GROUP);
  let count = 0;
  for (let at = 0; at < WORDS; at++) count += ones(((words[at] ?? 0) | (also?.[at] ?? 0)) & maskBelow(left - 32 * at));
  return count;
}

function maskBelow(bits: number): number {
  if (bits <= 0) return 0;
  return bits >= 32 ? -1 : (1 << bits) - 1;
}

function ones(word: number): number {
  const pairs = word - ((word >>> 1) & 0x5555_5555);
  const quads = (pairs & 0x3333_3333) + ((pairs >>> 2) & 0x3333_3333);
  return Math.imul((quads + (quads >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}
