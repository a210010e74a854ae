/**
 * `keepgate doctor --cost`: what a bucket costs in a month. List prices in US dollars, before tax, free tiers and volume
 * discounts, of the region or provider that is named; a flag replaces each of them. The only place with prices in it.
 */
import { GatewayError } from '../base/errors.js';
import { GIB, KIB, MIB } from '../base/units.js';
import type { Configuration } from '../config/configuration.js';
import { parseSize } from '../config/quantity.js';
import { WrongValue } from '../config/problem.js';
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
  /** Live data: what a restore fetches. */
  readonly storedBytes: number;
  /** Sent in a day, after coalescing. */
  readonly changesBytesPerDay: number;
  readonly objectBytes: number;
  /** A group is sent when its oldest write is so old. */
  readonly intervalSeconds: number;
  /** Stored bytes for each live one: 1.7 with compaction at 50 % live, in the worst case. */
  readonly amplification: number;
}

export interface Cost {
  readonly putsMonth: number;
  readonly puts: number;
  readonly storage: number;
  readonly month: number;
  /** One full restore. */
  readonly restore: number;
}

const daysPerMonth = 30;
const secondsPerDay = 86_400;
const frameBytes = 256 * KIB;

export function costOf(at: CostCase): Cost {
  const { prices } = at;
  const full = at.changesBytesPerDay / at.objectBytes;
  // Written a little all day, a group goes by its age; written a lot, by its size.
  const byAge =
    at.changesBytesPerDay > 0 ? Math.min(secondsPerDay / at.intervalSeconds, at.changesBytesPerDay / 4096) : 0;
  const putsMonth = Math.ceil(Math.max(full, byAge) * daysPerMonth);
  const puts = (putsMonth / 1000) * prices.putThousand;
  // What is overwritten before the class's least time is billed until then.
  const heldBytes = at.changesBytesPerDay * prices.daysMin;
  const storage = ((at.storedBytes * at.amplification + heldBytes) / GIB) * prices.storageGbMonth;
  const gets = at.storedBytes / frameBytes;
  const restore = (gets / 1000) * prices.getThousand + (at.storedBytes / GIB) * (prices.retrievalGb + prices.trafficGb);
  return { putsMonth, puts, storage, month: puts + storage, restore };
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
  const lines = [
    `${prices.name}, prices of ${pricesAsOf}: $${prices.storageGbMonth} a GB and month, $${prices.putThousand} for 1,000 PUTs, $${prices.getThousand} for 1,000 GETs, $${prices.trafficGb} a GB of traffic`,
    `${gigabytes(storedBytes)} live, up to 1.7 times that stored while compaction is on; a group at least every ${intervalSeconds} s while anything is written`,
    '',
    'changed a day   an object   PUTs a month   PUTs $   storage $   a month $',
  ];
  for (const changesBytesPerDay of changes) {
    for (const objectBytes of objects) {
      const at = { prices, storedBytes, changesBytesPerDay, objectBytes, intervalSeconds, amplification: 1.7 };
      const cost = costOf(at);
      lines.push(
        [
          gigabytes(changesBytesPerDay).padEnd(13),
          `${Number((objectBytes / MIB).toPrecision(3))} MiB`.padStart(10),
          cost.putsMonth.toLocaleString('en-US').padStart(12),
          dollars(cost.puts).padStart(6),
          dollars(cost.storage).padStart(9),
          dollars(cost.month).padStart(9),
        ].join('   '),
      );
    }
  }
  const [anyChanges = 0] = changes;
  const [anyObject = 8 * MIB] = objects;
  const { restore } = costOf({
    prices,
    storedBytes,
    changesBytesPerDay: anyChanges,
    objectBytes: anyObject,
    intervalSeconds,
    amplification: 1.7,
  });
  return [...lines, '', `A full restore to elsewhere: $${dollars(restore)}. An idle volume sends nothing.`];
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
