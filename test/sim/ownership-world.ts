/**
 * What there is in the model of the ownership protocol: the bucket, requests that are still under way, and processes with
 * their directories. Worlds are values: a step makes a new one that shares what did not change.
 *
 * Contents are modelled by who wrote them: a log is a list of authors, one per LSN, so that a clone's write at an LSN
 * differs from the original's. A link stands for its object: two objects never have the same one.
 */
import { chainOrigin } from '../../src/remote/segment-point.js';
import type { ChainPoint } from '../../src/remote/segment-point.js';
import type { SegmentKey } from '../../src/remote/name.js';
import type { LocalHead, OwnershipState } from '../../src/remote/ownership.js';
import type { Fence } from '../../src/remote/segment-fence.js';
import type { SegmentFacts } from '../../src/remote/segment-index.js';
import { keyText } from '../../src/remote/chain.js';
import type { Reading } from './ownership-reader.js';

interface Sealed {
  readonly id: number;
  readonly key: SegmentKey;
  /** The life that sealed it: no two lives seal with the same salt. */
  readonly incarnation: number;
  /** Serves as the salt, too. */
  readonly link: Uint8Array;
}

export type Segment = Sealed & {
  readonly kind: 'segment';
  readonly index: SegmentFacts;
  /** Of its whole group, firstLsn to lastLsn. */
  readonly authors: readonly number[];
};
export type StoredFence = Sealed & { readonly kind: 'fence'; readonly fence: Fence };
export type Stored = Segment | StoredFence;

/** Equal buckets are one object. */
export interface Bucket {
  readonly name: string;
  readonly epochs: readonly number[];
  readonly objects: ReadonlyMap<string, Stored>;
  /** The newest checkpoint; what lies before it may be gone. */
  readonly checkpoint: Checkpoint | undefined;
  /** What a reader finds in it; made when it is asked for (ownership-reader.ts). */
  reading?: Reading;
}

/** A history up to a point, as its checkpoint gives it back. */
export type Checkpoint = Pick<Reading, 'points' | 'links' | 'authors' | 'visited'>;

/** Requests of senders that are gone: each may arrive at any time, or never. */
export interface Network {
  readonly claims: readonly number[];
  readonly puts: readonly Stored[];
  name?: string;
}

export interface Directory {
  /** What the superblock has; it may lag behind what was committed. */
  readonly head: ChainPoint;
  readonly log: readonly number[];
}

export interface Group {
  readonly firstLsn: number;
  readonly lastLsn: number;
  readonly count: number;
  /** As many as are sent. */
  readonly segments: readonly { readonly object: Segment; readonly acked: boolean }[];
}

export interface Owner {
  readonly is: 'owner';
  readonly epoch: number;
  /** End of what was sealed. */
  readonly tail: Pick<ChainPoint, 'number' | 'link' | 'lsn'>;
  readonly groups: readonly Group[];
  /** What it reported as committed. */
  readonly committed: ChainPoint;
}

/** Down: not started yet, crashed, refused or fenced. */
export type Life = { readonly is: 'down' } | { readonly is: 'acquiring'; readonly state: OwnershipState } | Owner;

export interface Process {
  /** undefined: not made yet. */
  readonly directory: Directory | undefined;
  readonly life: Life;
  /** Times it was started. */
  readonly lives: number;
  name?: string;
}

/** A restore that reads key by key while the others go on. */
export interface ReaderState {
  readonly at: 'idle' | 'walking' | 'behind' | 'doubting' | 'done';
  readonly chain: Reading['end'];
  readonly visited: readonly number[];
  name?: string;
}

export interface World {
  readonly bucket: Bucket;
  readonly network: Network;
  readonly processes: readonly Process[];
  readonly reader: ReaderState | undefined;
  /** Objects may be deleted: a bound of the whole exploration. */
  readonly deletes: boolean;
}

export const processNames = ['original', 'clone', 'takeover'] as const;
export const down: Life = { is: 'down' };

/** One object of each kind of content, so that equal worlds are made of equal objects. */
const sealed = new Map<string, Stored>();

function linkOf(id: number): Uint8Array {
  const link = new Uint8Array(32);
  new DataView(link.buffer).setUint32(0, id);
  link[31] = 1;
  return link;
}

export function linkId(link: Uint8Array): number {
  return new DataView(link.buffer, link.byteOffset).getUint32(0);
}

function seal<Kind extends Stored>(name: string, make: (sealedAs: { id: number; link: Uint8Array }) => Kind): Kind {
  // The name begins with the kind, so that the object that is found is of it.
  const there = sealed.get(name) as Kind | undefined;
  if (there !== undefined) return there;
  const id = sealed.size + 1;
  const made = make({ id, link: linkOf(id) });
  sealed.set(name, made);
  return made;
}

export function sealSegment(
  content: { readonly key: SegmentKey; readonly incarnation: number; readonly authors: readonly number[] },
  index: SegmentFacts,
): Segment {
  const { key, incarnation, authors } = content;
  const parts = [keyText(key), incarnation, index.groupFirstNumber, index.groupEnd, index.firstLsn, index.lastLsn];
  const name = `segment ${parts.join()} ${authors.join('')} ${linkId(index.previousLink)} ${keyText(index.committed)}`;
  return seal(name, (as) => ({ ...as, kind: 'segment', ...content, index }));
}

export function sealModelFence(key: SegmentKey, incarnation: number, fence: Fence): StoredFence {
  const name = `fence ${keyText(key)},${incarnation} ${fence.successorEpoch} ${linkId(fence.lastGroup.link)}`;
  return seal(name, (as) => ({ ...as, kind: 'fence', key, incarnation, fence }));
}

export function localHeadOf({ head, log }: Directory): LocalHead {
  const { epoch, number, link, lsn } = head;
  return { epoch, number, link, replicatedLsn: lsn, durableLsn: log.length };
}

export function withObject(bucket: Bucket, object: Stored): Bucket {
  return bucketOf(bucket.epochs, new Map(bucket.objects).set(keyText(object.key), object), bucket.checkpoint);
}

/** A request to a key that is taken changes nothing any more, unless what lies there can be deleted. */
export function withoutSpent(network: Network, bucket: Bucket, deletes: boolean): Network {
  const puts = network.puts.filter(({ key }) => {
    const there = bucket.objects.get(keyText(key));
    return there === undefined || (deletes && there.kind === 'segment');
  });
  const claims = network.claims.filter((epoch) => !bucket.epochs.includes(epoch));
  if (puts.length === network.puts.length && claims.length === network.claims.length) return network;
  return { puts, claims };
}

export const emptyDirectory: Directory = { head: chainOrigin, log: [] };

/** Names of parts are numbered, so that a world's name is short. */
const numbered = new Map<string, number>();

function numberOf(text: string): string {
  let number = numbered.get(text);
  if (number === undefined) {
    number = numbered.size;
    numbered.set(text, number);
  }
  return number.toString(36);
}

const buckets = new Map<string, Bucket>();

export function bucketOf(
  epochs: readonly number[],
  objects: ReadonlyMap<string, Stored>,
  checkpoint: Checkpoint | undefined,
): Bucket {
  const ids = [...objects.values()].map(({ id }) => id).sort((left, right) => left - right);
  const name = numberOf(`b${epochs.join()} ${ids.join()} ${checkpoint?.links.join() ?? ''}`);
  let bucket = buckets.get(name);
  if (bucket === undefined) {
    bucket = { name, epochs, objects, checkpoint };
    buckets.set(name, bucket);
  }
  return bucket;
}

function networkName(network: Network): string {
  const ids = network.puts.map(({ id }) => id).sort((left, right) => left - right);
  network.name ??= numberOf(`n${[...network.claims].sort().join()} ${ids.join()}`);
  return network.name;
}

function lifeText(life: Life): string {
  switch (life.is) {
    case 'down':
      return 'down';
    case 'acquiring': {
      const { state } = life;
      if (state.phase === 'owned' || state.phase === 'refused') return state.phase;
      const { local, epoch, phase } = state;
      const chain = 'chain' in state ? chainText(state.chain) : '';
      const ahead = 'ahead' in state ? state.ahead : '';
      const fenced = 'fenced' in state && state.fenced ? 'fenced' : '';
      return `${phase} ${epoch} ${linkId(local.link)} ${local.durableLsn} ${chain} ${ahead}${fenced}`;
    }
    case 'owner': {
      const groups = life.groups.map(
        ({ lastLsn, count, segments }) =>
          `${lastLsn}/${count}:${segments.map(({ object, acked }) => `${object.id}${acked ? '+' : '-'}`).join('')}`,
      );
      return `owner ${life.epoch} ${linkId(life.tail.link)} ${linkId(life.committed.link)} ${groups.join()}`;
    }
  }
}

export function chainText({ nextKey, lastGroup, previousLink, open }: Reading['end']): string {
  return `${keyText(nextKey)} ${linkId(lastGroup.link)} ${linkId(previousLink)}${open === undefined ? '' : ' open'}`;
}

export function processName(process: Process): string {
  if (process.name !== undefined) return process.name;
  const { directory, life, lives } = process;
  const local = directory === undefined ? '' : `${linkId(directory.head.link)} ${directory.log.join('')}`;
  process.name = numberOf(`p${lives} ${local} ${lifeText(life)}`);
  return process.name;
}

function readerName(reader: ReaderState): string {
  reader.name ??= numberOf(`r${reader.at} ${chainText(reader.chain)} ${reader.visited.join()}`);
  return reader.name;
}

export function worldName({ bucket, network, processes, reader }: World): string {
  const parts = [bucket.name, networkName(network), ...processes.map(processName)];
  if (reader !== undefined) parts.push(readerName(reader));
  return parts.join(' ');
}
