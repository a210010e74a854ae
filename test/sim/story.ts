/**
 * Histories that go where chance rarely leads. A story is played in the place of the rounds of a history (simulation.ts), again
 * and again, in the same world, with the same troubles and the same judges; what is random in it is when and how often.
 */
import { atSomeMoment, roundPoints } from './crash-moment.js';
import type { SeededRandom } from '../fake/random.js';
import type { SimHost } from './host.js';
import type { Scheduler } from './scheduler.js';
import type { SimBucket } from './store.js';
import { fillLog } from './workload.js';

/** What a story can do with a history. */
export interface StoryWorld {
  readonly host: SimHost;
  readonly bucket: SimBucket;
  readonly random: SeededRandom;
  readonly scheduler: Scheduler;
  /** Clients work for a while. */
  load(): Promise<void>;
  snapshot(): void;
  /** The end of the process or the machine, and its way back. */
  crash(how: 'kill' | 'power' | 'stop'): Promise<void>;
  /** Gives up where that takes its time. */
  drain(): Promise<void>;
  /** The bucket loses an object, and its owner heals it. */
  heal(): Promise<void>;
}

interface Story {
  readonly play: (world: StoryWorld) => Promise<void>;
  /** Of the histories (profile.ts) that it can be told in. */
  readonly kinds: readonly number[];
}

/** `rounds`: again and again the log is let go of while a round goes up, in parts, over crashes. */
const rounds: Story = { play: playRounds, kinds: [10, 13, 14] };
/** `damage`: the bucket loses one object after another, and its owner heals it. */
const damage: Story = { play: playDamage, kinds: [0, 1, 10] };
export const stories = { rounds, damage } as const;

export type StoryName = keyof typeof stories;

async function playRounds(world: StoryWorld): Promise<void> {
  const { host, bucket, random, scheduler } = world;
  bucket.plan.outageUntilMs = 0;
  await world.load();
  await world.drain();
  bucket.plan.outageUntilMs = Infinity;
  if (random.fraction() < 0.4) world.snapshot();
  await world.load();
  await fillLog(host, scheduler);
  for (let more = 1 + random.below(4); more > 0 && host.alive; more--) {
    bucket.plan.outageUntilMs = 0;
    const crashed = random.fraction() < 0.4 ? crashSometime(world) : undefined;
    await arrived(world, random.below(6));
    bucket.plan.outageUntilMs = Infinity;
    await crashed;
    if (random.fraction() < 0.6) await world.load();
    if (random.fraction() < 0.2) world.snapshot();
    if (random.fraction() < 0.6) await fillLog(host, scheduler);
    await scheduler.sleep(random.below(8000));
    if (random.fraction() < 0.7) await world.crash(anEnd(random));
  }
  bucket.plan.outageUntilMs = 0;
  if (random.fraction() < 0.5) await world.drain();
}

/** Ends the process or the machine where the order of things matters to a round, and waits for its way back. */
async function crashSometime(world: StoryWorld): Promise<void> {
  const { host, random, scheduler } = world;
  const { life } = host;
  await new Promise<void>((resolve) =>
    atSomeMoment({ disk: host.disk, random, scheduler, withinMs: 500, points: roundPoints }, resolve),
  );
  if (host.life === life && host.alive) await world.crash(anEnd(random));
}

function anEnd(random: SeededRandom): 'kill' | 'power' | 'stop' {
  const choice = random.fraction();
  return choice < 0.35 ? 'kill' : choice < 0.9 ? 'power' : 'stop';
}

/** Resolves when a round goes up and so many segments more have arrived in the bucket, or nothing came for long. */
async function arrived({ host, bucket, scheduler }: StoryWorld, segments: number): Promise<void> {
  const { life } = host;
  const countNow = (): number => bucket.keys('').filter((key) => key.includes('/segments/')).length;
  const untilMs = scheduler.nowMs + 120_000;
  const waits = (): boolean => host.life === life && host.alive && scheduler.nowMs < untilMs;
  while (host.replication?.mode !== 'resyncing' && waits()) await scheduler.sleep(20);
  const before = countNow();
  while (countNow() < before + segments && waits()) await scheduler.sleep(20);
}

async function playDamage(world: StoryWorld): Promise<void> {
  const { host, random, scheduler } = world;
  for (let more = 4 + random.below(6); more > 0 && host.alive; more--) {
    await world.load();
    await world.drain();
    // By then there is a checkpoint, most of the time.
    await scheduler.sleep(random.below(20_000));
    await world.heal();
  }
}
