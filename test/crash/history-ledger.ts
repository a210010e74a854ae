/**
 * What a restore from the bucket may give while a load goes on (P2): a prefix of the acknowledged order, as far as the
 * client can know that order, and never an older one than an earlier restore gave.
 *
 * As in power-ledger.ts: when a write is found, everything is there whose answer came before that write was issued. But
 * nothing is forgotten by a judgement, since the load goes on; only what every later restore must hold is folded into
 * the base.
 */
import assert from 'node:assert/strict';
import { describeSector, sectorBytes, type WriteLedger } from './ledger.js';
import { WriteHistory } from './write-history.js';

const linesMax = 8;

export class HistoryLedger extends WriteHistory implements WriteLedger {
  /** What was answered before it, a later restore holds. */
  private floor = 0;

  acknowledge(first: number, count: number): void {
    this.answer(first, count);
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
        wrong.push(`sector ${sector} holds ${describeSector(content)}, which it must not hold any more, or never held`);
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
    const folded = new Set<number>();
    for (const write of this.writes.values()) {
      if (write.answered >= horizon) continue;
      for (let sector = write.first; sector < write.first + write.count; sector += 1) {
        if ((this.base[sector] ?? 0) >= write.number) continue;
        this.base[sector] = write.number;
        folded.add(sector);
      }
      this.writes.delete(write.number);
    }
    for (const sector of folded) {
      const base = this.base[sector] ?? 0;
      const numbers = this.history.get(sector)?.filter((number) => number > base) ?? [];
      if (numbers.length === 0) this.history.delete(sector);
      else this.history.set(sector, numbers);
    }
  }
}
