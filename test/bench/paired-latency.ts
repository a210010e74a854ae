/**
 * Latencies of requests, 4 KiB at depth 8, in two states of a gateway that alternate every few tenths of a second on one
 * connection: what else goes on in the machine then falls on both alike. What is under way while the state changes counts
 * for neither.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from '../crash/nbd-client.js';

const blockBytes = 4096;
const depth = 8;
const measuredMs = 300;

export interface PairedOptions {
  readonly address: number;
  readonly exportName: string;
  readonly writes: boolean;
  /** Bring the states about; resolve once they hold. */
  readonly enter: (state: 'without' | 'with') => Promise<void>;
  /** After each state `with`: whether it held all the time, and whether there is another pair to measure. */
  readonly held: () => Promise<{ readonly counts: boolean; readonly goesOn: boolean }>;
}

export class PairedLatency {
  /** In microseconds. */
  readonly all: Readonly<Record<'without' | 'with', number[]>> = { without: [], with: [] };
  /** Of each pair, the 99th percentiles. */
  readonly pairs: { readonly without: number; readonly with: number }[] = [];

  /** Pairs of states, one after another. */
  async measure(options: PairedOptions): Promise<void> {
    const { address, exportName, writes, enter, held } = options;
    const client = await NbdClient.connect(address, exportName);
    const payload = randomBytes(blockBytes);
    const blocks = Math.floor(client.sizeBytes / blockBytes);
    let record: number[] | undefined;
    let ended = false;
    const worker = async (): Promise<void> => {
      while (!ended) {
        const offset = Math.floor(Math.random() * blocks) * blockBytes;
        const [into, began] = [record, performance.now()];
        if (writes) await client.write(offset, payload);
        else await client.read(offset, blockBytes);
        if (into !== undefined && into === record) into.push((performance.now() - began) * 1000);
      }
    };
    const workers = Array.from({ length: depth }, worker);
    const sample = async (state: 'without' | 'with'): Promise<number[]> => {
      await enter(state);
      const samples: number[] = [];
      record = samples;
      await delay(measuredMs);
      record = undefined;
      return samples;
    };
    try {
      for (;;) {
        const without = await sample('without');
        const during = await sample('with');
        const { counts, goesOn } = await held();
        if (!goesOn) return;
        if (!counts) continue;
        this.all.without.push(...without);
        this.all.with.push(...during);
        this.pairs.push({ without: percentile(without, 0.99), with: percentile(during, 0.99) });
      }
    } finally {
      ended = true;
      await Promise.all(workers);
      await client.close();
    }
  }
}

export function percentile(samples: readonly number[], fraction: number): number {
  const sorted = Float64Array.from(samples).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? 0;
}
