/** Asks the bucket something for at most so long, and no longer than the volume is open. */
import { GatewayError } from '../base/errors.js';
import type { Clock } from '../ports/clock.js';

/** `ask` is given the signal that ends it. Rejects with `late()` when the time is over; volume-closed. */
export function askWithin<Answer>(
  { clock, ended, msMax }: { readonly clock: Clock; readonly ended: AbortSignal; readonly msMax: number },
  ask: (signal: AbortSignal) => Promise<Answer>,
  late: () => GatewayError,
): Promise<Answer> {
  if (ended.aborted) return Promise.reject(closing());
  const overdue = new AbortController();
  const signal = AbortSignal.any([ended, overdue.signal]);
  return new Promise((resolve, reject) => {
    const timer = clock.after(msMax, () => overdue.abort());
    signal.addEventListener(
      'abort',
      () => {
        timer.cancel();
        reject(ended.aborted ? closing() : late());
      },
      { once: true },
    );
    ask(signal).then(
      (answer) => {
        timer.cancel();
        resolve(answer);
      },
      (error: unknown) => {
        timer.cancel();
        reject(error instanceof Error ? error : new Error(String(error)));
      },
    );
  });
}

export function closing(): GatewayError {
  return new GatewayError('volume-closed', 'the volume is closing');
}
