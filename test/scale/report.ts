/** What docs/scale.md shows of the simulation, as lines of text: the same for the same seed, everywhere. */
import { GIB } from '../../src/base/units.js';
import { costOf, priceTable } from '../../src/cli/store-cost.js';
import { dailyPuts, dailyRequests, startRequests, STORED_SHARE_MAX } from '../../src/cli/store-requests.js';
import { SeededRandom } from '../fake/random.js';
import { busyHour, classes, peakOf, restoreStorm, startStorm } from './fleet.js';

/** Amazon's "Best practices design patterns: optimizing Amazon S3 performance", for one partition of a bucket. */
export const amazonPartition = { writesPerSecond: 3500, readsPerSecond: 5500 } as const;
export const fleetSizes = [1, 10, 100, 1000, 10_000] as const;
const GIGABIT = 125_000_000;

export function report(seed: number): string[] {
  return [...oneVolume(), '', ...busy(seed), '', ...starts(seed), '', ...restores(seed), '', ...ownership()];
}

function oneVolume(): string[] {
  const rows = classes.map(({ name, load }) => {
    const day = dailyRequests(load);
    const cost = (prices: keyof typeof priceTable): string =>
      costOf({ prices: priceTable[prices], load, amplification: STORED_SHARE_MAX }).month.toFixed(2);
    return [
      name,
      gib(load.liveBytes),
      gib(load.changesBytesPerDay),
      number(day.segments),
      number(day.compacted),
      number(day.checkpoints),
      number(day.mapShards + day.tableShards),
      number(dailyPuts(day)),
      number(day.gets),
      number(day.deletes),
      gib(day.mapBytes),
      cost('s3-standard'),
      cost('r2'),
    ];
  });
  return table(
    'One volume, in a day; dollars in a month with Amazon S3 Standard and Cloudflare R2',
    [
      'class',
      'live GiB',
      'new GiB',
      'data',
      'compact',
      'checkp.',
      'shards',
      'PUT+LIST',
      'GET',
      'DELETE',
      'map GiB',
      'S3 $',
      'R2 $',
    ],
    rows,
  );
}

function busy(seed: number): string[] {
  const rows = fleetSizes.map((volumes) => {
    const seconds = busyHour(volumes, new SeededRandom(seed));
    const writes = peakOf(seconds.writes);
    const reads = peakOf(seconds.reads);
    return [
      number(volumes),
      rate(writes.mean),
      number(writes.most),
      rate(reads.mean),
      number(reads.most),
      share(writes.most, amazonPartition.writesPerSecond),
      share(reads.most, amazonPartition.readsPerSecond),
    ];
  });
  return table(
    'A busy hour, requests a second: PUT and DELETE, GET and LIST; the busiest second as a share of one Amazon partition',
    ['gateways', 'P+D mean', 'most', 'G+L mean', 'most', 'of 3,500', 'of 5,500'],
    rows,
  );
}

function starts(seed: number): string[] {
  const rows = fleetSizes.map((volumes) => {
    const seconds = startStorm(volumes, 60, new SeededRandom(seed));
    const writes = peakOf(seconds.writes).most;
    const reads = peakOf(seconds.reads).most;
    return [
      number(volumes),
      number(writes),
      number(reads),
      share(writes, amazonPartition.writesPerSecond),
      share(reads, amazonPartition.readsPerSecond),
    ];
  });
  return table(
    'All start within a minute: the busiest second',
    ['gateways', 'PUT+DELETE', 'GET+LIST', 'of 3,500', 'of 5,500'],
    rows,
  );
}

function restores(seed: number): string[] {
  const rows = fleetSizes.map((volumes) => {
    const options = { lineBytesPerSecond: GIGABIT, getsPerSecond: amazonPartition.readsPerSecond };
    const storm = restoreStorm(volumes, options, new SeededRandom(seed));
    return [
      number(volumes),
      (storm.bytes / GIB / 1024).toFixed(2),
      number(storm.gets),
      number(storm.mostAtOnce),
      storm.hoursByLine.toFixed(1),
      storm.hoursByPartition.toFixed(1),
      number(Math.ceil(storm.hoursByPartition / storm.hoursByLine)),
    ];
  });
  return table(
    'All are restored elsewhere, begun within a minute, each gateway on a line of 1 Gbit/s',
    ['gateways', 'TiB', 'GETs', 'at once', 'h, lines', 'h, 1 part.', 'partitions'],
    rows,
  );
}

function ownership(): string[] {
  const start = startRequests({ segmentsSinceCheckpoint: 0, objects: 1000 });
  return table(
    'Ownership: requests of one start of one volume; nothing while it runs',
    ['PUT', 'GET', 'LIST', 'DELETE'],
    [[number(start.puts), number(start.gets), number(start.lists), number(start.deletes)]],
  );
}

function table(title: string, head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = head.map((cell, column) => Math.max(cell.length, ...rows.map((row) => (row[column] ?? '').length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        return column === 0 ? cell.padEnd(width) : cell.padStart(width);
      })
      .join('  ')
      .trimEnd();
  return [title, line(head), ...rows.map(line)];
}

const number = (value: number): string => Math.round(value).toLocaleString('en-US');
const gib = (bytes: number): string => Number((bytes / GIB).toPrecision(2)).toString();
const rate = (value: number): string => (value < 10 ? value.toFixed(2) : number(value));
const share = (value: number, limit: number): string => `${((100 * value) / limit).toFixed(1)} %`;
