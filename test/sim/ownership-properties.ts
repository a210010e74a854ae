/**
 * What must hold in every state of the ownership protocol's model (docs/durability.md, P2 and P7).
 */
import { keyText } from '../../src/remote/chain.js';
import type { ChainPoint } from '../../src/remote/segment-point.js';
import type { System } from './explorer.js';
import { read } from './ownership-reader.js';
import { idleReader } from './ownership-reader-steps.js';
import { acquire, start, stepsOf } from './ownership-steps.js';
import type { Bounds } from './ownership-steps.js';
import { bucketOf, down, emptyDirectory, linkId, processName, processNames, worldName } from './ownership-world.js';
import type { World } from './ownership-world.js';

export function ownershipSystem(bounds: Bounds): System<World> {
  const settled = new Set<string>();
  return {
    start: {
      bucket: bucketOf([], new Map(), undefined),
      network: { claims: [], puts: [] },
      processes: bounds.lives.map((_, who) => ({
        directory: who === 0 ? emptyDirectory : undefined,
        life: down,
        lives: 0,
      })),
      reader: bounds.reader ? idleReader : undefined,
      deletes: bounds.deletes,
    },
    nameOf: worldName,
    stepsOf: (world) =>
      stepsOf(world, bounds).map((step) =>
        step.problem === undefined ? { ...step, problem: overridden(world, step.to) } : step,
      ),
    problemOf: (world) =>
      read(world.bucket).problem ??
      mixture(world) ??
      lostCommit(world) ??
      ownerProblem(world) ??
      livelock(world, settled),
  };
}

/** What a reader once found is never lost and never replaced. */
function overridden(before: World, after: World): string | undefined {
  if (before.bucket === after.bucket) return undefined;
  const then = read(after.bucket).links;
  const lost = read(before.bucket).links.findIndex((link, at) => then[at] !== link);
  return lost < 0
    ? undefined
    : `the group that readers found at ${pointText(read(before.bucket).points[lost])} is lost`;
}

/** The history is one directory's, never a mixture. */
function mixture({ bucket, processes }: World): string | undefined {
  const { authors } = read(bucket);
  const one = processes.some(({ directory }) => authors.every((author, at) => directory?.log[at] === author));
  return one ? undefined : `the history ${authors.join(' ')} (who wrote each LSN) is nobody’s`;
}

/** Whatever a process holds for committed, recorded or not, is in what readers find. */
function lostCommit({ bucket, processes }: World): string | undefined {
  const { links } = read(bucket);
  const lost = (point: ChainPoint | undefined): boolean =>
    point !== undefined && point.number > 0 && !links.includes(linkId(point.link));
  for (const [who, { directory, life }] of processes.entries()) {
    if (lost(directory?.head)) return `${processNames[who]!} has recorded ${pointText(directory?.head)}, which is lost`;
    if (life.is === 'owner' && lost(life.committed)) {
      return `${processNames[who]!} has committed ${pointText(life.committed)}, which is lost`;
    }
  }
  return undefined;
}

/** Readers come to one epoch's end, which one process at most can go on from; every other owner is fenced already. */
function ownerProblem({ bucket, processes }: World): string | undefined {
  const { end, visited } = read(bucket);
  const owned = processes.flatMap(({ life }) => (life.is === 'owner' ? [life.epoch] : []));
  const lost = owned.find((epoch) => !visited.includes(epoch));
  if (lost !== undefined) return `the owner of epoch ${lost} uploads where no reader comes`;
  const unfenced = owned.filter((epoch) => epoch === end.nextKey.epoch);
  return unfenced.length > 1 ? `epoch ${end.nextKey.epoch} has ${unfenced.length} owners` : undefined;
}

/** Whoever goes on alone comes to an end: it owns, or it is refused. */
function livelock(world: World, settled: Set<string>): string | undefined {
  for (const [who, process] of world.processes.entries()) {
    const { life, directory } = process;
    const startable = life.is === 'down' && directory !== undefined;
    if (life.is !== 'acquiring' && !startable) continue;
    const name = `${world.bucket.name} ${processName(process)} ${who}`;
    if (settled.has(name)) continue;
    settled.add(name);
    const { objects, epochs } = world.bucket;
    // Each object is read once and each complete group compared once; two epochs are claimed, or found to be taken; at
    // the end of each epoch it looks for a checkpoint, reads once more, and looks again behind its fence.
    let left = 2 * objects.size + 4 * epochs.length + 8;
    let alone = startable ? start(world, who) : world;
    for (; alone.processes[who]!.life.is === 'acquiring'; left--) {
      if (left === 0) return `${processNames[who]!} would go on taking ownership for ever`;
      alone = acquire(alone, who).to;
    }
  }
  return undefined;
}

function pointText(point: ChainPoint | undefined): string {
  return point === undefined ? '' : keyText(point);
}
