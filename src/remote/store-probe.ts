/**
 * Whether a store honours If-None-Match, on which the ownership of a volume rests (P7): several PUTs race for one
 * scratch key, and then one more comes late. Not more than one may win. A store that documents the header may still let
 * racing PUTs all win, so asking once is not enough.
 */
import { GatewayError } from '../base/errors.js';
import type { Clock } from '../ports/clock.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';

/** PUTs that race; one more comes late. */
export const RACERS = 8;
const ATTEMPTS_MAX = 5;
/** Some stores take one write a second of one name (Cloudflare R2 says so): who is told to slow down waits for a turn. */
const TURN_MS = 1100;

export interface ProbeResult {
  readonly conditionalPut: boolean;
  /** What was seen, for `doctor` and messages. */
  readonly detail: string;
}

export interface ProbeOptions extends StoreRequest {
  readonly random: Random;
  readonly clock: Clock;
  /** No delete is even tried. */
  readonly appendOnly?: boolean;
  /** Told when the store does not let us delete the scratch object; not when it only failed to. */
  readonly refused?: (error: GatewayError) => void;
}

/**
 * Leaves nothing behind where deleting is allowed, else one object of a few bytes under "probe-"; with `appendOnly` no
 * delete is even tried. Store errors that may pass are thrown once they persist.
 */
export async function probeConditionalPut(store: ObjectStore, options: ProbeOptions): Promise<ProbeResult> {
  const { random, clock, signal, appendOnly = false, refused = () => undefined } = options;
  const request = signal === undefined ? {} : { signal };
  const key = `probe-${random.uuid()}`;
  try {
    const racers = Array.from({ length: RACERS }, (_, racer) => conditionalPut({ store, key, racer, clock, request }));
    const settled = await Promise.allSettled(racers);
    const answers = settled.map((outcome) => {
      if (outcome.status === 'rejected') throw outcome.reason;
      return outcome.value;
    });
    answers.push(await conditionalPut({ store, key, racer: RACERS, clock, request }));
    const winners = answers.filter((answer) => answer === 'stored').length;
    const late = answers.at(-1) === 'stored';
    const detail = `${winners} of ${RACERS} racing PUTs with If-None-Match won${late ? ', and a late one' : ''}`;
    // A winner whose reply was lost is told 'exists' when it asks again: then none is seen.
    return { conditionalPut: winners <= 1 && !late, detail };
  } catch (error) {
    if (error instanceof GatewayError && error.code === 'store-no-conditional-put') {
      return { conditionalPut: false, detail: error.message };
    }
    throw error;
  } finally {
    if (!appendOnly) {
      await store.delete(key, request).catch((error: unknown) => {
        // Append-only credentials are fine: the scratch object stays.
        if (!(error instanceof GatewayError)) throw error;
        if (error.code === 'store-forbidden') refused(error);
      });
    }
  }
}

/** One racer. A conflict (409) or another failure that may pass is tried again. */
async function conditionalPut(options: {
  readonly store: ObjectStore;
  readonly key: string;
  readonly racer: number;
  readonly clock: Clock;
  readonly request: StoreRequest;
}): Promise<'stored' | 'exists'> {
  const { store, key, racer, clock, request } = options;
  for (let attempt = 1; ; attempt++) {
    try {
      return await store.put(key, new Uint8Array([racer]), { ...request, ifAbsent: true });
    } catch (error) {
      if (!(error instanceof GatewayError) || !error.retryable || attempt === ATTEMPTS_MAX) throw error;
      // Each has a second of its own, so that all have had one after RACERS of them.
      if (error.code === 'store-slow-down') await clock.sleep(TURN_MS * ((racer % RACERS) + 1), request.signal);
    }
  }
}
