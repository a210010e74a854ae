/**
 * `keepgate doctor --cost`: what a bucket costs in a month. List prices in US dollars, before tax, free tiers and volume
 * discounts, of the region or provider that is named; a flag replaces each of them. The only place with prices in it.
 */
import { GatewayError } from '../base/errors.js';
import { GIB, KIB, MIB } from '../base/units.js';
import type { Configuration } from '../config/configuration.js';
import { parseSize } from '../config/quantity.js';
import { WrongValue } from '../config/problem.js';
import { dailyPuts, dailyRequests, STORED_SHARE_MAX } from './store-requests.js';
import type { VolumeLoad } from './store-requests.js';
import type { Terminal } from './terminal.js';

/** Dollars; a GB is 10^9 bytes at some providers and 2^30 at others: taken as 2^30, which errs by 7 % at most. */
export interface Prices {
  readonly name: string;
  readonly storageGbMonth: number;
  readonly putThousand: number;
  readonly getThousand: number;
  /** Reading a GB out of the class. */
  readonly retrievalGb: number;
  /** A GB that leaves the provider's network. */
  readonly trafficGb: number;
  /** An object is billed for so long at least. */
  readonly daysMin: number;
}

/** As the providers' public lists had them. */
export const pricesAsOf = '2026-08';
export const priceTable = {
  's3-standard': row('Amazon S3 Standard, us-east-1', 0.023, 0.005, 0.0004, 0, 0.09, 0),
  's3-standard-ia': row('Amazon S3 Standard-IA, us-east-1', 0.0125, 0.01, 0.001, 0.01, 0.09, 30),
  's3-glacier-ir': row('Amazon S3 Glacier Instant Retrieval, us-east-1', 0.004, 0.02, 0.01, 0.03, 0.09, 90),
  r2: row('Cloudflare R2', 0.015, 0.0045, 0.00036, 0, 0, 0),
} as const satisfies Record<string, Prices>;
export type PriceName = keyof typeof priceTable;

function row(
  name: string,
  storageGbMonth: number,
  putThousand: number,
  getThousand: number,
  retrievalGb: number,
  trafficGb: number,
  daysMin: number,
): Prices {
  return { name, storageGbMonth, putThousand, getThousand, retrievalGb, trafficGb, daysMin };
}

export interface CostFlags {
  readonly prices?: string;
  readonly stored?: string;
  readonly changes?: string;
  readonly objectSize?: string;
  readonly interval?: string;
  readonly storagePrice?: string;
  readonly putPrice?: string;
  readonly getPrice?: string;
  readonly trafficPrice?: string;
}

export interface CostCase {
  readonly prices: Prices;
  readonly load: VolumeLoad;
  /** Stored bytes for each live one: STORED_SHARE_MAX with compaction, in the worst case. */
  readonly amplification: number;
}

export interface Cost {
  /** And listings, which are billed as such. */
  readonly putsMonth: number;
  readonly getsMonth: number;
  /** Of both. */
  readonly requests: number;
  readonly storage: number;
  readonly month: number;
  /** One full restore. */
  readonly restore: number;
}

const daysPerMonth = 30;
const frameBytes = 256 * KIB;
/** Changes are taken to lie together, within so much at a time. */
const neighbourBytes = GIB;

export function costOf({ prices, load, amplification }: CostCase): Cost {
  const { liveBytes, changesBytesPerDay } = load;
  const day = dailyRequests(load);
  const putsMonth = Math.ceil(dailyPuts(day) * daysPerMonth);
  const getsMonth = Math.ceil(day.gets * daysPerMonth);
  const requests = (putsMonth / 1000) * prices.putThousand + (getsMonth / 1000) * prices.getThousand;
  // What is overwritten before the class's least time is billed until then.
  const heldBytes = changesBytesPerDay * prices.daysMin;
  const storage = ((liveBytes * amplification + heldBytes) / GIB) * prices.storageGbMonth;
  const gets = liveBytes / frameBytes;
  const restore = (gets / 1000) * prices.getThousand + (liveBytes / GIB) * (prices.retrievalGb + prices.trafficGb);
  return { putsMonth, getsMonth, requests, storage, month: requests + storage, restore };
}

const changesDefault = [GIB, 10 * GIB, 100 * GIB];
const objectsDefault = [MIB, 8 * MIB, 32 * MIB];

/** @throws GatewayError config-invalid for a flag that is wrong */
export function costLines(
  flags: CostFlags,
  configured: { readonly storedBytes: number; readonly objectBytes: number; readonly intervalSeconds: number },
): string[] {
  const prices = pricesOf(flags);
  const storedBytes = flags.stored === undefined ? configured.storedBytes : size('--stored', flags.stored);
  const intervalSeconds =
    flags.interval === undefined ? configured.intervalSeconds : positive('--interval', flags.interval);
  const changes = flags.changes === undefined ? changesDefault : [size('--changes', flags.changes)];
  const objects =
    flags.objectSize === undefined
      ? [...new Set([...objectsDefault, configured.objectBytes])].sort((left, right) => left - right)
      : [size('--object-size', flags.objectSize)];
  const loadOf = (changesBytesPerDay: number, objectBytes: number, spreadBytes = neighbourBytes): VolumeLoad => ({
    liveBytes: storedBytes,
    changesBytesPerDay,
    objectBytes,
    intervalSeconds,
    spreadBytes,
  });
  const lines = [
    `${prices.name}, prices of ${pricesAsOf}: $${prices.storageGbMonth} a GB and month, $${prices.putThousand} for 1,000 PUTs, $${prices.getThousand} for 1,000 GETs, $${prices.trafficGb} a GB of traffic`,
    `${gigabytes(storedBytes)} live, up to ${STORED_SHARE_MAX} times that stored while compaction is on; a group at least every ${intervalSeconds} s while anything is written`,
    'PUTs count listings, checkpoints, and compaction at its most',
    '',
    'changed a day   an object   PUTs a month   requests $   storage $   a month $',
  ];
  for (const changesBytesPerDay of changes) {
    for (const objectBytes of objects) {
      const cost = costOf({ prices, load: loadOf(changesBytesPerDay, objectBytes), amplification: STORED_SHARE_MAX });
      lines.push(
        [
          gigabytes(changesBytesPerDay).padEnd(13),
          `${Number((objectBytes / MIB).toPrecision(3))} MiB`.padStart(10),
          cost.putsMonth.toLocaleString('en-US').padStart(12),
          dollars(cost.requests).padStart(10),
          dollars(cost.storage).padStart(9),
          dollars(cost.month).padStart(9),
        ].join('   '),
      );
    }
  }
  const most = loadOf(Math.max(...changes), Math.max(...objects), storedBytes);
  const scattered = costOf({ prices, load: most, amplification: STORED_SHARE_MAX });
  return [
    ...lines,
    '',
    `Single blocks scattered over all of it cost more for the map: ${gigabytes(most.changesBytesPerDay)} a day in objects of ${most.objectBytes / MIB} MiB up to ${scattered.putsMonth.toLocaleString('en-US')} PUTs a month, requests $${dollars(scattered.requests)}`,
    `A full restore to elsewhere: $${dollars(scattered.restore)}. An idle volume sends nothing.`,
  ];
}

export function printCost(flags: CostFlags, { volumes }: Configuration, terminal: Terminal): void {
  const replicated = volumes.filter(({ replicate }) => replicate);
  const lines = costLines(flags, {
    storedBytes: replicated.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    objectBytes: Math.min(...replicated.map(({ segmentBytes }) => segmentBytes), 8 * MIB),
    intervalSeconds: Math.min(...replicated.map(({ intervalMs }) => intervalMs), 86_400_000) / 1000,
  });
  for (const line of lines) terminal.print(line);
}

function pricesOf(flags: CostFlags): Prices {
  const name = flags.prices ?? 's3-standard';
  if (!(name in priceTable)) {
    const known = Object.keys(priceTable).join(', ');
    throw new GatewayError('config-invalid', `--prices: there are none for "${name}"; write one of ${known}`);
  }
  const base: Prices = priceTable[name as PriceName];
  return {
    ...base,
    storageGbMonth: price('--storage-price', flags.storagePrice) ?? base.storageGbMonth,
    putThousand: price('--put-price', flags.putPrice) ?? base.putThousand,
    getThousand: price('--get-price', flags.getPrice) ?? base.getThousand,
    trafficGb: price('--traffic-price', flags.trafficPrice) ?? base.trafficGb,
  };
}

function size(flag: string, text: string): number {
  try {
    const bytes = parseSize(text);
    if (bytes > 0) return bytes;
    throw new WrongValue('0 is no size');
  } catch (error) {
    if (!(error instanceof WrongValue)) throw error;
    throw new GatewayError('config-invalid', `${flag}: ${error.message}`);
  }
}

function price(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const dollarsOf = Number(text);
  if (text.trim() !== '' && dollarsOf >= 0 && dollarsOf < 1e6) return dollarsOf;
  throw new GatewayError('config-invalid', `${flag}: "${text}" is not a price; write dollars such as 0.023`);
}

function positive(flag: string, text: string): number {
  const seconds = Number(text);
  if (seconds > 0 && Number.isFinite(seconds)) return seconds;
  throw new GatewayError('config-invalid', `${flag}: "${text}" is not a number of seconds; write for example 10`);
}

function gigabytes(bytes: number): string {
  return `${Number((bytes / GIB).toPrecision(4))} GiB`;
}

function dollars(amount: number): string {
  return amount.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 2 });
}
