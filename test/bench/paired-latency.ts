/**
 * Latencies of requests, 4 KiB at depth 8, in two states of a gateway that alternate every few tenths of a second on one
 * connection: what else goes on in the machine then falls on both alike. What is under way while the state changes counts
 * for neither. The client is fio: one in JavaScript collects its garbage on the gateway's processors, and measures that.
 */
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { requiredTool } from '../tool/clients.js';
import { startService } from '../tool/process.js';

const measuredMs = 300;
const runtimeMaxSeconds = 600;

export interface PairedOptions {
  readonly uri: string;
  readonly writes: boolean;
  /** Bring the states about; resolve once they hold. */
  readonly enter: (state: 'without' | 'with') => Promise<void>;
  /** After each state `with`: whether it held all the time, and whether there is another pair to measure. */
  readonly held: () => Promise<{ readonly counts: boolean; readonly goesOn: boolean }>;
}

/** Milliseconds since 1970. */
interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

export class PairedLatency {
  /** In microseconds. */
  readonly all: Readonly<Record<'without' | 'with', number[]>> = { without: [], with: [] };
  /** Of each pair, the 99th percentiles. */
  readonly pairs: { readonly without: number; readonly with: number }[] = [];

  /** Pairs of states, one after another. */
  async measure(options: PairedOptions): Promise<void> {
    const { uri, writes, enter, held } = options;
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-latency-'));
    const client = startService(
      requiredTool('fio'),
      [
        ...['--name=latency', '--ioengine=nbd', `--uri=${uri}`, `--rw=${writes ? 'randwrite' : 'randread'}`],
        ...['--bs=4096', '--iodepth=8', '--randrepeat=0', '--time_based', `--runtime=${runtimeMaxSeconds}`],
        ...['--write_lat_log=latency', '--log_unix_epoch=1', '--log_entries=1048576'],
      ],
      { cwd: folder },
    );
    const spanOf = async (state: 'without' | 'with'): Promise<Span> => {
      await enter(state);
      const fromMs = Date.now();
      await delay(measuredMs);
      return { fromMs, toMs: Date.now() };
    };
    const spans: { readonly without: Span; readonly with: Span }[] = [];
    try {
      for (;;) {
        const pair = { without: await spanOf('without'), with: await spanOf('with') };
        const { counts, goesOn } = await held();
        if (!goesOn) break;
        if (counts) spans.push(pair);
      }
      client.signal('SIGINT'); // It writes its log, and ends.
      await client.ended;
      const samples = await readLatencyLog(join(folder, 'latency_lat.1.log'));
      for (const pair of spans) {
        const without = within(samples, pair.without);
        const during = within(samples, pair.with);
        if (without.length === 0 || during.length === 0)
          throw new Error(`no requests were answered\n${client.output()}`);
        for (const sample of without) this.all.without.push(sample);
        for (const sample of during) this.all.with.push(sample);
        this.pairs.push({ without: percentile(without, 0.99), with: percentile(during, 0.99) });
      }
    } finally {
      client.signal('SIGKILL');
      await client.ended;
      await rm(folder, { recursive: true, force: true });
    }
  }
}

interface Samples {
  /** When each request was answered, in milliseconds since 1970. */
  readonly atMs: readonly number[];
  readonly micros: readonly number[];
}

/** "answered (ms), latency (ns), direction, bytes, offset, priority", a line each. */
async function readLatencyLog(path: string): Promise<Samples> {
  const [atMs, micros]: [number[], number[]] = [[], []];
  const file = await open(path);
  for await (const line of file.readLines()) {
    const [at = '', nanos = ''] = line.split(', ', 2);
    atMs.push(Number(at));
    micros.push(Number(nanos) / 1000);
  }
  return { atMs, micros };
}

/** Those that were asked and answered in it. */
function within({ atMs, micros }: Samples, { fromMs, toMs }: Span): number[] {
  return micros.filter((latency, at) => {
    const answeredMs = atMs[at] ?? 0;
    return answeredMs < toMs && answeredMs - latency / 1000 >= fromMs;
  });
}

export function percentile(samples: readonly number[], fraction: number): number {
  const sorted = Float64Array.from(samples).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? 0;
}
