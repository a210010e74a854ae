/**
 * A reader's pin: put before the reader chooses its checkpoint, removed when it is through, so that an owner which deletes
 * leaves alone what is being read. Its index:
 *
 *      0   8  wall time in milliseconds
 *      8  2+n who reads (a host name), for messages only
 *
 * Credentials that may only read are fine: then there is no pin, and the reader may find objects gone.
 */
import { ByteWriter } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { Clock } from '../ports/clock.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import type { ObjectSealer } from './seal.js';

export interface PinOptions {
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly reader: string;
  readonly request: StoreRequest;
}

/** Runs `read` under a pin. */
export async function withPin<Result>(options: PinOptions, read: () => Promise<Result>): Promise<Result> {
  const { store, sealer, clock, random, reader, request } = options;
  const name = sealer.names.pin(random.uuid());
  const writer = new ByteWriter(256);
  writer.u64(clock.wallMs());
  writer.text(reader);
  const pin = sealer.seal({ kind: 'pin', name, epoch: 0, number: 0, part: 0 }, writer.finish());
  const put = await permitted(options, 'pinned', () => store.put(name, pin.bytes, { ...request, ifAbsent: true }));
  try {
    return await read();
  } finally {
    if (put) await permitted(options, 'unpinned', () => store.delete(name, request));
  }
}

/** False: the store does not let us, or fails; a pin is a courtesy that must not keep anyone from a restore. */
async function permitted(options: PinOptions, what: string, act: () => Promise<unknown>): Promise<boolean> {
  try {
    await act();
    return true;
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    options.log.warn(`the volume could not be ${what} while it is read: ${error.message}`);
    return false;
  }
}
