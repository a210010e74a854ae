/**
 * Many gateways on one object store, second by second: how often their requests meet. What one volume asks for comes
 * from the model of `doctor --cost` (src/cli/store-requests.ts); here are only the moments, from a seed.
 */
import { GIB } from '../../src/base/units.js';
import { limits } from '../../src/base/limits.js';
import { dailyRequests, objectsOf, restoreRequests, startRequests } from '../../src/cli/store-requests.js';
import type { DailyRequests, VolumeLoad } from '../../src/cli/store-requests.js';
import { SeededRandom } from '../fake/random.js';

export interface VolumeClass {
  readonly name: string;
  /** Of all volumes. */
  readonly share: number;
  readonly load: VolumeLoad;
}

const usual = { objectBytes: limits.segmentBytesDefault, intervalSeconds: 10 };

/** One volume for each gateway. */
export const classes: readonly VolumeClass[] = [
  {
    name: 'quiet',
    share: 0.6,
    load: { ...usual, liveBytes: 20 * GIB, changesBytesPerDay: GIB / 2, writesPerDay: 8640, spreadBytes: 2 * GIB },
  },
  {
    name: 'office',
    share: 0.3,
    load: {
      ...usual,
      liveBytes: 100 * GIB,
      changesBytesPerDay: 5 * GIB,
      writesPerDay: 36_000,
      activeSeconds: 36_000,
      spreadBytes: 20 * GIB,
    },
  },
  {
    name: 'database',
    share: 0.1,
    load: { ...usual, liveBytes: 200 * GIB, changesBytesPerDay: 50 * GIB, spreadBytes: 100 * GIB },
  },
];

/** Requests in each second, of the two kinds that Amazon's limits name. */
export class Seconds {
  /** PUT and DELETE. */
  readonly writes: Uint32Array;
  /** GET, and LIST, of which the limits say nothing. */
  readonly reads: Uint32Array;

  constructor(seconds: number) {
    this.writes = new Uint32Array(seconds);
    this.reads = new Uint32Array(seconds);
  }

  write(atSecond: number, count = 1): void {
    add(this.writes, atSecond, count);
  }

  read(atSecond: number, count = 1): void {
    add(this.reads, atSecond, count);
  }
}

function add(counts: Uint32Array, atSecond: number, count: number): void {
  const second = Math.floor(atSecond);
  if (second >= 0 && second < counts.length) counts[second] = (counts[second] ?? 0) + count;
}

export interface Peak {
  readonly mean: number;
  readonly most: number;
}

export function peakOf(counts: Uint32Array): Peak {
  let sum = 0;
  let most = 0;
  for (const count of counts) {
    sum += count;
    most = Math.max(most, count);
  }
  return { mean: sum / counts.length, most };
}

/** Of volume number `at` of `count`: the same mix whatever their number is. */
export function classOf(at: number, count: number): VolumeClass {
  const place = (at + 0.5) / count;
  let end = 0;
  for (const each of classes) {
    end += each.share;
    if (place < end) return each;
  }
  return classes.at(-1) ?? assertSome();
}

function assertSome(): never {
  throw new Error('there are classes');
}

const HOUR = 3600;

/** An hour of the working day, in which every volume is active. */
export function busyHour(volumes: number, random: SeededRandom): Seconds {
  const seconds = new Seconds(HOUR);
  for (let at = 0; at < volumes; at++) volumeHour(classOf(at, volumes).load, seconds, random);
  return seconds;
}

function volumeHour(load: VolumeLoad, seconds: Seconds, random: SeededRandom): void {
  const day = dailyRequests(load);
  const { activeSeconds = 86_400 } = load;
  const every = (count: number): number => activeSeconds / count;
  const gap = every(day.segments) - load.intervalSeconds;
  for (let at = random.fraction() * every(day.segments); at < HOUR;) {
    seconds.write(at);
    at += Math.max(0, gap) > 0 ? load.intervalSeconds + exponential(gap, random) : every(day.segments);
  }
  for (let at = exponential(every(day.compacted), random); at < HOUR; at += exponential(every(day.compacted), random))
    seconds.write(at);
  housekeeping(day, every(day.checkpoints), seconds, random);
}

/** A checkpoint's shards and root go one after the other; two minutes later what it made unneeded is deleted, 8 at a time. */
function housekeeping(day: DailyRequests, everySeconds: number, seconds: Seconds, random: SeededRandom): void {
  const puts = 1 + (day.mapShards + day.tableShards) / day.checkpoints;
  const gets = day.gets / day.checkpoints;
  const deletes = day.deletes / day.checkpoints;
  const phase = random.fraction() * everySeconds;
  for (let begin = phase - everySeconds; begin < HOUR; begin += everySeconds) {
    spread(puts, requestsInSequence, (at, count) => seconds.write(begin + at, count));
    spread(gets, requestsInSequence, (at, count) => seconds.read(begin + at, count));
    seconds.read(begin + 120, 2);
    spread(deletes, 8 * requestsInSequence, (at, count) => seconds.write(begin + 120 + at, count));
  }
}

/** Answers take 50 ms: so many requests of a second, one after the other. */
const requestsInSequence = 20;

function spread(count: number, perSecond: number, each: (atSecond: number, count: number) => void): void {
  let left = Math.round(count);
  for (let second = 0; left > 0; second++) {
    const now = Math.min(left, perSecond);
    each(second, now);
    left -= now;
  }
}

function exponential(mean: number, random: SeededRandom): number {
  return -Math.log(1 - random.fraction()) * mean;
}

/** Power is back: every gateway starts within so many seconds, and is written at once. */
export function startStorm(volumes: number, withinSeconds: number, random: SeededRandom): Seconds {
  const seconds = new Seconds(withinSeconds + 900);
  for (let at = 0; at < volumes; at++) {
    const { load } = classOf(at, volumes);
    const day = dailyRequests(load);
    // A gateway that died has half of what lies between two checkpoints to read again.
    const segmentsSinceCheckpoint = Math.round((day.segments + day.compacted) / day.checkpoints / 2);
    const start = startRequests({ segmentsSinceCheckpoint, objects: objectsOf(load) });
    const begin = random.fraction() * withinSeconds;
    // The probe's PUTs race each other.
    seconds.write(begin, start.puts + start.deletes);
    spread(start.gets, requestsInSequence, (second, count) => seconds.read(begin + 1 + second, count));
    // All but the first few list what deletion looks through, after the first checkpoint.
    seconds.read(begin, 7);
    spread(start.lists - 7, requestsInSequence, (second, count) => seconds.read(begin + 600 + second, count));
  }
  return seconds;
}

export interface RestoreStorm {
  readonly bytes: number;
  readonly gets: number;
  /** Until the last volume is whole, where each gateway has a line of its own, and Amazon's limit of one partition holds. */
  readonly hoursByLine: number;
  readonly hoursByPartition: number;
  /** Requests of the second in which the most begin, before anything is served. */
  readonly mostAtOnce: number;
}

/** A site is gone: all of its volumes are restored elsewhere, begun within a minute. */
export function restoreStorm(
  volumes: number,
  options: { readonly lineBytesPerSecond: number; readonly getsPerSecond: number },
  random: SeededRandom,
): RestoreStorm {
  const begins = new Seconds(120);
  let bytes = 0;
  let gets = 0;
  let longestSeconds = 0;
  for (let at = 0; at < volumes; at++) {
    const { load } = classOf(at, volumes);
    const each = restoreRequests({ segments: objectsOf(load), mapShards: Math.ceil(load.liveBytes / (GIB / 8)) });
    bytes += load.liveBytes;
    gets += each.gets;
    // Four lanes, whose answers take 50 ms.
    const seconds = Math.max(load.liveBytes / options.lineBytesPerSecond, each.gets / (4 * requestsInSequence));
    longestSeconds = Math.max(longestSeconds, seconds);
    begins.read(random.fraction() * 60, 4 + 3);
  }
  return {
    bytes,
    gets,
    hoursByLine: longestSeconds / HOUR,
    hoursByPartition: gets / options.getsPerSecond / HOUR,
    mostAtOnce: peakOf(begins.reads).most,
  };
}
