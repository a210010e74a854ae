/**
 * The writes that a client has issued, each with the moments at which it was issued and answered, and for every sector
 * those that it may still hold. power-ledger.ts and history-ledger.ts say which of them it must hold.
 */
import assert from 'node:assert/strict';
import { fillSector, isZeroWrite, sectorBytes } from './ledger.js';

export interface Write {
  readonly number: number;
  readonly first: number;
  readonly count: number;
  readonly issued: number;
  /** Infinity: outstanding. */
  answered: number;
  forced: boolean;
}

export abstract class WriteHistory {
  readonly sectorCount: number;
  /** The oldest write that each sector may hold; 0: none. */
  protected readonly base: Uint32Array;
  /** Number of the outstanding write of each sector, or 0. */
  protected readonly outstanding: Uint32Array;
  protected readonly writes = new Map<number, Write>();
  /** By sector: the writes after its base, ascending. */
  protected readonly history = new Map<number, number[]>();
  protected now = 1;
  private lastNumber = 0;

  constructor(readonly sizeBytes: number) {
    this.sectorCount = sizeBytes / sectorBytes;
    this.base = new Uint32Array(this.sectorCount);
    this.outstanding = new Uint32Array(this.sectorCount);
  }

  isFree(first: number, count: number): boolean {
    return this.outstanding.subarray(first, first + count).every((number) => number === 0);
  }

  begin(first: number, count: number): number {
    assert(this.isFree(first, count), 'two writes of one sector at once have no defined order');
    const number = (this.lastNumber += 1);
    this.writes.set(number, { number, first, count, issued: this.now++, answered: Infinity, forced: false });
    this.outstanding.fill(number, first, first + count);
    for (let sector = first; sector < first + count; sector += 1) {
      const numbers = this.history.get(sector);
      if (numbers === undefined) this.history.set(sector, [number]);
      else numbers.push(number);
    }
    return number;
  }

  protected answer(first: number, count: number): Write {
    const write = this.writes.get(this.outstanding[first] ?? 0);
    assert(write !== undefined && write.count === count, 'only what was begun is acknowledged');
    write.answered = this.now++;
    this.outstanding.fill(0, first, first + count);
    return write;
  }

  /** The writes that may have made this content of a sector, ascending. */
  protected candidates(sector: number, content: Uint8Array): number[] {
    const possible = [this.base[sector] ?? 0, ...(this.history.get(sector) ?? [])];
    const zeros = content.every((byte) => byte === 0);
    const stated = new DataView(content.buffer, content.byteOffset).getUint32(4, true);
    const expected = Buffer.alloc(sectorBytes);
    return possible.filter((number) => {
      if (number === 0 || isZeroWrite(number)) return zeros;
      if (zeros || number !== stated) return false;
      fillSector(expected, sector, number);
      return expected.equals(content);
    });
  }
}
