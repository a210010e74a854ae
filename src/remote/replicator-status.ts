/** What a replicator reports: counters of this life, the upload rate over a window, and why it is blocked. */
import type { GatewayError } from '../base/errors.js';
import type { Clock } from '../ports/clock.js';
import type { ReplicationMode, ReplicationStatus } from '../ports/replication.js';
import type { RemoteTally } from './remote-tally.js';
import type { RetryObserver } from './replicator-retry.js';
import type { ChainPoint } from './segment-point.js';
import type { StoreCounters } from './store-observe.js';

const RATE_WINDOW_MS = 10_000;
const RATE_SAMPLES_MAX = 64;
/** One failure is noise; from here on the mode is blocked. */
const FAILURES_BLOCKED = 2;

export class ReplicatorStatus implements RetryObserver {
  readonly #clock: Clock;
  readonly #counters: StoreCounters;
  readonly #tally: () => RemoteTally | undefined;
  readonly #changed: () => void;
  readonly #samples: { readonly atMs: number; readonly bytes: number }[] = [];
  /** Calls that fail at the moment, and why. */
  readonly #failing = new Map<string, string>();
  coalescedBytes = 0;
  compactionBytes = 0;
  /** By the segment table, while nothing was counted. */
  remoteObjects = 0;
  remoteBytes = 0;
  remoteLiveBytes = 0;
  busy = false;
  /** While the log does not hold what the bucket lacks: whether a round is under way. */
  tracking: 'tracking' | 'resyncing' | undefined;
  /** Final: fenced or refused. */
  ended: { readonly mode: 'blocked' | 'off'; readonly reason: string } | undefined;
  recoveryPoint: ChainPoint | undefined;

  constructor(options: {
    readonly clock: Clock;
    readonly counters: StoreCounters;
    readonly tally: () => RemoteTally | undefined;
    readonly changed: () => void;
  }) {
    this.#clock = options.clock;
    this.#counters = options.counters;
    this.#tally = options.tally;
    this.#changed = options.changed;
  }

  failed(what: string, error: GatewayError, consecutive: number): void {
    if (consecutive < FAILURES_BLOCKED) return;
    this.#failing.set(what, error.message);
    this.#changed();
  }

  recovered(what: string): void {
    if (this.#failing.delete(what)) this.#changed();
  }

  /** Whether the reported upload rate is above what the last report showed to be over. */
  get rateDecays(): boolean {
    return this.#samples.length > 1;
  }

  /** A snapshot. */
  report(): ReplicationStatus {
    const counters = this.#counters;
    const point = this.recoveryPoint;
    const tally = this.#tally();
    const reason = this.ended?.reason ?? [...this.#failing.values()].at(-1);
    return {
      mode: this.#mode(),
      recoveryPoint: point && { lsn: point.lsn, segment: point.number, epoch: point.epoch, timeMs: point.wallMs },
      uploadedBytes: counters.uploadedBytes,
      coalescedBytes: this.coalescedBytes,
      compactionBytes: this.compactionBytes,
      uploadRequests: { ...counters.uploadRequests },
      uploadBytesPerSecond: this.#rate(),
      storeErrors: { ...counters.errors },
      remoteObjects: tally?.objects ?? this.remoteObjects,
      remoteBytes: tally?.bytes ?? this.remoteBytes,
      remoteLiveBytes: this.remoteLiveBytes,
      reason,
    };
  }

  #mode(): ReplicationMode {
    if (this.ended !== undefined) return this.ended.mode;
    // That the store does not answer is the reason that comes along.
    if (this.tracking !== undefined) return this.#failing.size > 0 ? 'tracking' : this.tracking;
    if (this.#failing.size > 0) return 'blocked';
    return this.busy ? 'draining' : 'idle';
  }

  /** Bytes per second over the window: now less its oldest sample. */
  #rate(): number {
    const atMs = this.#clock.nowMs();
    const bytes = this.#counters.uploadedBytes;
    const samples = this.#samples;
    while (samples.length > 0 && (samples[0]?.atMs ?? 0) < atMs - RATE_WINDOW_MS) samples.shift();
    if (samples.length === RATE_SAMPLES_MAX) samples.splice(1, 1);
    const oldest = samples[0];
    if (oldest === undefined || samples.at(-1)?.bytes !== bytes) samples.push({ atMs, bytes });
    if (oldest === undefined) return 0;
    const seconds = Math.max(1, (atMs - oldest.atMs) / 1000);
    return (bytes - oldest.bytes) / seconds;
  }
}
