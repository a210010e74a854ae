/** Spreads work over time: no faster than a rate, without saving up what was not used. */
import type { Clock } from '../ports/clock.js';

export function pace(clock: Clock, bytesPerSecond: number): (lengthBytes: number) => Promise<void> {
  let nextMs = clock.nowMs();
  return async (lengthBytes) => {
    nextMs = Math.max(nextMs, clock.nowMs()) + (lengthBytes * 1000) / bytesPerSecond;
    const waitMs = nextMs - clock.nowMs();
    if (waitMs >= 1) await clock.sleep(waitMs);
  };
}
