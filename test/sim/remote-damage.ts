/**
 * An object of a living bucket that its provider damages or loses, and the scrub of its owner that makes the bucket whole
 * again, under load and over crashes: a root that is kept, a shard of the newest, or a segment. Blocks live in the segment at
 * the newest checkpoint and still do, so that no reader who begins there needs more of it than those blocks, which the owner
 * has. Whoever begins at an older checkpoint, or at a snapshot of before, may have lost what was in it.
 */
import { GatewayError } from '../../src/base/errors.js';
import type { ScrubReport } from '../../src/gateway/scrubber.js';
import { chainAt } from '../../src/remote/chain.js';
import { readChain } from '../../src/remote/chain-walk.js';
import { openVolumeSealer } from '../../src/remote/key.js';
import { uuidOfKey } from '../../src/remote/name.js';
import type { SegmentKey } from '../../src/remote/name.js';
import { CHECKPOINTS_KEPT } from '../../src/remote/kept-checkpoints.js';
import { RemoteBook } from '../../src/remote/remote-map-book.js';
import { isDamage, listCheckpoints, readCheckpoint } from '../../src/remote/restore-checkpoint.js';
import { HEADER_BYTES } from '../../src/remote/seal-header.js';
import type { ObjectSealer } from '../../src/remote/seal.js';
import { MapEntries, SHARD_BLOCKS } from '../../src/remote/shard-map.js';
import type { SeededRandom } from '../fake/random.js';
import { SimDisk } from './disk.js';
import { checksums, master, type SimHost } from './host.js';
import { Life, Scheduler } from './scheduler.js';
import { Violation } from './shadow.js';
import type { SimBucket } from './store.js';

/** Virtual time in which a scrub must have ended, with all that it waits for. */
const patienceMs = 3_600_000;
const triesMax = 20;
/** What a scrub says that did not do all of it. */
const failed = /was not read|could not be sent|could be written|cannot be written/;

export interface HealOptions {
  readonly host: SimHost;
  readonly bucket: SimBucket;
  readonly scheduler: Scheduler;
  readonly random: SeededRandom;
  /** Clients work for a while. */
  readonly load: () => Promise<void>;
  /** Starts the process again, and judges what it serves. */
  readonly bringBack: () => Promise<unknown>;
  readonly check: () => void;
}

/**
 * Damages a segment and lets its owner heal it; the name of the segment, or undefined where there was none to damage. The
 * owner may be down at the end.
 */
export async function healDamage(options: HealOptions): Promise<string | undefined> {
  const { host, bucket, scheduler, random, load, bringBack, check } = options;
  const recorded = host.device?.replication.durableState().segmentRecorded ?? 0;
  // What a restart finds the bucket by must be there.
  const { segments, roots, shards } = await scheduler.aside(() => neededObjects(bucket, random));
  const recordedSegments = segments.filter((key) => key.number < recorded).map(({ name }) => name);
  const kinds = [recordedSegments, roots, shards, shards].filter((names) => names.length > 0);
  const candidates = kinds[random.below(Math.max(1, kinds.length))] ?? [];
  const victim = candidates[random.below(Math.max(1, candidates.length))];
  if (victim === undefined) return undefined;
  damage(bucket, victim, random);
  for (let tries = 0; ; tries++) {
    if (tries >= triesMax) throw new Violation(`${victim} is damaged, and no scrub of ${host.name} heals it`);
    if (!host.alive) await bringBack();
    const { life } = host;
    if (tries < 3 && random.fraction() < 0.4)
      scheduler.at(random.below(4000), () => {
        if (host.life !== life || !host.alive) return;
        if (random.fraction() < 0.5) host.kill();
        else host.powerLoss();
      });
    const state = { scrubbing: true };
    const healing = scrub(host, scheduler).finally(() => (state.scrubbing = false));
    const loads = random.below(4);
    for (let more = 0; more < loads && state.scrubbing && host.alive; more++) await load();
    const found = await healing;
    check();
    if (found?.length === 0) return victim;
    if (found !== undefined && !found.some((line) => failed.test(line)))
      await proveHealed(victim, () => scheduler.aside(() => neededObjects(bucket, random)));
    // The process has ended in the middle, or did not reach the bucket yet, or all is sent again.
    await scheduler.sleep(5000);
  }
}

/** When it says that it is done, the newest checkpoint and all behind it can be read. */
async function proveHealed(victim: string, read: () => Promise<NeededObjects>): Promise<void> {
  try {
    if ((await read()).roots.length > 0) return;
  } catch (error) {
    if (!isDamage(error)) throw error;
    throw new Violation(`${victim} is said to be healed, and the newest checkpoint needs it: ${error.message}`);
  }
  throw new Violation(`${victim} is said to be healed, and the newest checkpoint cannot be read`);
}

/**
 * `keepgate scrub --heal`. What it found that can be healed; undefined: it did not come to its end. One that the load began
 * may run still, for minutes where there are hundreds of small segments on a slow store: a volume refuses another one then,
 * which tells nothing of the damage, so that this one comes behind it.
 */
async function scrub(host: SimHost, scheduler: Scheduler): Promise<readonly string[] | undefined> {
  const { gateway, life } = host;
  if (gateway === undefined || !host.alive || host.device === undefined) return undefined;
  host.shadow.rewrites = true;
  const gone = new Promise<undefined>((resolve) => life?.onDeath(() => resolve(undefined)));
  const behindAnother = async (): Promise<ScrubReport | undefined> => {
    while (host.alive && host.life === life) {
      try {
        return await gateway.scrub(true, () => undefined);
      } catch (error) {
        if (!(error instanceof GatewayError) || error.code !== 'invalid-request') throw error;
      }
      await scheduler.sleep(5000);
    }
    return undefined;
  };
  const scrubbed = gateway
    .forceFlush()
    .then((lsn) => gateway.replicateTo(lsn))
    .then(behindAnother)
    .then(
      (report) => report && (report.found.length <= report.lost ? [] : report.found),
      (error: unknown) => {
        if (error instanceof GatewayError) return undefined;
        throw error;
      },
    );
  let ended = false;
  const tooLong = scheduler.sleep(patienceMs).then(() => {
    if (ended) return undefined;
    throw new Violation(
      `a scrub of ${host.name} does not end: ${JSON.stringify(gateway.status())} ${host.log.lines.slice(-5).join('; ')}`,
    );
  });
  return Promise.race([gone, scrubbed, tooLong]).finally(() => (ended = true));
}

function damage(bucket: SimBucket, name: string, random: SeededRandom): void {
  const entry = bucket.objects.get(name);
  if (entry === undefined) throw new Violation(`${name} is missing, and blocks live in it`);
  const { body } = entry;
  const how = random.below(3);
  if (how === 0) bucket.objects.delete(name);
  else if (how === 1) bucket.objects.set(name, { ...entry, body: body.slice(0, random.below(body.length)) });
  else {
    const flipped = body.slice();
    const at = random.below(random.fraction() < 0.3 ? HEADER_BYTES : body.length);
    flipped[at] = (flipped[at] ?? 0) ^ (1 << random.below(8));
    bucket.objects.set(name, { ...entry, body: flipped });
  }
}

interface NeededObjects {
  /** In which blocks live, as the newest checkpoint and all behind it say. */
  readonly segments: readonly (SegmentKey & { readonly name: string })[];
  /** Names of those that are kept. */
  readonly roots: readonly string[];
  /** Names of the newest root's. */
  readonly shards: readonly string[];
}

/** Read in a world of its own. */
async function neededObjects(bucket: SimBucket, random: SeededRandom): Promise<NeededObjects> {
  const uuid = bucket
    .keys('')
    .map(uuidOfKey)
    .find((found) => found !== undefined);
  const none: NeededObjects = { segments: [], roots: [], shards: [] };
  if (uuid === undefined) return none;
  const world = new Scheduler();
  const life = new Life(world);
  const store = bucket.copy(world).attach(life);
  const scratch = new SimDisk(random.fork());
  const read = async (): Promise<NeededObjects> => {
    const sealer: ObjectSealer = await openVolumeSealer(store, { uuid, masters: [master], random: random.fork() });
    const keys = (await listCheckpoints(store, sealer, {})).slice(0, CHECKPOINTS_KEPT);
    const [newest] = keys;
    const checkpoint = newest && (await readCheckpoint(store, sealer, newest, {}, () => undefined));
    if (checkpoint === undefined) return none;
    const options = { store, sealer, checksums, request: {}, createdSizeBytes: checkpoint.sizeBytes };
    const book = await RemoteBook.load(checkpoint, { ...options, disk: scratch.attach(life) });
    const before = await livingIn(book);
    await readChain(chainAt(book.position, book.sizeBytes), { ...options, visit: (group) => book.apply(group) });
    const now = await livingIn(book);
    const segments = [...now]
      .filter((number) => before.has(number))
      .sort((left, right) => left - right)
      .map((number) => ({ epoch: book.epochOf(number), number }))
      .map((key) => ({ ...key, name: sealer.names.segment(key) }));
    const shards = checkpoint.mapShards.map((shard) => sealer.names.shard(shard));
    return { segments, roots: keys.map((key) => sealer.names.checkpoint(key)), shards };
  };
  const needed = await world.drive(read());
  life.end();
  return needed;
}

async function livingIn(book: RemoteBook): Promise<Set<number>> {
  const numbers = new Set<number>();
  for (let shard = 0; shard * SHARD_BLOCKS * 4096 < (book.sizeBytes ?? 0); shard++) {
    const entries = new MapEntries(await book.map.merged(shard));
    for (let at = 0; at < SHARD_BLOCKS; at++) if (entries.segment(at) > 0) numbers.add(entries.segment(at));
  }
  return numbers;
}
