/** The weekly schedule as a configuration writes it: { days: [mon, tue], from: "08:00", to: "18:00", upload: 5Mbit/s }. */
import type { BandwidthWindow } from '../ports/bandwidth.js';
import { WrongValue, shown } from './problem.js';
import { parseRateLimit } from './quantity.js';
import { isMapping } from './shape.js';

const dayNames = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const known = ['days', 'from', 'to', 'upload', 'download'];
const windowsMax = 1000;

export function bandwidthSchedule(raw: unknown): readonly BandwidthWindow[] {
  if (raw === null) return [];
  if (!Array.isArray(raw) || raw.length > windowsMax) {
    throw new WrongValue(`is not a list of windows; write - { from: "08:00", to: "18:00", upload: 5Mbit/s }`);
  }
  return raw.map((item: unknown, index) => {
    try {
      return parseWindow(item);
    } catch (error) {
      if (!(error instanceof WrongValue)) throw error;
      throw new WrongValue(`window ${index + 1}: ${error.message}`);
    }
  });
}

function parseWindow(raw: unknown): BandwidthWindow {
  if (!isMapping(raw)) throw new WrongValue(`${shown(raw)} is not a window; write { from: "08:00", to: "18:00", … }`);
  const unknown = Object.keys(raw).find((key) => !known.includes(key));
  if (unknown !== undefined) throw new WrongValue(`${unknown}: unknown key; known here are ${known.join(', ')}`);
  const { days = dayNames, from, to, upload, download } = raw;
  if (upload === undefined && download === undefined) throw new WrongValue('sets nothing; write upload or download');
  const fromMinute = timeOfDay('from', from);
  const toMinute = timeOfDay('to', to);
  if (fromMinute === 1440) throw new WrongValue('from: "24:00" is no beginning; write "00:00"');
  if (fromMinute === toMinute) throw new WrongValue('from and to are equal; write "00:00" to "24:00" for a whole day');
  return {
    days: daysOf(days),
    fromMinute,
    toMinute,
    upload: limitOf('upload', upload),
    download: limitOf('download', download),
  };
}

function daysOf(raw: unknown): readonly number[] {
  if (!Array.isArray(raw) || raw.length === 0)
    throw new WrongValue(`days: ${shown(raw)} is not a list; write [mon, tue]`);
  return raw.map((item: unknown) => {
    const day = dayNames.indexOf(String(item));
    if (day < 0) throw new WrongValue(`days: ${shown(item)} is not one of ${dayNames.join(', ')}`);
    return day;
  });
}

function timeOfDay(key: string, raw: unknown): number {
  const match = typeof raw === 'string' ? /^(\d\d):(\d\d)$/.exec(raw) : null;
  const minute = Number(match?.[1]) * 60 + Number(match?.[2]);
  if (match === null || Number(match[2]) > 59 || minute > 1440) {
    throw new WrongValue(`${key}: ${shown(raw)} is not a time of day; write "08:00", up to "24:00"`);
  }
  return minute;
}

function limitOf(key: string, raw: unknown): BandwidthWindow['upload'] {
  if (raw === undefined) return undefined;
  try {
    return parseRateLimit(raw);
  } catch (error) {
    throw error instanceof WrongValue ? new WrongValue(`${key}: ${error.message}`) : error;
  }
}
