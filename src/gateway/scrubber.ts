/**
 * `scrub`: reads and verifies a volume's own copy (log and image, as any read does, which heals what has rotted from the
 * bucket), then lets the replicator read what the bucket holds. With `heal`, blocks whose remote copy is missing or
 * damaged are written again as they are: an ordinary record, which replication sends under a new segment number, so that
 * no recovery point ever shows anything else (P2). A new checkpoint, which has shards that were damaged under new names,
 * then makes the damaged objects unneeded; where a checkpoint that is kept as a second or third choice needs one, so many
 * more that none of those is kept. What only a snapshot needs is lost with it, and said.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, MIB } from '../base/units.js';
import type { Volume } from '../engine/volume.js';
import type { ScrubCounts } from '../metrics/source.js';
import type { Clock } from '../ports/clock.js';
import { CHECKPOINTS_KEPT } from '../remote/kept-checkpoints.js';
import type { Mended } from '../remote/mend.js';
import type { RemoteDamage, RemoteScrub } from '../remote/remote-scrub.js';
import { requested } from './device-request.js';
import { pace } from './scrub-pace.js';

/** One that somebody waits for; each step waits for the disk. */
export const SCRUB_BYTES_PER_SECOND = 256 * MIB;
/** One by schedule. */
export const SCRUB_BYTES_PER_SECOND_MIN = 4 * MIB;
const STEP_BYTES = MIB;
const REPORTED_MAX = 20;
const DIFFERING_MAX = 1000;
/** Others may have a checkpoint written in between, which takes the recovery point that was made for ours. */
const CHECKPOINT_TRIES_MAX = 5;
/** Rotten ones among them do not hold it up. */
const MOVING_BLOCKS_MAX = 64;

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
  /** Resolves once everything up to now is in the bucket, with a checkpoint of it that needs none of the objects. */
  readonly mend: (objects: readonly string[]) => Promise<Mended>;
  readonly counts: ScrubCounts;
  /** For what is read here. */
  readonly bytesPerSecond: number;
  readonly closed: () => boolean;
}

export interface ScrubReport {
  /** One line each. */
  readonly found: readonly string[];
  /** Of these, what is lost for good: it is found as long as the snapshots are there that need it. */
  readonly lost: number;
  readonly healed: number;
  /** Blocks of a restored volume that only its bucket has yet: there is nothing to verify. */
  readonly absent: number;
}

export async function scrub(
  options: ScrubberOptions,
  heal: boolean,
  progress: (doneBytes: number, totalBytes: number) => void,
): Promise<ScrubReport> {
  const { volume, remote, counts } = options;
  const found: string[] = [];
  const healedBefore = volume.status().healedBlocks;
  const absent = await scrubLocal(options, found, progress);
  let healed = volume.status().healedBlocks - healedBefore;
  if (healed > 0) found.push(`${healed} blocks of the image had rotted, and were healed from the bucket`);
  counts.errors.image += healed;
  if (remote === undefined) return { found, lost: 0, healed, absent };
  const differing = new Differing(volume);
  let result: RemoteScrub;
  try {
    result = await remote(progress, (live, sums) => differing.hold(live, sums));
  } catch (error) {
    if (!(error instanceof GatewayError) || options.closed()) throw error;
    // What was found here is said all the same.
    found.push(`the bucket was not read to its end: ${error.message}`);
    return { found, lost: 0, healed, absent };
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
  for (const damage of damages) {
    counts.errors.remote += Math.max(1, damage.blocks.length);
    found.push(damageLine(damage));
  }
  const lost = damages.filter(isLost).length;
  const healable = damages.filter((damage) => !isLost(damage));
  if (!heal || healable.length === 0) return { found, lost, healed, absent };
  const mended = await healRemote(healable, options);
  counts.healed += mended.healed;
  return { found: [...found, ...mended.lines], lost, healed: healed + mended.healed, absent };
}

/** Only snapshots need it. */
function isLost({ current, older }: RemoteDamage): boolean {
  return !current && !older;
}

function damageLine({ object, problem, older, current, snapshots }: RemoteDamage): string {
  const line = problem.startsWith(object) ? problem : `${object}: ${problem}`;
  const needs: string[] = [];
  if (older && !current) needs.push('an older checkpoint needs it, a restore of the newest recovery point does not');
  const [first, ...more] = snapshots;
  if (first !== undefined)
    needs.push(`snapshot ${first}${more.length > 0 ? ` and ${more.length} more` : ''} cannot be restored without it`);
  return needs.length === 0 ? line : `${line} (${needs.join('; ')})`;
}

/** Sends again what lives in damaged segments, and has checkpoints written that do without the rest. */
async function healRemote(
  damages: readonly RemoteDamage[],
  options: ScrubberOptions,
): Promise<{ readonly healed: number; readonly lines: readonly string[] }> {
  const { volume, mend } = options;
  const again = new Set(damages.flatMap(({ blocks }) => blocks));
  const lines: string[] = [];
  for (const block of again) {
    try {
      await requested((completion) => volume.rewrite(block, completion));
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      lines.push(`block ${block} could not be sent again: ${error.message}`);
    }
  }
  let healed = again.size - lines.length;
  if (again.size > 0) lines.unshift(`${healed} blocks were sent again from the local copy`);
  const objects = damages.filter(({ current }) => current).map(({ object }) => object);
  try {
    const problems = await mendAll(objects, damages, volume, mend);
    lines.push(...problems);
    const replaced = damages.filter(({ blocks }) => blocks.length === 0).length - problems.length;
    healed += replaced;
    if (replaced > 0)
      lines.push(`${replaced} ${replaced === 1 ? 'object was' : 'objects were'} replaced by a new checkpoint`);
  } catch (error) {
    if (!(error instanceof GatewayError) || options.closed()) throw error;
    lines.push(`no checkpoint that does without what is damaged could be written: ${error.message}`);
  }
  return { healed, lines };
}

/** Says what could not be replaced. */
async function mendAll(
  objects: readonly string[],
  damages: readonly RemoteDamage[],
  volume: Volume,
  mend: ScrubberOptions['mend'],
): Promise<readonly string[]> {
  let mended = await mend(objects);
  for (let tries = 0; !mended.written && tries < CHECKPOINT_TRIES_MAX; tries++) {
    await moveOn(volume);
    mended = await mend(objects);
  }
  if (!mended.written) throw new GatewayError('store-failed', 'the volume does not move on');
  if (!damages.some(({ older }) => older)) return mended.problems;
  for (let kept = 1; kept < CHECKPOINTS_KEPT; kept++) {
    await moveOn(volume);
    await mend([]);
  }
  return mended.problems;
}

/** A checkpoint is of a recovery point, and each recovery point has one: there must be another. */
async function moveOn(volume: Volume): Promise<void> {
  for (let block = 0; ; block++) {
    try {
      return await requested((completion) => volume.rewrite(block, completion));
    } catch (error) {
      const rotten = error instanceof GatewayError && error.code === 'checksum-mismatch';
      if (!rotten || block + 1 >= Math.min(MOVING_BLOCKS_MAX, volume.sizeBytes / BLOCK_BYTES)) throw error;
    }
  }
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
        const sum = await this.#volume.audit.settledSum(block);
        if (sum !== undefined && sum !== sums[at]) this.#blocks.add(block);
      }
    });
  }

  async confirmed(put: boolean): Promise<number[]> {
    await this.#turn;
    const confirmed: number[] = [];
    for (const block of this.#blocks) {
      try {
        if (await this.#volume.audit.contradicted(block, put)) confirmed.push(block);
      } catch (error) {
        // The bucket does not give it, or it is written all the time: nothing is proved.
        if (!(error instanceof GatewayError)) throw error;
      }
    }
    return confirmed;
  }
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
    const [extent] = await volume.localStatus(at, sizeBytes - at, 1);
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
