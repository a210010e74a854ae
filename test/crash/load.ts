/**
 * A write load whose every acknowledgement is entered in a ledger: several connections, many requests in flight,
 * writes of any sector count at any sector (parts of blocks too), zeros, forced writes and flushes between them.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { contentsOf, isZeroWrite, sectorBytes, type Ledger, type WriteLedger } from './ledger.js';

const blockSectors = 8;

/** What both protocols' clients can do; offsets and lengths are bytes, whole sectors. */
export interface BlockClient {
  read(offset: number, lengthBytes: number): Promise<Buffer>;
  write(offset: number, data: Uint8Array, options?: { readonly fua?: boolean }): Promise<void>;
  writeZeroes(offset: number, lengthBytes: number): Promise<void>;
  flush(): Promise<void>;
  destroy(): void;
}

/** Numbers from 0 to 1, the same for the same seed. */
export function seededNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

/** So many bytes a second, from now on. */
export function paceOf(bytesPerSecond: number): (bytes: number) => Promise<void> {
  let dueMs = performance.now();
  return async (bytes) => {
    const nowMs = performance.now();
    dueMs = Math.max(dueMs, nowMs) + (bytes / bytesPerSecond) * 1000;
    // Timers are no more exact than that.
    if (dueMs - nowMs > 5) await delay(dueMs - nowMs);
  };
}

export interface LoadOptions {
  readonly clients: readonly BlockClient[];
  readonly ledger: WriteLedger;
  readonly random: () => number;
  readonly requestsPerClient: number;
  readonly sectorsPerWriteMax: number;
  /** Share of the writes that are one whole block of 4 KiB, as most of a disk's are. Default: none by intention. */
  readonly wholeBlocks?: number;
  /** Of all requests; default 0.01. */
  readonly flushShare?: number;
  /** Holds a load back that must not outrun what it tests: awaited before each write, with its bytes. */
  readonly pace?: (bytes: number) => Promise<void>;
  /** Called after each acknowledged write; false ends the load. */
  readonly onAcknowledged: (count: number) => boolean;
}

export interface LoadEnd {
  readonly acknowledged: number;
  /** The errors of requests; after a kill, the lost connections. */
  readonly errors: readonly Error[];
}

/** Runs until `onAcknowledged` says that it is enough, or every client lost its connection. */
export async function runLoad(options: LoadOptions): Promise<LoadEnd> {
  const { ledger, random, wholeBlocks = 0, flushShare = 0.01 } = options;
  const errors: Error[] = [];
  let acknowledged = 0;
  let ended = false;

  const writeOnce = async (client: BlockClient): Promise<void> => {
    const whole = wholeBlocks > 0 && random() < wholeBlocks;
    const count = whole ? blockSectors : 1 + Math.floor(random() * options.sectorsPerWriteMax);
    const place = Math.floor(random() * (ledger.sectorCount - count));
    const first = whole ? place - (place % blockSectors) : place;
    await options.pace?.(count * sectorBytes);
    if (!ledger.isFree(first, count)) return;
    const fua = random() < 0.02;
    const number = ledger.begin(first, count);
    if (isZeroWrite(number)) await client.writeZeroes(first * sectorBytes, count * sectorBytes);
    else await client.write(first * sectorBytes, contentsOf(first, count, number), { fua });
    ledger.acknowledge(first, count, fua && !isZeroWrite(number));
    acknowledged += 1;
    if (!options.onAcknowledged(acknowledged)) ended = true;
  };

  const flushOnce = async (client: BlockClient): Promise<void> => {
    const begun = ledger.beginFlush();
    await client.flush();
    ledger.acknowledgeFlush(begun);
  };

  const work = async (client: BlockClient): Promise<void> => {
    try {
      while (!ended) {
        if (random() < flushShare) await flushOnce(client);
        else await writeOnce(client);
      }
    } catch (error) {
      errors.push(error instanceof Error ? error : new Error(String(error)));
    }
  };

  const workers = options.clients.flatMap((client) =>
    Array.from({ length: options.requestsPerClient }, () => work(client)),
  );
  await Promise.all(workers);
  return { acknowledged, errors };
}

/** Reads the whole volume and returns one line for each sector that holds neither of what it may hold. */
export async function verifyAll(client: BlockClient, ledger: Ledger): Promise<string[]> {
  const pieceSectors = 512;
  const wrong: string[] = [];
  for (let first = 0; first < ledger.sectorCount && wrong.length < 10; first += pieceSectors) {
    const count = Math.min(pieceSectors, ledger.sectorCount - first);
    wrong.push(...ledger.verify(first, await client.read(first * sectorBytes, count * sectorBytes)));
  }
  return wrong;
}
