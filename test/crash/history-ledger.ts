/**
 * What a restore from the bucket may give while a load goes on (P2): a prefix of the acknowledged order, as far as the
 * client can know that order, and never an older one than an earlier restore gave.
 *
 * As in power-ledger.ts: when a write is found, everything is there whose answer came before that write was issued. But
 * nothing is forgotten by a judgement, since the load goes on; only what every later restore must hold is folded into
 * the base.
 */
import assert from 'node:assert/strict';
import { fillSector, isZeroWrite, sectorBytes, type WriteLedger } from './ledger.js';

interface Write {
  readonly number: number;
  readonly first: number;
  readonly count: number;
  readonly issued: number;
  /** Infinity: outstanding. */
  answered: number;
}

const linesMax = 8;

export class HistoryLedger implements WriteLedger {
  readonly sectorCount: number;
  private readonly outstanding: Uint32Array;
  /** The oldest write that each sector may hold; 0: none. */
  private readonly base: Uint32Array;
  private readonly history = new Map<number, number[]>();
  private readonly writes = new Map<number, Write>();
  private lastNumber = 0;
  private now = 1;
  /** What was answered before it, a later restore holds. */
  private floor = 0;

  constructor(readonly sizeBytes: number) {
    this.sectorCount = sizeBytes / sectorBytes;
    this.outstanding = new Uint32Array(this.sectorCount);
    this.base = new Uint32Array(this.sectorCount);
  }

  isFree(first: number, count: number): boolean {
    return this.outstanding.subarray(first, first + count).every((number) => number === 0);
  }

  begin(first: number, count: number): number {
    assert(this.isFree(first, count), 'two writes of one sector at once have no defined order');
    const number = (this.lastNumber += 1);
    this.writes.set(number, { number, first, count, issued: this.now++, answered: Infinity });
    this.outstanding.fill(number, first, first + count);
    for (let sector = first; sector < first + count; sector += 1) {
      const numbers = this.history.get(sector);
      if (numbers === undefined) this.history.set(sector, [number]);
      else numbers.push(number);
    }
    return number;
  }

  acknowledge(first: number, count: number): void {
    const write = this.writes.get(this.outstanding[first] ?? 0);
    assert(write !== undefined && write.count === count, 'only what was begun is acknowledged');
    write.answered = this.now++;
    this.outstanding.fill(0, first, first + count);
  }

  beginFlush(): number {
    return 0;
  }

  acknowledgeFlush(): void {
    // What is flushed is durable here, not there.
  }

  /** From now on every restore must hold what is answered now: everything was drained. */
  drained(): void {
    this.floor = this.now;
  }

  /** Of the writes that were answered until now: how many are not yet known to be in the bucket. */
  get open(): number {
    return this.writes.size;
  }

  /** Judges a whole restored volume. Returns one line for each broken rule, a few at most. */
  judge(contents: Uint8Array): string[] {
    assert(contents.length === this.sizeBytes, 'a whole volume is judged');
    const wrong: string[] = [];
    const found = new Uint32Array(this.sectorCount);
    let horizon = this.floor;
    for (let sector = 0; sector < this.sectorCount; sector += 1) {
      const content = contents.subarray(sector * sectorBytes, (sector + 1) * sectorBytes);
      const candidates = this.candidates(sector, content);
      found[sector] = candidates.at(-1) ?? 0;
      if (candidates.length === 0) {
        wrong.push(`sector ${sector} holds ${describe(content)}, which it must not hold any more, or never held`);
      }
      const [only] = candidates;
      const survivor = candidates.length === 1 && only !== undefined ? this.writes.get(only) : undefined;
      if (survivor !== undefined) horizon = Math.max(horizon, survivor.issued);
    }
    for (const write of this.writes.values()) {
      if (write.answered >= horizon) continue;
      for (let sector = write.first; sector < write.first + write.count; sector += 1) {
        const holds = found[sector] ?? 0;
        if (holds >= write.number) continue;
        wrong.push(
          `sector ${sector} holds write ${holds}, but write ${write.number} was answered before one that is there was issued`,
        );
        break;
      }
    }
    if (wrong.length === 0) this.fold(horizon);
    return wrong.slice(0, linesMax);
  }

  private fold(horizon: number): void {
    this.floor = horizon;
    for (const write of this.writes.values()) {
      if (write.answered >= horizon) continue;
      for (let sector = write.first; sector < write.first + write.count; sector += 1) {
        if ((this.base[sector] ?? 0) >= write.number) continue;
        this.base[sector] = write.number;
        const numbers = this.history.get(sector)?.filter((number) => number > write.number) ?? [];
        if (numbers.length === 0) this.history.delete(sector);
        else this.history.set(sector, numbers);
      }
      this.writes.delete(write.number);
    }
  }

  /** The writes that may have made this content of a sector, ascending. */
  private candidates(sector: number, content: Uint8Array): number[] {
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

function describe(content: Uint8Array): string {
  if (content.every((byte) => byte === 0)) return 'zeros';
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  return `write ${view.getUint32(4, true)} of sector ${view.getUint32(0, true)}`;
}
