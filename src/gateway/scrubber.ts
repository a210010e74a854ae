/**
 * `scrub`: reads and verifies a volume's own copy (log and image, as any read does, which heals what has rotted from the
 * bucket), then lets the replicator read what the bucket holds. With `heal`, blocks whose remote copy is missing or
 * damaged are written again as they are: an ordinary record, which replication sends under a new segment number, so that
 * no recovery point ever shows anything else (P2). A new checkpoint then makes the damaged object unneeded.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, MIB } from '../base/units.js';
import type { Volume } from '../engine/volume.js';
import type { ScrubCounts } from '../metrics/source.js';
import type { Clock } from '../ports/clock.js';
import type { RemoteScrub } from '../remote/remote-scrub.js';
import { pace } from './scrub-pace.js';

/** One that somebody waits for; each step waits for the disk. */
export const SCRUB_BYTES_PER_SECOND = 256 * MIB;
/** One by schedule. */
export const SCRUB_BYTES_PER_SECOND_MIN = 4 * MIB;
const STEP_BYTES = MIB;
const REPORTED_MAX = 20;
const DIFFERING_MAX = 1000;

export interface ScrubberOptions {
  readonly volume: Volume;
  readonly clock: Clock;
  /** undefined: the volume does not replicate. */
  readonly remote:
    | ((
        progress: (doneBytes: number, totalBytes: number) => void,
        live: (blocks: Float64Array, sums: Uint32Array) => void,
      ) => Promise<RemoteScrub>)
    | undefined;
  /** Resolves once everything up to now is in the bucket, and a checkpoint of it was asked for. */
  readonly settle: () => Promise<void>;
  readonly counts: ScrubCounts;
  /** For what is read here. */
  readonly bytesPerSecond: number;
  readonly closed: () => boolean;
}

export interface ScrubReport {
  /** One line each. */
  readonly found: readonly string[];
  readonly healed: number;
  /** Blocks of a restored volume that only its bucket has yet: there is nothing to verify. */
  readonly absent: number;
}

export async function scrub(
  options: ScrubberOptions,
  heal: boolean,
  progress: (doneBytes: number, totalBytes: number) => void,
): Promise<ScrubReport> {
  const { volume, remote, counts, settle } = options;
  const found: string[] = [];
  const healedBefore = volume.status().healedBlocks;
  const absent = await scrubLocal(options, found, progress);
  let healed = volume.status().healedBlocks - healedBefore;
  if (healed > 0) found.push(`${healed} blocks of the image had rotted, and were healed from the bucket`);
  counts.errors.image += healed;
  if (remote === undefined) return { found, healed, absent };
  const differing = new Differing(volume);
  let result: RemoteScrub;
  try {
    result = await remote(progress, (live, sums) => differing.hold(live, sums));
  } catch (error) {
    if (!(error instanceof GatewayError) || options.closed()) throw error;
    // What was found here is said all the same.
    found.push(`the bucket was not read to its end: ${error.message}`);
    return { found, healed, absent };
  }
  const { blocks, damages } = result;
  counts.blocks += blocks;
  const stale = await differing.confirmed(heal);
  counts.errors.image += stale.length;
  if (heal) {
    healed += stale.length;
    counts.healed += stale.length;
  }
  if (stale.length > 0) {
    const which = stale.length === 1 ? 'block' : `${stale.length} blocks, the first is`;
    found.push(
      `${which} ${stale[0] ?? 0}: the image is older than the bucket’s copy, the disk lost what it said to have written${heal ? '; healed' : ''}`,
    );
  }
  for (const { object, problem, blocks: living } of damages) {
    counts.errors.remote += Math.max(1, living.length);
    found.push(problem.startsWith(object) ? problem : `${object}: ${problem}`);
  }
  if (!heal || damages.length === 0) return { found, healed, absent };
  const again = new Set(damages.flatMap(({ blocks: living }) => living));
  const unhealed: string[] = [];
  for (const block of again) {
    try {
      await rewrite(volume, block);
      healed++;
      counts.healed++;
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      unhealed.push(`block ${block} could not be sent again: ${error.message}`);
    }
  }
  await settle();
  if (again.size > 0) found.push(`${again.size - unhealed.length} blocks were sent again from the local copy`);
  return { found: [...found, ...unhealed], healed, absent };
}

/**
 * Blocks of which image and bucket say different things. Most are only not replicated yet; the others show a write that
 * the disk lost together with its checksum, which no checksum can.
 */
class Differing {
  readonly #volume: Volume;
  readonly #blocks = new Set<number>();
  #turn: Promise<void> = Promise.resolve();

  constructor(volume: Volume) {
    this.#volume = volume;
  }

  hold(blocks: Float64Array, sums: Uint32Array): void {
    this.#turn = this.#turn.then(async () => {
      for (const [at, block] of blocks.entries()) {
        if (this.#blocks.size >= DIFFERING_MAX) return;
        const sum = await this.#volume.settledSum(block);
        if (sum !== undefined && sum !== sums[at]) this.#blocks.add(block);
      }
    });
  }

  async confirmed(put: boolean): Promise<number[]> {
    await this.#turn;
    const confirmed: number[] = [];
    for (const block of this.#blocks) {
      try {
        if (await this.#volume.contradicted(block, put)) confirmed.push(block);
      } catch (error) {
        // The bucket does not give it, or it is written all the time: nothing is proved.
        if (!(error instanceof GatewayError)) throw error;
      }
    }
    return confirmed;
  }
}

function rewrite(volume: Volume, block: number): Promise<void> {
  return new Promise((resolve, reject) =>
    volume.rewrite(block, { done: (error) => (error === undefined ? resolve() : reject(error)) }),
  );
}

/** Says how many blocks are not here yet. */
async function scrubLocal(
  { volume, clock, counts, closed, bytesPerSecond }: ScrubberOptions,
  found: string[],
  progress: (doneBytes: number, totalBytes: number) => void,
): Promise<number> {
  const { sizeBytes } = volume;
  let absentBlocks = 0;
  const rest = pace(clock, bytesPerSecond);
  for (let at = 0; at < sizeBytes;) {
    if (closed()) throw new GatewayError('volume-closed', 'the gateway is stopping');
    // What reads as zero has no content to verify.
    const [extent] = await volume.blockStatus(at, sizeBytes - at, 1);
    const extentBytes = extent?.lengthBytes ?? sizeBytes - at;
    const lengthBytes = extent?.state === 'data' ? Math.min(extentBytes, STEP_BYTES) : extentBytes;
    if (extent?.state === 'data') {
      const onBad = (block: number, error: GatewayError): void => {
        const place = error.context['place'] === 'image' ? 'image' : 'log';
        counts.errors[place]++;
        if (found.length < REPORTED_MAX) found.push(`block ${block}: ${error.message}`);
      };
      let readBytes = 0;
      for (const here of await blocksHere(volume, at / BLOCK_BYTES, lengthBytes / BLOCK_BYTES)) {
        await verify(volume, here.first * BLOCK_BYTES, here.count * BLOCK_BYTES, onBad);
        readBytes += here.count * BLOCK_BYTES;
      }
      counts.blocks += readBytes / BLOCK_BYTES;
      absentBlocks += (lengthBytes - readBytes) / BLOCK_BYTES;
      await rest(readBytes);
    }
    at += lengthBytes;
    progress(at, sizeBytes);
  }
  return absentBlocks;
}

/** Without what only the bucket has yet. */
async function blocksHere(
  { hydration }: Volume,
  first: number,
  count: number,
): Promise<{ first: number; count: number }[]> {
  if (hydration?.active !== true) return [{ first, count }];
  const absent = await hydration.absent(first, count);
  const runs: { first: number; count: number }[] = [];
  for (let at = absent.indexOf(0); at >= 0; at = absent.indexOf(0, at)) {
    const from = at;
    while (absent[at] === 0) at++;
    runs.push({ first: first + from, count: at - from });
  }
  return runs;
}

async function verify(
  volume: Volume,
  at: number,
  lengthBytes: number,
  onBad: (block: number, error: GatewayError) => void,
): Promise<void> {
  const error = await read(volume, at, lengthBytes);
  if (error === undefined) return;
  if (lengthBytes === BLOCK_BYTES) return onBad(at / BLOCK_BYTES, error);
  for (let block = at; block < at + lengthBytes; block += BLOCK_BYTES) await verify(volume, block, BLOCK_BYTES, onBad);
}

function read(volume: Volume, at: number, lengthBytes: number): Promise<GatewayError | undefined> {
  return new Promise((resolve) => volume.cache(at, lengthBytes, { done: resolve }));
}
