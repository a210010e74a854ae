import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { emptyChain, extend, followFence } from '../../../src/remote/chain.js';
import type { ChainState } from '../../../src/remote/chain.js';
import type { SegmentKey } from '../../../src/remote/name.js';
import { actionOf, begin, next } from '../../../src/remote/ownership.js';
import type { LocalHead, OwnershipEvent, OwnershipState } from '../../../src/remote/ownership.js';
import type { Fence } from '../../../src/remote/segment-fence.js';
import type { SegmentFacts } from '../../../src/remote/segment-index.js';

/**
 * All interleavings of several processes on one bucket, where a step is one request that is applied. Processes of one
 * family share a directory (a later one starts from what the earlier recorded); families are clones of each other with
 * writes of their own, told apart by the groups' wall time. A process may be stopped at every step, simply by never
 * being scheduled again, and what it had under way may still arrive later.
 */
type Stored = { readonly facts: SegmentFacts; readonly link: Uint8Array } | { readonly fence: Fence };

interface Process {
  readonly family: number;
  readonly state: OwnershipState | undefined;
  /** Segments of the one group that it uploads once it owns, and which of them are acknowledged. */
  readonly acked: readonly boolean[];
  readonly end: 'fenced' | 'forked' | undefined;
}

interface World {
  readonly epochs: readonly number[];
  readonly objects: ReadonlyMap<string, Stored>;
  readonly processes: readonly Process[];
  /** Per family: what its superblock has. */
  readonly locals: readonly LocalHead[];
}

const GROUP = 2;
const zeroLink = new Uint8Array(32);
const freshLocal: LocalHead = { epoch: 0, number: 0, link: zeroLink, replicatedLsn: 0, durableLsn: 100 };
const nameOf = ({ epoch, number }: SegmentKey): string => `${epoch}-${number}`;

function linkOf(family: number, key: SegmentKey): Uint8Array {
  const link = new Uint8Array(32);
  link.set([1, family, key.epoch, key.number]);
  return link;
}

/** The i-th segment of the group that a process uploads behind `chain`. */
function segmentOf(
  process: Process,
  chain: ChainState,
  at: number,
): { key: SegmentKey; facts: SegmentFacts; link: Uint8Array } {
  const { epoch, number: first } = chain.nextKey;
  const key = { epoch, number: first + at };
  const previousLink = at === 0 ? chain.previousLink : linkOf(process.family, { epoch, number: first + at - 1 });
  const lsn = chain.lastGroup.lsn + 1;
  const facts: SegmentFacts = {
    groupId: first,
    groupFirstNumber: first,
    groupEnd: at === GROUP - 1,
    firstLsn: lsn,
    lastLsn: lsn,
    wallMs: process.family,
    sizeBytes: 4096,
    previousLink,
    committed: { epoch: 0, number: 0 },
  };
  return { key, facts, link: linkOf(process.family, key) };
}

/** Every world that one request of process `who` leads to. */
function steps(world: World, who: number): World[] {
  const process = world.processes[who]!;
  if (process.end !== undefined || process.state?.phase === 'refused') return [];
  const become = (changed: Partial<Process>, rest: Partial<World> = {}): World => ({
    ...world,
    ...rest,
    processes: world.processes.map((other, at) => (at === who ? { ...other, ...changed } : other)),
  });
  if (process.state === undefined) {
    return [become({ state: begin(world.locals[process.family]!, Math.max(0, ...world.epochs) + 1) })];
  }
  if (process.state.phase === 'owned') return uploads(world, process, process.state.chain, become);
  const { event, rest } = answer(world, process, process.state);
  return [become({ state: next(process.state, event) }, rest)];
}

function answer(
  world: World,
  process: Process,
  state: OwnershipState,
): { event: OwnershipEvent; rest?: Partial<World> } {
  const action = actionOf(state);
  switch (action.do) {
    case 'claim': {
      const taken = world.epochs.includes(action.epoch);
      const rest = taken ? {} : { epochs: [...world.epochs, action.epoch] };
      return { event: { type: 'claim', outcome: taken ? 'taken' : 'mine' }, rest };
    }
    case 'read': {
      const found = world.objects.get(nameOf(action.key));
      if (found === undefined) return { event: { type: 'absent' } };
      return { event: 'fence' in found ? { type: 'fence', fence: found.fence } : { type: 'segment', ...found } };
    }
    case 'compare':
      return { event: { type: 'compared', same: action.group.wallMs === process.family } };
    case 'fence': {
      const name = nameOf(action.key);
      if (world.objects.has(name)) return { event: { type: 'fencePut', outcome: 'exists' } };
      const fence = { successorEpoch: action.successorEpoch, wallMs: 0, lastGroup: action.lastGroup };
      return {
        event: { type: 'fencePut', outcome: 'stored' },
        rest: { objects: new Map(world.objects).set(name, { fence }) },
      };
    }
    case 'nothing':
      throw new Error('nothing to answer');
  }
}

/** Parallel uploads: any segment of the group may arrive next. */
function uploads(
  world: World,
  process: Process,
  chain: ChainState,
  become: (changed: Partial<Process>, rest?: Partial<World>) => World,
): World[] {
  return process.acked.flatMap((done, at) => {
    if (done) return [];
    const { key, facts, link } = segmentOf(process, chain, at);
    const found = world.objects.get(nameOf(key));
    if (found !== undefined) return [become({ end: 'fence' in found ? 'fenced' : 'forked' })];
    const acked = process.acked.map((other, segment) => other || segment === at);
    const objects = new Map(world.objects).set(nameOf(key), { facts, link });
    if (!acked.every(Boolean)) return [become({ acked }, { objects })];
    const last = segmentOf(process, chain, GROUP - 1);
    const local = { ...last.key, link: last.link, replicatedLsn: last.facts.lastLsn, durableLsn: 100 };
    // The superblock may or may not learn of the commit.
    const locals = world.locals.map((other, family) => (family === process.family ? local : other));
    return [become({ acked }, { objects, locals }), become({ acked }, { objects })];
  });
}

/** The history that a reader sees. */
function history(world: World): { families: number[]; numbers: string[] } {
  let chain = emptyChain;
  const families: number[] = [];
  const numbers: string[] = [];
  for (let read = 0; read <= 2 * world.objects.size + 1; read++) {
    const found = world.objects.get(nameOf(chain.nextKey));
    if (found === undefined) return { families, numbers };
    if ('fence' in found) {
      chain = followFence(chain, found.fence);
      continue;
    }
    const { nextKey } = chain;
    chain = extend(chain, found.facts, found.link);
    if (chain.open !== undefined) continue;
    families.push(found.facts.wallMs);
    numbers.push(nameOf(nextKey));
  }
  return assert.fail('the history leads in a circle');
}

function explore(families: readonly number[]): { worlds: number; ends: Set<string> } {
  const start: World = {
    epochs: [],
    objects: new Map(),
    processes: families.map((family) => ({
      family,
      state: undefined,
      acked: Array.from({ length: GROUP }, () => false),
      end: undefined,
    })),
    locals: [freshLocal, freshLocal],
  };
  const seen = new Set<string>();
  const ends = new Set<string>();
  const stack = [start];
  for (let world = stack.pop(); world !== undefined; world = stack.pop()) {
    const id = idOf(world);
    if (seen.has(id)) continue;
    seen.add(id);
    check(world);
    const following = world.processes.flatMap((_, who) => steps(world, who));
    if (following.length === 0) {
      ends.add(
        world.processes
          .map(({ state, end }) => end ?? (state?.phase === 'refused' ? state.code : 'owned'))
          .sort()
          .join(' '),
      );
    }
    stack.push(...following);
  }
  return { worlds: seen.size, ends };
}

const bytesAsHex = (_: string, value: unknown): unknown =>
  value instanceof Uint8Array ? Buffer.from(value.subarray(0, 4)).toString('hex') : value;

function idOf(world: World): string {
  const { epochs, objects, processes, locals } = world;
  return JSON.stringify(
    [epochs, [...objects].sort(([left], [right]) => (left < right ? -1 : 1)), processes, locals],
    bytesAsHex,
  );
}

function check(world: World): void {
  const { families, numbers } = history(world);
  assert.ok(new Set(families).size <= 1, `one history, not ${families.join(' ')}`);
  for (const process of world.processes) {
    assert.notEqual(process.end, 'forked', 'nobody finds another writer’s segment at its key');
    if (process.state?.phase !== 'owned' || !process.acked.every(Boolean)) continue;
    const last = segmentOf(process, process.state.chain, GROUP - 1);
    assert.ok(numbers.includes(nameOf(last.key)), 'what was committed stays in the history');
  }
  for (const local of world.locals) {
    if (local.number > 0) assert.ok(numbers.includes(nameOf(local)), 'what a superblock has stays in the history');
  }
}

describe('ownership, every interleaving', () => {
  it('of two lives of one directory', () => {
    const { worlds, ends } = explore([0, 0]);
    assert.ok(worlds > 100);
    assert.deepEqual([...ends].sort(), ['fenced owned', 'owned owned']);
  });

  it('of three lives of one directory', () => {
    const { worlds, ends } = explore([0, 0, 0]);
    assert.ok(worlds > 5000, `${worlds} worlds`);
    for (const end of ends) assert.ok(end.includes('owned'), `somebody owns: ${end}`);
  });

  it('of two directories that are clones', () => {
    const { ends } = explore([0, 1]);
    // The other one is fenced, or finds a history that is not its own.
    assert.deepEqual([...ends].sort(), ['fenced owned', 'owned remote-forked']);
  });

  it('of a directory with two lives and its clone', () => {
    const { ends } = explore([0, 0, 1]);
    for (const end of ends) assert.ok(end.includes('owned'), `somebody owns: ${end}`);
  });
});

describe('ownership, refusals', () => {
  const local: LocalHead = {
    epoch: 1,
    number: 4,
    link: linkOf(0, { epoch: 1, number: 4 }),
    replicatedLsn: 9,
    durableLsn: 20,
  };
  const claimed = next(begin(local, 2), { type: 'claim', outcome: 'mine' });
  const facts = (changes: Partial<SegmentFacts>): SegmentFacts => ({
    groupId: 4,
    groupFirstNumber: 4,
    groupEnd: true,
    firstLsn: 5,
    lastLsn: 9,
    wallMs: 0,
    sizeBytes: 4096,
    previousLink: zeroLink,
    committed: { epoch: 1, number: 3 },
    ...changes,
  });
  const refusal = (state: OwnershipState): string | undefined => (state.phase === 'refused' ? state.code : undefined);

  it('claims the next epoch when one is taken', () => {
    assert.deepEqual(actionOf(next(begin(local, 2), { type: 'claim', outcome: 'taken' })), { do: 'claim', epoch: 3 });
  });

  it('when the local head is gone, another one, or a fence', () => {
    assert.equal(refusal(next(claimed, { type: 'absent' })), 'remote-vanished');
    assert.equal(refusal(next(claimed, { type: 'segment', facts: facts({}), link: zeroLink })), 'remote-forked');
    assert.equal(
      refusal(next(claimed, { type: 'segment', facts: facts({ lastLsn: 10 }), link: local.link })),
      'remote-forked',
    );
    const fence = {
      successorEpoch: 3,
      wallMs: 0,
      lastGroup: { epoch: 1, number: 3, link: zeroLink, lsn: 4, wallMs: 0 },
    };
    assert.equal(refusal(next(claimed, { type: 'fence', fence })), 'remote-forked');
  });

  it('when the bucket is ahead of what is durable, before anything is fenced', () => {
    const walking = next(claimed, { type: 'segment', facts: facts({}), link: local.link });
    assert.deepEqual(actionOf(walking), { do: 'read', key: { epoch: 1, number: 5 } });
    const later = facts({ groupId: 5, groupFirstNumber: 5, firstLsn: 10, lastLsn: 21, previousLink: local.link });
    assert.equal(refusal(next(walking, { type: 'segment', facts: later, link: zeroLink })), 'remote-ahead');
    const within = next(walking, {
      type: 'segment',
      facts: { ...later, lastLsn: 20 },
      link: linkOf(0, { epoch: 1, number: 5 }),
    });
    assert.equal(actionOf(within).do, 'compare');
    assert.equal(refusal(next(within, { type: 'compared', same: false })), 'remote-forked');
    const compared = next(within, { type: 'compared', same: true });
    assert.deepEqual(actionOf(compared), { do: 'read', key: { epoch: 1, number: 6 } });
    assert.equal(actionOf(next(compared, { type: 'absent' })).do, 'fence');
  });
});
