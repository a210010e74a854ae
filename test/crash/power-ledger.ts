/**
 * What a volume may hold after a power loss (P1), as far as its client can know it.
 *
 * Every request has a moment at which it was issued and, if it was, one at which its answer came. The volume must be a
 * prefix of the order of writes: so, when any write survived, everything does whose answer came before that write was
 * issued. And the prefix holds what was answered before an answered flush was issued, and every answered FUA write.
 *
 *   horizon = the latest moment of issue among: answered flushes, answered FUA writes, writes found on the volume
 *   each sector holds a version that was written to it, and none older than
 *     the newest one that was answered before the horizon, the newest answered FUA write, and the newest write that
 *     was found on another of its sectors (a write is one record; not so one of zeros, whose ends may be records of their own)
 */
import { statedWrite, isZeroWrite, sectorBytes, type WriteLedger } from './ledger.js';
import { WriteHistory, type Write } from './write-history.js';

const linesMax = 8;

export class PowerLedger extends WriteHistory implements WriteLedger {
  private horizon = 0;
  private forcedOrFlushed = 0;

  acknowledge(first: number, count: number, forced: boolean): void {
    const write = this.answer(first, count);
    write.forced = forced;
    if (forced) this.reach(write.issued);
  }

  beginFlush(): number {
    return this.now++;
  }

  acknowledgeFlush(begun: number): void {
    this.reach(begun);
  }

  /** How many flushes and FUA writes were answered since the last verification. */
  get durablePoints(): number {
    return this.forcedOrFlushed;
  }

  private reach(moment: number): void {
    this.forcedOrFlushed += 1;
    this.horizon = Math.max(this.horizon, moment);
  }

  /**
   * Compares the whole volume, after a power loss and a start. What was found is then what counts, and is durable: a
   * gateway makes it so before it serves. Returns one line for each broken rule, a few at most.
   */
  verify(contents: Uint8Array): string[] {
    const wrong: string[] = [];
    const found = new Uint32Array(this.sectorCount);
    const survivors = new Set<number>();
    for (let sector = 0; sector < this.sectorCount; sector += 1) {
      const content = contents.subarray(sector * sectorBytes, (sector + 1) * sectorBytes);
      const candidates = this.candidates(sector, content);
      found[sector] = candidates.at(-1) ?? 0;
      if (candidates.length === 0)
        wrong.push(`sector ${sector} holds ${statedWrite(content)}, which was never written to it`);
      const [only] = candidates;
      if (candidates.length === 1 && only !== undefined && this.writes.has(only)) survivors.add(only);
    }
    for (const number of survivors) this.horizon = Math.max(this.horizon, this.writes.get(number)?.issued ?? 0);
    for (const write of this.writes.values()) {
      const reason = this.reasonToBeThere(write, survivors);
      if (reason === undefined) continue;
      for (let sector = write.first; sector < write.first + write.count; sector += 1) {
        const holds = found[sector] ?? 0;
        if (holds >= write.number) continue;
        wrong.push(`sector ${sector} holds write ${holds}, but write ${write.number} ${reason}`);
        break;
      }
    }
    this.base.set(found);
    this.outstanding.fill(0);
    this.writes.clear();
    this.history.clear();
    this.horizon = 0;
    this.forcedOrFlushed = 0;
    return wrong.slice(0, linesMax);
  }

  private reasonToBeThere(write: Write, survivors: ReadonlySet<number>): string | undefined {
    if (write.forced) return 'was forced and answered';
    if (write.answered < this.horizon)
      return 'was answered before a flush, or before a write that survived, was issued';
    if (survivors.has(write.number) && !isZeroWrite(write.number)) return 'stands on another of its sectors';
    return undefined;
  }
}
