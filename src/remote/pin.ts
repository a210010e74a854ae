/**
 * A reader's pin: put before the reader chooses its checkpoint, so that an owner which deletes leaves alone what is being
 * read (pin-watch.ts is the owner's side). Its index:
 *
 *      0   8  wall time in milliseconds
 *      8   8  floor: the reader needs nothing that was dead at the recovery point with this segment number; 0: not known
 *             yet, it may need anything
 *     16  2+n who reads (a host name), for messages only
 *
 * Each state of a pin is an object of its own, `pins/<id>-<counter>`: the next one is put before the one before is deleted.
 * A reader renews hourly, and an owner forgets a pin that it saw unchanged for a day: a dead reader holds no space for ever.
 *
 * Credentials that may only read are fine: then there is no pin, and the reader may find objects gone.
 *
 * A reader that outlives its process (a restored volume that is still filling) records the ids of its pins durably before
 * they are put. In its next life it gives them back: they are removed once a new one stands, and none is forgotten.
 */
import { ByteReader, ByteWriter } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { Clock, Timer } from '../ports/clock.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import type { MasterKey } from './key.js';
import { findRemoteVolume } from './remote-list.js';
import type { FoundVolume } from './remote-list.js';
import type { ObjectSealer } from './seal.js';

const COUNTER_DIGITS = 10;

export interface PinOptions {
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly reader: string;
  readonly request: StoreRequest;
  /** As in `narrow`; default: not known yet. */
  readonly floor?: number;
  /** Ids of pins of an earlier life. */
  readonly inherited?: readonly string[];
  /** Notes durably which pins may stand, by their ids. */
  readonly record?: (ids: readonly string[]) => Promise<void>;
}

/** Where a restore notes its pins, so that a later one takes back what it leaves. Of the volume with that uuid. */
export interface PinNotes {
  readonly inherited: (uuid: string) => readonly string[];
  readonly note: (uuid: string, ids: readonly string[]) => Promise<void>;
}

/** Options of a pin on `sealer`'s volume that is noted so. */
export function notedIn(
  notes: PinNotes | undefined,
  { names }: ObjectSealer,
): Pick<PinOptions, 'inherited' | 'record'> {
  if (notes === undefined) return {};
  return { inherited: notes.inherited(names.uuid), record: (ids) => notes.note(names.uuid, ids) };
}

export interface PinContent {
  readonly wallMs: number;
  readonly floor: number;
  readonly reader: string;
}

export class Pin {
  readonly #options: PinOptions;
  readonly #id: string;
  #counter = 0;
  #floor: number;
  /** Ids of those that may stand now, the newest last; it is the only one, but for what could not be removed yet. */
  #standing: string[];
  #timer: Timer | undefined;
  #released = false;
  /** One change after the other. */
  #turn: Promise<void> = Promise.resolve();

  private constructor(options: PinOptions) {
    this.#options = options;
    this.#id = options.random.uuid();
    this.#floor = options.floor ?? 0;
    this.#standing = [...(options.inherited ?? [])];
  }

  /** Stands when this resolves, unless the store refuses: a pin must not keep anyone from a restore. */
  static async put(options: PinOptions): Promise<Pin> {
    const pin = new Pin(options);
    await pin.#restate();
    return pin;
  }

  /** The reader has chosen: from now on it needs nothing that was dead at that recovery point. Never goes down. */
  async narrow(segmentNumber: number): Promise<void> {
    if (segmentNumber <= this.#floor) return;
    this.#floor = segmentNumber;
    await this.#restate();
  }

  /** Resolves when the pin is gone, or could not be removed: soon, where the reader was interrupted. */
  async release(): Promise<void> {
    await this.handOver();
    const { request, clock } = this.#options;
    if (request.signal?.aborted !== true) {
      for (const id of this.#standing) await this.#remove(id, request);
      return;
    }
    // What the reader asked for has ended; that nobody reads any more is still to be said.
    const late = new AbortController();
    const timer = clock.after(limits.pinReleaseMsMax, () => late.abort());
    for (const id of this.#standing) await this.#remove(id, { signal: late.signal });
    timer.cancel();
  }

  /** Leaves the pin to the reader's next life, which is given these ids. */
  async handOver(): Promise<readonly string[]> {
    this.#released = true;
    this.#timer?.cancel();
    await this.#turn;
    return this.#standing;
  }

  #restate(): Promise<void> {
    const turn = this.#turn.then(async () => {
      if (this.#released) return;
      this.#timer?.cancel();
      await this.#replace();
      this.#timer = this.#options.clock.after(limits.pinRenewMs, () => void this.#restate().catch(() => undefined));
    });
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #replace(): Promise<void> {
    const { store, sealer, clock, reader, request, record } = this.#options;
    // Of a fixed width: a listing that goes by name meets the new one after the old one, or one of them that is gone when
    // it is read (pin-watch.ts).
    const id = `${this.#id}-${(this.#counter++).toString().padStart(COUNTER_DIGITS, '0')}`;
    const name = sealer.names.pin(id);
    const writer = new ByteWriter(256);
    writer.u64(clock.wallMs());
    writer.u64(this.#floor);
    writer.text(reader);
    const object = sealer.seal({ kind: 'pin', name, epoch: 0, number: 0, part: 0 }, writer.finish());
    const before = this.#standing;
    const refusal = await this.#attempt('pinned', async () => {
      await record?.([...before, id]);
      await store.put(name, object.bytes, { ...request, ifAbsent: true });
    });
    // It may have been stored all the same.
    if (refusal?.code !== 'store-forbidden') this.#standing = [...before, id];
    if (refusal !== undefined) return;
    for (const old of before) {
      if (await this.#remove(old, request)) this.#standing = this.#standing.filter((standing) => standing !== old);
    }
    if (before.length > 0) await this.#attempt('noted as pinned', async () => record?.(this.#standing));
  }

  /** False: it may stand still. */
  async #remove(id: string, request: StoreRequest): Promise<boolean> {
    const { store, sealer } = this.#options;
    return (await this.#attempt('unpinned', () => store.delete(sealer.names.pin(id), request), request)) === undefined;
  }

  /** Why not: the store does not let us, or fails. */
  async #attempt(
    what: string,
    act: () => Promise<unknown>,
    request = this.#options.request,
  ): Promise<GatewayError | undefined> {
    try {
      await act();
      return undefined;
    } catch (error) {
      const { log } = this.#options;
      if (request.signal?.aborted === true) return new GatewayError('volume-closed', 'it was given up');
      if (!(error instanceof GatewayError)) throw error;
      log.warn(`the volume could not be ${what} while it is read: ${error.message}`);
      return error;
    }
  }
}

/** Runs `read` under a pin. */
export async function withPin<Result>(options: PinOptions, read: (pin: Pin) => Promise<Result>): Promise<Result> {
  const pin = await Pin.put(options);
  try {
    return await read(pin);
  } finally {
    await pin.release();
  }
}

export interface PinnedReadOptions extends Omit<PinOptions, 'sealer' | 'request' | 'inherited' | 'record'> {
  readonly masters: readonly MasterKey[];
  /** Name or uuid. */
  readonly volume: string;
  readonly signal?: AbortSignal;
  readonly notes?: PinNotes;
}

/** Finds a volume and runs `read` under a pin on it. Throws as findRemoteVolume does. */
export async function readPinned<Result>(
  options: PinnedReadOptions,
  read: (found: FoundVolume, request: StoreRequest, pin: Pin) => Promise<Result>,
): Promise<Result> {
  const { store, masters, random, volume, clock, log, reader } = options;
  const request: StoreRequest = options.signal === undefined ? {} : { signal: options.signal };
  const found = await findRemoteVolume(store, { volume, masters, random, request });
  const { sealer } = found;
  const pin = { store, sealer, clock, random, log, reader, request, ...notedIn(options.notes, sealer) };
  return withPin(pin, (held) => read(found, request, held));
}

/** object-damaged when it is none. */
export function openPin(sealer: ObjectSealer, name: string, bytes: Uint8Array): PinContent {
  const { index } = sealer.openWhole({ kind: 'pin', name, epoch: 0, number: 0, part: 0 }, bytes);
  const reader = new ByteReader(index, name);
  const content = { wallMs: reader.u64(), floor: reader.u64(), reader: reader.text() };
  reader.endOfZeros();
  return content;
}
