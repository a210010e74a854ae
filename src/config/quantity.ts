/**
 * Sizes, rates and durations as a configuration writes them: a number, an optional blank, a unit. A quantity without
 * its unit is refused, because 5 may be meant as bits or bytes, seconds or minutes; sizes alone may be bare bytes.
 */
import { GIB, KIB, MIB, TIB } from '../base/units.js';
import { UNLIMITED } from '../ports/bandwidth.js';
import type { RateLimit } from '../ports/bandwidth.js';
import { WrongValue, shown } from './problem.js';

const sizeUnits = new Map<string, number>([
  ['b', 1],
  ['kb', 1e3],
  ['mb', 1e6],
  ['gb', 1e9],
  ['tb', 1e12],
  ['kib', KIB],
  ['mib', MIB],
  ['gib', GIB],
  ['tib', TIB],
]);

const durationUnits = new Map<string, number>([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['min', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

const bitUnits = new Map<string, number>([
  ['bit', 1 / 8],
  ['kbit', 1e3 / 8],
  ['mbit', 1e6 / 8],
  ['gbit', 1e9 / 8],
]);

const pattern = /^(\d+(?:\.\d+)?)\s*([A-Za-z]+)$/;

function measure(text: string, units: ReadonlyMap<string, number>): number | undefined {
  const match = pattern.exec(text.trim());
  const factor = units.get((match?.[2] ?? '').toLowerCase());
  if (match === null || factor === undefined) return undefined;
  return Number(match[1]) * factor;
}

/** Bytes of "100GiB", "64 MiB", "512B" or a whole number of bytes. */
export function parseSize(raw: unknown): number {
  const refusal = new WrongValue(
    `${shown(raw)} is not a size; write a number with KiB, MiB, GiB or TiB, such as 100GiB`,
  );
  if (typeof raw === 'number') {
    if (Number.isSafeInteger(raw) && raw >= 0) return raw;
    throw refusal;
  }
  if (typeof raw !== 'string') throw refusal;
  const bytes = /^\d+$/.test(raw.trim()) ? Number(raw) : measure(raw, sizeUnits);
  if (bytes === undefined || !Number.isSafeInteger(bytes)) throw refusal;
  return bytes;
}

/** Bytes per second of "20MB/s" or "5Mbit/s"; also "unlimited" and "auto". */
export function parseRateLimit(raw: unknown): RateLimit {
  if (raw === 'unlimited') return UNLIMITED;
  if (raw === 'auto') return raw;
  const refusal = new WrongValue(
    `${shown(raw)} is not a rate; write unlimited, auto, or a rate such as 20MB/s or 5Mbit/s`,
  );
  if (typeof raw !== 'string') throw refusal;
  const match = /^(.*?)\s*\/\s*s$/.exec(raw.trim());
  if (match?.[1] === undefined) throw refusal;
  const perSecond = measure(match[1], sizeUnits) ?? measure(match[1], bitUnits);
  if (perSecond === undefined || perSecond < 1) throw refusal;
  return Math.floor(perSecond);
}

/** Milliseconds of "500ms", "10s", "5min", "24h", "7d". */
export function parseDuration(raw: unknown): number {
  const durationMs = typeof raw === 'string' ? measure(raw, durationUnits) : undefined;
  if (durationMs === undefined) {
    throw new WrongValue(`${shown(raw)} is not a duration; write a number with ms, s, min, h or d, such as 10s`);
  }
  return Math.round(durationMs);
}

/** "1 GiB", "1.5 MiB": three digits at most, binary units. */
export function formatBytes(lengthBytes: number): string {
  const steps: readonly (readonly [number, string])[] = [
    [TIB, 'TiB'],
    [GIB, 'GiB'],
    [MIB, 'MiB'],
    [KIB, 'KiB'],
  ];
  for (const [unit, name] of steps) {
    if (lengthBytes >= unit) return `${Number((lengthBytes / unit).toPrecision(3))} ${name}`;
  }
  return `${Math.round(lengthBytes)} B`;
}

/** As a configuration writes it: "20MB/s", "1500B/s", "unlimited", "auto". */
export function formatLimit(limit: RateLimit): string {
  if (limit === 'auto') return limit;
  if (limit === UNLIMITED) return 'unlimited';
  for (const [unit, name] of [
    [1e9, 'GB'],
    [1e6, 'MB'],
    [1e3, 'kB'],
  ] as const) {
    if (limit >= unit && limit % (unit / 1000) === 0) return `${limit / unit}${name}/s`;
  }
  return `${limit}B/s`;
}

/** "3s", "2min 5s", "1h 4min": two units at most. */
export function formatDuration(durationMs: number): string {
  if (durationMs < 1000) return `${Math.round(durationMs)}ms`;
  const seconds = Math.round(durationMs / 1000);
  const parts: readonly (readonly [number, string])[] = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join(' ');
}
