/**
 * The steps of the ownership protocol's model. What a step decides comes from the program itself: `begin`, `next` and
 * `actionOf` of ownership.ts, `extend` and `followFence` of chain.ts, and upload-rules.ts. This file only plays the
 * bucket, the network, the clock (anything may be late for ever) and the power supply.
 *
 * Left out because it adds nothing:
 * - a PUT that is lost: it is one that never arrives; a second delivery: the key is taken by then;
 * - replies of claims and fences that come late: who waits does nothing else, so it is as if the PUT were applied later;
 * - the crash of a process that is not started again: it is paused for ever, and its PUTs may arrive all the same;
 * - recording durably that one was fenced: such a process never starts again, as if it were paused.
 */
import { keyText } from '../../src/remote/chain.js';
import { actionOf, begin, next } from '../../src/remote/ownership.js';
import type { OwnershipEvent, OwnershipState } from '../../src/remote/ownership.js';
import { samePoint } from '../../src/remote/chain.js';
import { committedCount, conflictOf, outcomeOf } from '../../src/remote/upload-rules.js';
import { chainOrigin } from '../../src/remote/segment-point.js';
import type { ChainPoint } from '../../src/remote/segment-point.js';
import type { SegmentKey } from '../../src/remote/name.js';
import type { Step } from './explorer.js';
import { read } from './ownership-reader.js';
import { readerSteps } from './ownership-reader-steps.js';
import {
  bucketOf,
  down,
  localHeadOf,
  processNames,
  sealModelFence,
  sealSegment,
  withObject,
  withoutSpent,
} from './ownership-world.js';
import type { Bucket, Directory, Group, Network, Owner, Process, Stored, World } from './ownership-world.js';

export interface Bounds {
  /** Writes of its own that each process makes. */
  readonly writes: readonly number[];
  /** Times that each process is started; 0: it is left out. */
  readonly lives: readonly number[];
  readonly slots: number;
  /** Segments of one group. */
  readonly groupSegmentsMax: number;
  /** A reply may come any time after its PUT was applied. */
  readonly lateReplies: boolean;
  /** With a reader that reads while the others go on. */
  readonly reader: boolean;
  /** Owners write checkpoints, and delete what lies before. */
  readonly deletes: boolean;
}

type ModelStep = Step<World>;

export function stepsOf(world: World, bounds: Bounds): ModelStep[] {
  const steps: ModelStep[] = [];
  for (const who of world.processes.keys()) steps.push(...processSteps(world, who, bounds));
  for (const object of world.network.puts) {
    if (world.bucket.objects.has(keyText(object.key))) continue;
    steps.push({
      what: () => `a late PUT of ${textOf(object)} arrives`,
      to: store(world, object),
      mark: `a late ${object.kind}`,
    });
  }
  for (const epoch of world.network.claims) {
    steps.push({
      what: () => `a late PUT of the claim of epoch ${epoch} arrives`,
      to: claim(world, epoch),
      mark: 'a late claim',
    });
  }
  if (world.reader !== undefined) steps.push(...readerSteps(world, world.reader));
  return steps;
}

function processSteps(world: World, who: number, bounds: Bounds): ModelStep[] {
  const process = world.processes[who]!;
  const { directory, life } = process;
  if (bounds.lives[who] === 0) return [];
  if (directory === undefined) return makeDirectory(world, who);
  const again = process.lives < bounds.lives[who]!;
  // Whether it still matters what the directory holds when its process is gone.
  const outlives = again || (who === 0 && bounds.lives[1]! > 0 && world.processes[1]!.directory === undefined);
  switch (life.is) {
    case 'down': {
      if (!outlives) return [];
      const steps = writes(world, who, directory, bounds);
      if (again && directory.log.length > directory.head.lsn) {
        steps.push({ what: () => `${processNames[who]!} starts`, to: start(world, who) });
      }
      return steps;
    }
    case 'acquiring': {
      const steps = [acquire(world, who)];
      if (outlives) steps.push(...writes(world, who, directory, bounds));
      if (again) steps.push(crash(world, who));
      return steps;
    }
    case 'owner': {
      const steps = writes(world, who, directory, bounds);
      steps.push(...seals(world, who, life, bounds), ...answers(world, who, life, bounds));
      if (bounds.deletes) steps.push(...deletes(world, who, life, directory));
      // What is recorded bounds what is deleted.
      if ((outlives || bounds.deletes) && life.committed.number > directory.head.number) {
        steps.push({
          what: () => `${processNames[who]!} records ${keyText(life.committed)} durably, and frees its log up to there`,
          to: become(world, who, { directory: { ...directory, head: life.committed } }),
        });
      }
      if (again) steps.push(crash(world, who));
      return steps;
    }
  }
}

/** The clone copies the original's directory, a takeover restores what a reader finds; both at any time. */
function makeDirectory(world: World, who: number): ModelStep[] {
  if (processNames[who] === 'clone') {
    const { directory } = world.processes[0]!;
    if (directory === undefined) return [];
    return [{ what: () => 'the directory is copied', to: become(world, who, { directory }) }];
  }
  const { points, authors } = read(world.bucket);
  const head = points.at(-1) ?? chainOrigin;
  return [
    {
      what: () => `restore --take-over of ${keyText(head)}`,
      to: become(world, who, { directory: { head, log: authors } }),
    },
  ];
}

function writes(world: World, who: number, directory: Directory, bounds: Bounds): ModelStep[] {
  const { log } = directory;
  if (log.filter((author) => author === who).length >= bounds.writes[who]!) return [];
  return [
    {
      what: () => `${processNames[who]!} writes LSN ${log.length + 1}`,
      to: become(world, who, { directory: { ...directory, log: [...log, who] } }),
    },
  ];
}

export function start(world: World, who: number): World {
  const { directory, lives } = world.processes[who]!;
  const local = localHeadOf(directory!);
  // As lowestFreeEpoch of ownership-driver.ts.
  const epoch = Math.max(local.epoch, 0, ...world.bucket.epochs) + 1;
  return become(world, who, { life: { is: 'acquiring', state: begin(local, epoch) }, lives: lives + 1 });
}

/** One request of a process that takes ownership, applied and answered. */
export function acquire(world: World, who: number): ModelStep {
  const process = world.processes[who]!;
  const { life, directory } = process;
  if (life.is !== 'acquiring') throw new Error('only who acquires can go on acquiring');
  const { event, to } = answer(world, who, directory!, life.state);
  const state = next(life.state, event);
  const refused = (): string => (state.phase === 'refused' ? `; it is refused: ${state.code}` : '');
  const what = (): string =>
    `${processNames[who]!} ${actionText(life.state)}: ${event.type}${outcomeText(event)}${refused()}`;
  if (state.phase === 'refused') {
    const incarnation = incarnationOf(who, process);
    const { visited } = read(to.bucket);
    const refusal = state.code;
    const sealedBy = [...to.bucket.objects.values(), ...to.network.puts].filter(
      (object) =>
        object.kind === 'fence' &&
        object.incarnation === incarnation &&
        // Where a segment was deleted no walk from a checkpoint meets it; or it counted, and its epoch was fenced in turn.
        (!to.deletes || (visited.includes(object.fence.successorEpoch) && refusal !== 'fenced')),
    );
    const problem = sealedBy.length > 0 ? `${processNames[who]!} was refused, and has put a fence` : undefined;
    return { what, to: become(to, who, { life: down }), problem, mark: `${who} ${state.code}` };
  }
  if (state.phase !== 'owned') {
    const mark = 'outcome' in event ? `${event.type} ${event.outcome}` : undefined;
    return { what, to: become(to, who, { life: { is: 'acquiring', state } }), mark };
  }
  const { lastGroup } = state.chain;
  // As Replicator: what an earlier life sent and did not live to record is recorded now.
  const committed = lastGroup.number > directory!.head.number ? lastGroup : directory!.head;
  const owner: Owner = { is: 'owner', epoch: state.epoch, tail: lastGroup, groups: [], committed };
  const owned = become(to, who, { life: owner });
  return { what: () => `${what()}; it owns epoch ${state.epoch}`, to: owned, mark: `${who} owned` };
}

function answer(
  world: World,
  who: number,
  directory: Directory,
  state: OwnershipState,
): { event: OwnershipEvent; to: World } {
  const action = actionOf(state);
  const { objects, epochs } = world.bucket;
  switch (action.do) {
    case 'claim':
      if (epochs.includes(action.epoch)) return { event: { type: 'claim', outcome: 'taken' }, to: world };
      return { event: { type: 'claim', outcome: 'mine' }, to: claim(world, action.epoch) };
    case 'read': {
      const found = objects.get(keyText(action.key));
      if (found === undefined) return { event: { type: 'absent' }, to: world };
      if (found.kind === 'fence') return { event: { type: 'fence', fence: found.fence }, to: world };
      return { event: { type: 'segment', facts: found.index, link: found.link }, to: world };
    }
    case 'compare': {
      const found = objects.get(keyText(action.group));
      const same =
        found?.kind === 'segment' &&
        found.authors.every((author, at) => directory.log[found.index.firstLsn - 1 + at] === author);
      return { event: { type: 'compared', same }, to: world };
    }
    case 'lookAhead': {
      const newest = world.bucket.checkpoint?.points.at(-1)?.number ?? 0;
      return { event: { type: 'ahead', number: newest >= action.number ? newest : 0 }, to: world };
    }
    case 'fence': {
      if (objects.has(keyText(action.key))) return { event: { type: 'fencePut', outcome: 'exists' }, to: world };
      return { event: { type: 'fencePut', outcome: 'stored' }, to: store(world, fenceOf(world, who, action)) };
    }
    case 'nothing':
      throw new Error('an ended machine asks for nothing');
  }
}

function fenceOf(
  world: World,
  who: number,
  action: { key: SegmentKey; successorEpoch: number; lastGroup: ChainPoint },
) {
  const { key, successorEpoch, lastGroup } = action;
  const fence = { successorEpoch, wallMs: 0, lastGroup };
  return sealModelFence(key, incarnationOf(who, world.processes[who]!), fence);
}

/** The owner goes on sending: the next segment of the group that it is at, or the first of any group that it may cut. */
function seals(world: World, who: number, life: Owner, bounds: Bounds): ModelStep[] {
  const pending = life.groups.flatMap(({ segments }) => segments).filter(({ acked }) => !acked);
  if (pending.length >= bounds.slots) return [];
  const current = life.groups.at(-1);
  if (current !== undefined && current.segments.length < current.count) {
    return [sealNext(world, who, life, life.groups.slice(0, -1), current)];
  }
  const durableLsn = world.processes[who]!.directory!.log.length;
  const steps: ModelStep[] = [];
  for (let lastLsn = life.tail.lsn + 1; lastLsn <= durableLsn; lastLsn++) {
    for (let count = 1; count <= bounds.groupSegmentsMax; count++) {
      const group = { firstLsn: life.tail.lsn + 1, lastLsn, count, segments: [] };
      steps.push(sealNext(world, who, life, life.groups, group));
    }
  }
  return steps;
}

/** As Replicator.#send and GroupSealer.seal. */
function sealNext(world: World, who: number, life: Owner, before: readonly Group[], group: Group): ModelStep {
  const process = world.processes[who]!;
  const key = { epoch: life.epoch, number: life.tail.number + 1 };
  const groupFirstNumber = key.number - group.segments.length;
  const { firstLsn, lastLsn } = group;
  const { epoch, number } = life.committed;
  const authors = process.directory!.log.slice(firstLsn - 1, lastLsn);
  const object = sealSegment(
    { key, incarnation: incarnationOf(who, process), authors },
    {
      role: 'data',
      groupId: groupFirstNumber,
      groupFirstNumber,
      groupEnd: group.segments.length + 1 === group.count,
      firstLsn,
      lastLsn,
      wallMs: 0,
      sizeBytes: 4096,
      previousLink: life.tail.link,
      committed: { epoch, number },
    },
  );
  const segments = [...group.segments, { object, acked: false }];
  const owner: Owner = {
    ...life,
    tail: { number: key.number, link: object.link, lsn: lastLsn },
    groups: [...before, { ...group, segments }],
  };
  return {
    what: () => `${processNames[who]!} sends ${textOf(object)}`,
    to: become(world, who, { life: owner }),
  };
}

/** PUTs of a living owner arrive, and are answered. */
function answers(world: World, who: number, life: Owner, bounds: Bounds): ModelStep[] {
  const steps: ModelStep[] = [];
  for (const { segments } of life.groups) {
    for (const { object, acked } of segments) {
      if (acked) continue;
      const there = world.bucket.objects.get(keyText(object.key));
      if (there !== undefined) {
        steps.push(answered(world, who, life, object, there));
        continue;
      }
      const stored = store(world, object);
      if (bounds.lateReplies) {
        steps.push({ what: () => `${processNames[who]!}’s PUT of ${textOf(object)} arrives`, to: stored });
      } else {
        steps.push(answered(stored, who, life, object, object));
      }
    }
  }
  return steps;
}

/** `there` lies at the key of `own`, and the sender learns it. */
function answered(world: World, who: number, life: Owner, own: Stored, there: Stored): ModelStep {
  const name = processNames[who]!;
  if (outcomeOf({ salt: there.link, kind: there.kind }, { salt: own.link }).outcome === 'other') {
    const { code } = conflictOf(own.key, there);
    const sent = life.groups.flatMap(({ segments }) => segments).filter(({ acked }) => !acked);
    return {
      what: () => `${name} learns that ${textOf(there)} lies where it put ${textOf(own)}: ${code}`,
      to: become(leave(world, { puts: sent.map(({ object }) => object) }), who, { life: down }),
      mark: `${who} ${code}`,
      problem: code === 'fenced' ? undefined : `${name} finds another writer’s segment in the epoch that it claimed`,
    };
  }
  const acked = life.groups.map((group) => ({
    ...group,
    segments: group.segments.map((segment) => (segment.object === own ? { ...segment, acked: true } : segment)),
  }));
  const count = committedCount(
    acked.map(({ segments, count: wanted }) => ({
      ended: segments.length === wanted,
      pending: segments.filter((segment) => !segment.acked).length,
    })),
  );
  const last = acked[count - 1]?.segments.at(-1)?.object;
  const committed =
    last === undefined ? life.committed : { ...last.key, link: last.link, lsn: last.index.lastLsn, wallMs: 0 };
  const lost = read(world.bucket).points.some((point) => samePoint(point, committed)) ? '' : keyText(committed);
  return {
    what: () => `${name} learns that ${textOf(own)} is stored${count > 0 ? `, and commits ${keyText(committed)}` : ''}`,
    to: become(world, who, { life: { ...life, groups: acked.slice(count), committed } }),
    mark: count > 0 ? `${who} committed` : undefined,
    problem: count > 0 && lost !== '' ? `${name} commits ${lost}, which no reader finds` : undefined,
  };
}

/**
 * As deletion.ts: below the newest checkpoint, and below what the directory has recorded, segments go, valid or void;
 * fences and epochs stay. All of them at once, and all dead: what lives is no business of ownership. Void is what lies
 * behind the end of an epoch from which fences led here; an epoch that was only claimed may come yet, whatever its number.
 */
function deletes(world: World, who: number, life: Owner, { head }: Directory): ModelStep[] {
  const { points, links, authors, visited } = read(world.bucket);
  const at = points.findIndex((point) => samePoint(point, life.committed));
  if (at < 0 || life.committed.epoch !== life.epoch) return [];
  const kept = points.slice(0, at + 1);
  const floor = Math.min(life.committed.number, head.number);
  const passed = visited.slice(0, visited.indexOf(life.epoch) + 1);
  const endOf = (epoch: number): number => kept.findLast((point) => point.epoch === epoch)?.number ?? 0;
  const isDead = ({ key: { epoch, number }, kind }: Stored): boolean => {
    const end = endOf(epoch);
    if (kind === 'fence' || !passed.includes(epoch)) return false;
    return number <= end ? number < floor : epoch !== life.epoch && end < floor;
  };
  const objects = new Map([...world.bucket.objects].filter(([, object]) => !isDead(object)));
  if (objects.size === world.bucket.objects.size) return [];
  const checkpoint = {
    points: kept,
    links: links.slice(0, at + 1),
    authors: authors.slice(0, life.committed.lsn),
    visited: passed,
  };
  return [
    {
      what: () => `${processNames[who]!} writes a checkpoint of ${keyText(life.committed)}, and deletes below ${floor}`,
      to: { ...world, bucket: bucketOf(world.bucket.epochs, objects, checkpoint) },
      mark: 'segments are deleted',
    },
  ];
}

/** What was under way stays under way; what was not recorded is forgotten. */
function crash(world: World, who: number): ModelStep {
  const process = world.processes[who]!;
  const { life } = process;
  let to = world;
  if (life.is === 'owner') {
    const sent = life.groups.flatMap(({ segments }) => segments).filter(({ acked }) => !acked);
    to = leave(world, { puts: sent.map(({ object }) => object) });
  } else if (life.is === 'acquiring') {
    const action = actionOf(life.state);
    if (action.do === 'claim') to = leave(world, { claims: [action.epoch] });
    if (action.do === 'fence') to = leave(world, { puts: [fenceOf(world, who, action)] });
  }
  return { what: () => `${processNames[who]!} crashes`, to: become(to, who, { life: down }) };
}

function leave(world: World, left: Partial<Pick<Network, 'claims' | 'puts'>>): World {
  const puts = [...new Set([...world.network.puts, ...(left.puts ?? [])])];
  const claims = [...new Set([...world.network.claims, ...(left.claims ?? [])])];
  return { ...world, network: withoutSpent({ puts, claims }, world.bucket, world.deletes) };
}

function store(world: World, object: Stored): World {
  return inBucket(world, withObject(world.bucket, object));
}

function claim(world: World, epoch: number): World {
  const epochs = [...world.bucket.epochs, epoch].sort((left, right) => left - right);
  return inBucket(world, bucketOf(epochs, world.bucket.objects, world.bucket.checkpoint));
}

function inBucket(world: World, bucket: Bucket): World {
  return { ...world, bucket, network: withoutSpent(world.network, bucket, world.deletes) };
}

export function become(world: World, who: number, changed: Partial<Process>): World {
  const processes = world.processes.slice();
  const { directory, life, lives } = world.processes[who]!;
  processes[who] = { directory, life, lives, ...changed };
  return { ...world, processes };
}

function incarnationOf(who: number, { lives }: Process): number {
  return 100 * (who + 1) + lives;
}

function textOf(object: Stored): string {
  const name = keyText(object.key);
  if (object.kind === 'fence') {
    return `the fence at ${name} (to epoch ${object.fence.successorEpoch}, after ${keyText(object.fence.lastGroup)})`;
  }
  const { groupFirstNumber, groupEnd, firstLsn, lastLsn } = object.index;
  const group =
    groupEnd && groupFirstNumber === object.key.number ? '' : groupEnd ? ', ends its group' : ', to be continued';
  return `segment ${name} (LSN ${firstLsn} to ${lastLsn}${group})`;
}

function actionText(state: OwnershipState): string {
  const action = actionOf(state);
  switch (action.do) {
    case 'claim':
      return `claims epoch ${action.epoch}`;
    case 'read':
      return `reads ${keyText(action.key)}`;
    case 'compare':
      return `compares ${keyText(action.group)} with its log`;
    case 'lookAhead':
      return `looks for a checkpoint from ${action.number} on`;
    case 'fence':
      return `puts a fence at ${keyText(action.key)} to epoch ${action.successorEpoch}`;
    case 'nothing':
      return 'nothing';
  }
}

function outcomeText(event: OwnershipEvent): string {
  if (event.type === 'compared') return event.same ? ', the same' : ', another';
  if (event.type === 'ahead') return ` ${event.number}`;
  return 'outcome' in event ? ` ${event.outcome}` : '';
}
