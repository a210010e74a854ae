/**
 * Which window of the weekly schedule holds at a moment. Wall-clock time decides, as Intl knows it for the time zone:
 * on the day on which clocks go forward a window loses what does not exist, on the day on which they go back one that
 * covers the repeated hour holds twice. A window across midnight belongs to the day on which it begins.
 */
import type { BandwidthPlan, BandwidthWindow, RateLimits } from '../ports/bandwidth.js';

export interface WallMinute {
  /** 0 is Sunday. */
  readonly day: number;
  /** Minutes since midnight. */
  readonly minute: number;
}

const dayNames = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];

export class WallClock {
  readonly #format: Intl.DateTimeFormat;

  /** @throws RangeError when there is no such zone */
  constructor(timezone: string) {
    this.#format = new Intl.DateTimeFormat('en-US', {
      timeZone: timezone,
      hourCycle: 'h23',
      weekday: 'short',
      hour: '2-digit',
      minute: '2-digit',
    });
  }

  at(wallMs: number): WallMinute {
    let day = 0;
    let minute = 0;
    for (const { type, value } of this.#format.formatToParts(wallMs)) {
      if (type === 'weekday') day = dayNames.indexOf(value);
      else if (type === 'hour') minute += Number(value) * 60;
      else if (type === 'minute') minute += Number(value);
    }
    return { day, minute };
  }
}

export function holds(window: BandwidthWindow, { day, minute }: WallMinute): boolean {
  const { days, fromMinute, toMinute } = window;
  if (toMinute > fromMinute) return days.includes(day) && minute >= fromMinute && minute < toMinute;
  const dayBefore = (day + 6) % 7;
  return (days.includes(day) && minute >= fromMinute) || (days.includes(dayBefore) && minute < toMinute);
}

export function limitsAt(
  plan: BandwidthPlan,
  time: WallMinute,
): RateLimits & { readonly window: BandwidthWindow | undefined } {
  const window = plan.schedule.find((candidate) => holds(candidate, time));
  return { upload: window?.upload ?? plan.upload, download: window?.download ?? plan.download, window };
}
