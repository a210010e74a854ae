/**
 * The last hour of each volume in steps of ten seconds: what the status page plots, and nothing to alert on (that is
 * Prometheus's). A ring per volume, so its memory is bounded; it begins anew with the process.
 */
import { ioOps } from '../base/io-stats.js';
import type { IoOp, IoStats } from '../base/io-stats.js';
import { limits } from '../base/limits.js';
import type { Clock, Timer } from '../ports/clock.js';
import { frontendNames } from './source.js';
import type { MeteredVolume } from './source.js';

export const rateFields = [
  'readBytesPerSecond',
  'writeBytesPerSecond',
  'operationsPerSecond',
  'uploadBytesPerSecond',
  'lagSeconds',
  'bufferUsedBytes',
] as const;
export type RateField = (typeof rateFields)[number];

export function perRateField<V>(value: (field: RateField) => V): Record<RateField, V> {
  return Object.fromEntries(rateFields.map((field) => [field, value(field)])) as Record<RateField, V>;
}

export type RateSample = Readonly<Record<RateField, number>>;

/** Columns, oldest first, one value per interval that ends at `lastMs`; null where the gateway could not look. */
export type RateColumns = Readonly<Record<RateField, readonly (number | null)[]>>;

interface Counters {
  readonly atMs: number;
  readonly read: number;
  readonly written: number;
  readonly operations: number;
  readonly uploaded: number;
}

/** Slots of one volume; `next` is where the following sample goes. */
class Ring {
  readonly #slots = new Float64Array(limits.rateSamplesMax * rateFields.length);
  #next = 0;
  #count = 0;

  push(sample: RateSample | undefined): void {
    for (const [index, field] of rateFields.entries()) {
      this.#slots[this.#next * rateFields.length + index] = sample === undefined ? NaN : sample[field];
    }
    this.#next = (this.#next + 1) % limits.rateSamplesMax;
    this.#count = Math.min(limits.rateSamplesMax, this.#count + 1);
  }

  column(field: RateField): (number | null)[] {
    const index = rateFields.indexOf(field);
    const first = this.#next - this.#count + limits.rateSamplesMax;
    return Array.from({ length: this.#count }, (_, at) => {
      const slot = (first + at) % limits.rateSamplesMax;
      const value = this.#slots[slot * rateFields.length + index] ?? NaN;
      return Number.isNaN(value) ? null : value;
    });
  }
}

interface Series {
  readonly ring: Ring;
  counters: Counters;
  last: RateSample | undefined;
}

export class RateHistory {
  readonly #clock: Clock;
  readonly #volumes: () => readonly MeteredVolume[];
  readonly #series = new Map<string, Series>();
  #timer: Timer | undefined;
  #lastWallMs = 0;

  constructor(options: { readonly clock: Clock; readonly volumes: () => readonly MeteredVolume[] }) {
    this.#clock = options.clock;
    this.#volumes = options.volumes;
  }

  start(): void {
    this.#look();
    this.#wait();
  }

  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** undefined: no volume of that name has been seen. Milliseconds since 1970, of the newest sample. */
  columns(volume: string): { readonly lastMs: number; readonly columns: RateColumns } | undefined {
    const series = this.#series.get(volume);
    if (series === undefined) return undefined;
    return { lastMs: this.#lastWallMs, columns: perRateField((field) => series.ring.column(field)) };
  }

  /** The newest sample of every volume that has one. */
  newest(): readonly { readonly volume: string; readonly lastMs: number; readonly sample: RateSample }[] {
    return [...this.#series].flatMap(([volume, { last }]) =>
      last === undefined ? [] : [{ volume, lastMs: this.#lastWallMs, sample: last }],
    );
  }

  #wait(): void {
    this.#timer = this.#clock.after(limits.rateIntervalMs, () => {
      this.#look();
      this.#wait();
    });
  }

  #look(): void {
    const atMs = this.#clock.nowMs();
    this.#lastWallMs = this.#clock.wallMs();
    const volumes = this.#volumes();
    const there = new Set(volumes.map(({ status }) => status.name));
    for (const name of this.#series.keys()) if (!there.has(name)) this.#series.delete(name);
    for (const volume of volumes) {
      const { name } = volume.status;
      const counters = countersOf(volume, atMs);
      const series = this.#series.get(name);
      if (series === undefined) this.#series.set(name, { ring: new Ring(), counters, last: undefined });
      else addSample(series, volume, counters);
    }
  }
}

/** Intervals in which the process did not run leave a gap rather than a wrong place in time. */
function addSample(series: Series, { status, lagSeconds }: MeteredVolume, counters: Counters): void {
  const { counters: before } = series;
  const elapsedMs = counters.atMs - before.atMs;
  if (elapsedMs <= 0) return;
  const missed = Math.min(limits.rateSamplesMax, Math.round(elapsedMs / limits.rateIntervalMs) - 1);
  for (let slot = 0; slot < missed; slot++) series.ring.push(undefined);
  // A replication thread that was made anew counts from zero.
  const rate = (key: Exclude<keyof Counters, 'atMs'>): number =>
    Math.round((Math.max(0, counters[key] - before[key]) * 1000) / elapsedMs);
  const sample: RateSample = {
    readBytesPerSecond: rate('read'),
    writeBytesPerSecond: rate('written'),
    operationsPerSecond: rate('operations'),
    uploadBytesPerSecond: rate('uploaded'),
    lagSeconds: status.replication === undefined ? 0 : Math.round(lagSeconds * 10) / 10,
    bufferUsedBytes: status.bufferUsedBytes,
  };
  series.ring.push(sample);
  series.counters = counters;
  series.last = sample;
}

function countersOf({ stats, status }: MeteredVolume, atMs: number): Counters {
  const sum = (of: (stats: IoStats) => number): number =>
    frontendNames.reduce((total, frontend) => total + of(stats[frontend]), 0);
  const bytes = (op: IoOp): number => sum((each) => each.bytes[ioOps.indexOf(op)] ?? 0);
  return {
    atMs,
    read: bytes('read'),
    written: bytes('write'),
    operations: sum((each) => each.operations.reduce((total, count) => total + count, 0)),
    uploaded: status.replication?.uploadedBytes ?? 0,
  };
}
