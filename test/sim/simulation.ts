/**
 * One history: a seed chooses what can go wrong, and when. Clients work, machines crash and come back, the bucket
 * misbehaves; after every crash the volume is read and judged, and again and again the bucket is restored and judged.
 * At the end everything works again: all must drain, and a restore must give exactly what the volume holds.
 */
import { GatewayError, type ErrorCode } from '../../src/base/errors.js';
import { SeededRandom } from '../fake/random.js';
import type { HydrationPort } from '../../src/gateway/hydration-line.js';
import { atSomeMoment, recoveryPoints, turningPoints } from './crash-moment.js';
import { SimDisk } from './disk.js';
import { SimHost } from './host.js';
import { BucketJudge, isSame } from './bucket-judge.js';
import { bucketPort, restoreLazily } from './hydration-bucket.js';
import { playHydration } from './hydration.js';
import { LostOwner } from './lost-owner.js';
import { drawProfile, type Profile } from './profile.js';
import { healDamage } from './remote-damage.js';
import type { RestoredDisk } from './restore.js';
import { Life, Scheduler } from './scheduler.js';
import { BLOCK, Shadow, Violation } from './shadow.js';
import { SimBucket } from './store.js';
import { stories, type StoryName } from './story.js';
import { resetIds, runLoad } from './workload.js';

const MIB = 1024 * 1024;
/** Virtual time in which a healthy gateway must have drained and opened. */
const patienceMs = 3_600_000;

/** Share of the rounds, and of the ends, at which the bucket loses an object, where nothing else is wrong with it. */
const healShare = 0.02;
const healShareAtEnd = 0.5;

export interface SimulationResult {
  readonly seed: number;
  readonly profile: string;
  readonly operations: number;
  readonly crashes: number;
  readonly restores: number;
  /** That had to succeed, and did. */
  readonly takeOvers: number;
  readonly events: number;
  readonly digest: string;
}

/** Plays one seed, its rounds as a story tells where one is given; rejects with what was violated. */
export async function simulate(seed: number, operationsMin = 500, story?: StoryName): Promise<SimulationResult> {
  resetIds();
  const simulation = new Simulation(seed, operationsMin, story);
  return simulation.scheduler.drive(simulation.run());
}

class Simulation {
  readonly scheduler = new Scheduler();
  private readonly random: SeededRandom;
  private readonly profile: Profile;
  private readonly bucket: SimBucket | undefined;
  private readonly lostOwner: LostOwner | undefined;
  private readonly hosts: SimHost[] = [];
  private readonly judge: BucketJudge;
  private operations = 0;
  private crashes = 0;
  private ending = false;
  /** There was more than one owner; what an earlier one had sent may arrive after it is gone. */
  private contested: boolean;
  private takeOvers = 0;
  /** So often was a segment of it damaged. */
  private damages = 0;
  private snapshots = 0;

  constructor(
    private readonly seed: number,
    private readonly operationsMin: number,
    private readonly story: StoryName | undefined,
  ) {
    this.random = new SeededRandom(seed);
    this.profile = drawProfile(seed, this.random.fork(), this.scheduler);
    this.contested = this.profile.twoOwners;
    this.bucket = this.profile.replicated ? new SimBucket(this.scheduler, this.random.fork()) : undefined;
    const { bucket, scheduler, random, profile } = this;
    this.judge = new BucketJudge({ bucket, scheduler, random, profile, isContested: () => this.contested });
    this.lostOwner = this.bucket && new LostOwner(this.bucket, this.scheduler);
    if (this.bucket !== undefined) this.bucket.onArrival = (key, body) => this.judge.arrived(key, body);
  }

  async run(): Promise<SimulationResult> {
    try {
      return await this.play();
    } catch (error) {
      // What was seen first comes first.
      this.check();
      throw error;
    }
  }

  private async play(): Promise<SimulationResult> {
    const { profile } = this;
    const first = this.newHost('a', {});
    if (this.bucket !== undefined) profile.troubleStore(this.bucket);
    await this.startFresh(first);
    while (this.operations < this.operationsMin) {
      profile.troubleDisk(this.hosts.map(({ disk }) => disk));
      if (this.bucket !== undefined && this.random.fraction() < 0.2) profile.troubleStore(this.bucket);
      await (this.story === undefined ? this.round() : this.tell(this.story));
      this.check();
    }
    await this.end();
    const { scheduler } = this;
    scheduler.note('end', this.operations);
    return {
      seed: this.seed,
      profile: profile.name,
      operations: this.operations,
      crashes: this.crashes,
      restores: this.judge.restores,
      takeOvers: this.takeOvers,
      events: scheduler.events,
      digest: scheduler.digest,
    };
  }

  private newHost(name: string, more: Partial<ConstructorParameters<typeof SimHost>[0]>): SimHost {
    const host = new SimHost({
      name,
      scheduler: this.scheduler,
      random: this.random.fork(),
      bucket: this.bucket,
      sizeBytes: MIB,
      configuration: this.profile.configuration,
      astray: this.profile.rots,
      graceMs: this.profile.graceMs,
      shardRewriteBlocks: this.profile.shardRewriteBlocks,
      ...more,
    });
    this.hosts.push(host);
    this.judge.lineages.push(host);
    this.judge.everyHost.push(host);
    this.profile.troubleDisk([host.disk]);
    return host;
  }

  /** The very first start: whatever a crash leaves of it may be thrown away, since nobody was served. */
  private async startFresh(host: SimHost): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        if (this.random.fraction() < 0.1) {
          const { disk } = host;
          this.scheduler.at(this.random.below(30), () => {
            if (disk === host.disk && host.device === undefined) host.powerLoss();
          });
        }
        await host.start();
        if ((await this.waitUntilServed(host)) && (await this.judgeServed(host))) return;
      } catch (error) {
        this.mustBe(error, [...this.profile.refusals, 'disk-failed', 'disk-full', 'volume-incomplete']);
      }
      host.powerLoss();
      this.crashes++;
      // What has rotted by now is refused for good: its owner begins anew.
      if (host.disk.file('volume.json') === undefined || (this.profile.rots && tries >= 10)) host.wipe();
      if (tries >= 100)
        throw new Violation(`a first start of ${host.name} never succeeds: ${host.log.lines.slice(-3).join('; ')}`);
      this.profile.calmDisk([host.disk]);
    }
  }

  /** False: the process ended meanwhile. */
  private async waitUntilServed(host: SimHost): Promise<boolean> {
    const untilMs = this.scheduler.nowMs + patienceMs;
    while (host.alive && host.device === undefined) {
      if (host.gateway?.status().state === 'failed') throw new GatewayError('disk-failed', 'the volume failed to open');
      if (this.scheduler.nowMs > untilMs)
        throw new Violation(
          `${host.name} is not served: ${JSON.stringify(host.gateway?.status())} ${host.log.lines.slice(-5).join('; ')}`,
        );
      await this.scheduler.sleep(100);
    }
    return host.alive;
  }

  /** Some load, and something that happens in the middle of it. */
  private async round(): Promise<void> {
    const { random } = this;
    const host = this.hosts[random.below(this.hosts.length)];
    if (host === undefined) return;
    if (!host.alive && !(await this.bringBack(host))) return;
    if (this.lostOwner?.mayBeSucceededBy(host) === true) await this.meetTheFence(host);
    if (this.profile.twoOwners && random.fraction() < 0.3) await this.maybeTakeOver(host);
    // What is overwritten while a round goes up is what it must not mix up.
    for (let more = 0; more < 4 && host.replication?.mode === 'resyncing'; more++) {
      await this.someLoad(host);
      await this.scheduler.sleep(random.below(8000));
    }
    if (!host.alive) return;
    const quick = random.fraction() < 0.5;
    const operations = 10 + random.below(70);
    this.operations += operations;
    const load = runLoad({
      host,
      scheduler: this.scheduler,
      random: random.fork(),
      operations,
      clients: 1 + random.below(3),
      pauseMs: quick ? 2 : 150,
      depth: 1 + random.below(8),
      admits: (error) => this.admitsError(host, error),
    });
    if (random.fraction() < 0.3) {
      const { life } = host;
      this.scheduler.at(random.below(operations * (quick ? 2 : 80)), () => {
        if (host.life === life) this.takeSnapshot(host);
      });
    }
    const others = this.hosts.filter((other) => other !== host && other.alive).map((other) => this.someLoad(other));
    const choice = random.fraction();
    if (choice < this.profile.disturbed) {
      const untilMs = operations * (quick ? 2 : 80);
      await Promise.race([new Promise<void>((resolve) => this.sometime(host, untilMs, resolve)), load]);
      await this.disturb(host);
    }
    await Promise.race([load, this.scheduler.sleep(patienceMs)]);
    await Promise.all(others);
    if (random.fraction() < 0.3) await this.judgeBucket(host);
    if (random.fraction() < 0.2) this.judge.read();
    if (random.fraction() < 0.15) await this.maybeDrain(host);
    if (random.fraction() < 0.1) await this.maybeScrub(host);
    await this.maybeHeal(healShare);
    if (random.fraction() < 0.3) await this.scheduler.sleep(random.below(9000));
    if (this.profile.twoOwners && this.hosts.length < 3 && random.fraction() < 0.25) await this.addOwner(host);
  }

  private async tell(story: StoryName): Promise<void> {
    const { bucket, random, scheduler } = this;
    const [host] = this.hosts;
    if (host === undefined) return;
    if (bucket === undefined)
      throw new Error(`the volume of seed ${this.seed} does not replicate, as the story ${story} wants`);
    if (!host.alive && !(await this.bringBack(host))) return;
    await stories[story].play({
      host,
      bucket,
      random: random.fork(),
      scheduler,
      load: () => this.someLoad(host),
      snapshot: () => this.takeSnapshot(host),
      crash: (how) => this.crash(host, how),
      drain: () => this.maybeDrain(host),
      heal: () => this.maybeHeal(1),
    });
  }

  /**
   * Restores from the bucket. No block that has a record behind that recovery point may have been said to be replicated
   * before: the bucket only gains meanwhile.
   */
  private async judgeBucket(host: SimHost): Promise<void> {
    const said = await this.saidToBeReplicated(host);
    const restored = await this.judge.restore();
    const whole = !this.contested && this.judge.damagedLsn === undefined && !this.profile.rots;
    if (said === undefined || restored === undefined || !whole) return;
    const { lsn } = restored.recoveryPoint;
    for (const block of host.shadow.changedWithin(lsn, said.throughLsn))
      if (said.blocks.has(block))
        throw new Violation(`block ${block} counted as replicated, but was written after LSN ${lsn}`);
  }

  /** Of what was acknowledged until now. */
  private async saidToBeReplicated(
    host: SimHost,
  ): Promise<{ readonly throughLsn: number; readonly blocks: ReadonlySet<number> } | undefined> {
    const { device } = host;
    if (!host.alive || device?.marks.includes('dirty') !== true) return undefined;
    const throughLsn = device.status().lsn.acknowledged;
    const blocks = new Set<number>();
    const { sizeBytes } = device;
    for (let at = 0; at < sizeBytes;) {
      for (const { lengthBytes, marked } of await device.blockMarks('dirty', at, sizeBytes - at, 4096)) {
        const end = at + lengthBytes;
        for (; at < end; at += BLOCK) if (!marked) blocks.add(at / BLOCK);
      }
    }
    return { throughLsn, blocks };
  }

  /** At some moment (crash-moment.ts), unless all troubles have ended by then. */
  private sometime(host: SimHost, withinMs: number, run: () => void, points = turningPoints): void {
    const { random, scheduler } = this;
    atSomeMoment({ disk: host.disk, random, scheduler, withinMs, points }, () => {
      if (!this.ending) run();
    });
  }

  private async someLoad(host: SimHost): Promise<void> {
    const operations = 5 + this.random.below(20);
    this.operations += operations;
    const load = runLoad({
      host,
      scheduler: this.scheduler,
      random: this.random.fork(),
      operations,
      clients: 1,
      pauseMs: 20,
      depth: 4,
      admits: (error) => this.admitsError(host, error),
    });
    await Promise.race([load, this.scheduler.sleep(patienceMs)]);
  }

  private async disturb(host: SimHost): Promise<void> {
    const { random } = this;
    const choice = random.fraction();
    if (choice < 0.4) await this.crash(host, 'kill');
    else if (choice < 0.75) await this.crash(host, 'power');
    else if (choice < 0.82) await this.crash(host, 'stop');
    else if (choice < 0.88) host.disk.dropCache();
    else if (choice < 0.94) await this.judge.restore();
    else if (this.bucket !== undefined && this.profile.twoOwners) {
      const { life } = host;
      life?.pause();
      this.scheduler.at(random.below(60_000), () => life?.resume());
    } else host.skewMs += (random.fraction() - 0.5) * 1e8;
  }

  /** How the process or the machine ends, and its way back, which crashes now and then itself. */
  private async crash(host: SimHost, how: 'kill' | 'power' | 'stop'): Promise<void> {
    this.crashes++;
    if (how === 'stop') await host.stop();
    else if (how === 'kill') host.kill();
    else host.powerLoss();
    if (this.random.fraction() < 0.3) host.sizeBytes = Math.min(2 * MIB, host.sizeBytes + 16 * BLOCK);
    if (this.random.fraction() < 0.5) await this.scheduler.sleep(this.random.below(3000));
    await this.bringBack(host);
  }

  /** Starts the host again and judges what it serves; false: it is refused for good, and is gone. */
  private async bringBack(host: SimHost): Promise<boolean> {
    for (let tries = 0; ; tries++) {
      if (this.lostOwner?.has(host) === true) return false;
      if (tries > 3) this.profile.calmDisk([host.disk]);
      try {
        if (tries < 5 && this.random.fraction() < 0.5) {
          // A crash in the middle of recovery, or right after it.
          const { life } = host;
          const power = this.random.fraction() < 0.5;
          this.sometime(
            host,
            40,
            () => {
              if (host.life === life || !host.alive) return;
              if (power) host.powerLoss();
              else host.kill();
            },
            recoveryPoints,
          );
        }
        // What is here is judged without the bucket; else that brings all of it here.
        host.cutOff = host.takesOverLazily && this.random.fraction() < 0.7;
        await host.start();
        if (!(await this.waitUntilServed(host))) throw new GatewayError('disk-failed', 'the process ended');
        if (!(await this.judgeServed(host))) throw new GatewayError('disk-failed', 'the process ended');
        host.cutOff = false;
        return true;
      } catch (error) {
        this.check();
        // Killed or failed on its way.
        if (!host.alive && tries < 8) continue;
        this.mustBe(error, this.profile.refusals, host);
        await this.giveUp(host);
        return false;
      }
    }
  }

  /** False: the process ended meanwhile. */
  private async judgeServed(host: SimHost): Promise<boolean> {
    const found = await this.readAll(host);
    if (found === undefined) return false;
    host.guard(() => host.shadow.judgeRecovery(found.contents, this.profile.keeps, new Set(found.unreadable.keys())));
    this.check();
    return true;
  }

  private async readAll(host: SimHost): Promise<Awaited<ReturnType<SimHost['readAll']>> | undefined> {
    const gone = new Promise<undefined>((resolve) => host.life?.onDeath(() => resolve(undefined)));
    const found = await Promise.race([
      host.readAll([...(this.profile.rots ? this.profile.requestErrors : []), ...this.lacking(host)]),
      gone,
    ]);
    if (host.owed === undefined) return found;
    for (const [block, { code }] of found?.unreadable ?? []) {
      if (code !== 'store-unreachable') continue;
      // Whoever reads it once the store is back gets this.
      found!.contents.set(host.owed.subarray(block * BLOCK, (block + 1) * BLOCK), block * BLOCK);
      found!.unreadable.delete(block);
    }
    return found;
  }

  /** What a read may end with while content is in the bucket only. */
  private lacking(host: SimHost): readonly ErrorCode[] {
    return host.owed === undefined ? [] : ['store-unreachable'];
  }

  /** The machine is lost: its volume goes on elsewhere, from the bucket. */
  private async giveUp(host: SimHost): Promise<void> {
    host.kill();
    this.hosts.splice(this.hosts.indexOf(host), 1);
    if (this.hosts.length > 0) return;
    if (this.bucket === undefined || this.bucket.keys('').length === 0) {
      this.judge.forget();
      this.bucket?.clear();
      return this.startFresh(this.newHost(`${host.name}'`, {}));
    }
    await this.takeOver(`${host.name}'`);
  }

  private async takeOver(name: string, made: (host: SimHost) => void = () => undefined): Promise<void> {
    this.contested = true;
    this.lostOwner?.forget();
    const restored = await this.judge.restore(true);
    if (restored === undefined) {
      // Nothing was ever committed.
      this.judge.forget();
      this.bucket?.clear();
      return this.startFresh(this.newHost(name, {}));
    }
    const { contents, recoveryPoint } = restored;
    const lazily = this.random.fraction() < 0.5;
    const disk = lazily ? await this.takeOverLazily(restored) : restored.disk;
    const shadow = new Shadow({
      sizeBytes: contents.length,
      base: { contents, lsn: recoveryPoint.lsn },
      pathOf: (file) => disk.pathOf(file),
      astray: this.profile.rots,
    });
    this.judge.commonLsn = recoveryPoint.lsn;
    const broken = (violation: Violation): void => void (host.violation ??= violation);
    const hydration = (life: Life): HydrationPort =>
      bucketPort({ bucket: this.bucket!, disk, life, random: this.random.fork(), isAway: () => host.cutOff, broken });
    const more = lazily ? { hydration, owed: contents } : {};
    const host: SimHost = this.newHost(name, { disk, shadow, sizeBytes: contents.length, ...more });
    made(host);
    await this.bringBack(host);
  }

  /** The same once more without the content, at the same moment: its pin stands in the living bucket then. */
  private async takeOverLazily({ recoveryPoint }: RestoredDisk): Promise<SimDisk> {
    const { bucket, scheduler } = this;
    const random = this.random.fork();
    const disk = new SimDisk(random.fork());
    await scheduler.aside(async () => {
      const world = new Scheduler();
      const copy = bucket!.copy(world);
      const life = new Life(world);
      const lsn = await world.drive(restoreLazily(copy, disk, life, random, true));
      life.end();
      if (lsn !== recoveryPoint.lsn) throw new Violation(`an instant take-over is at LSN ${lsn}`);
      for (const key of copy.keys('')) if (key.includes('/pins/')) bucket!.objects.set(key, copy.objects.get(key)!);
    });
    return disk;
  }

  /** A second machine that believes itself the owner: a clone of this one, or a restore that takes over. */
  private async addOwner(host: SimHost): Promise<void> {
    if (this.bucket === undefined) return;
    if (this.judge.everyHost.length === 1 && this.random.fraction() < 0.5) return this.loseNewOwner(host);
    // A clone of what is still filling would have its pins in common with the other one.
    if (this.random.fraction() < 0.5 || host.owed !== undefined) return this.takeOver(`${host.name}+`);
    host.powerLoss();
    this.crashes++;
    const disk = host.disk.clone();
    const shadow = host.shadow.clone((file) => disk.pathOf(file));
    this.judge.commonLsn = Math.max(this.judge.commonLsn, host.shadow.durableLsn);
    this.lostOwner?.forget();
    const clone = this.newHost(`${host.name}*`, { disk, shadow, sizeBytes: host.sizeBytes });
    await this.bringBack(clone);
    await this.bringBack(host);
  }

  /**
   * While the owner is paused its volume is taken over elsewhere, by a machine that is lost before it commits anything.
   * The owner, when it wakes up, meets the fence and goes on by take-over.
   */
  private async loseNewOwner(owner: SimHost): Promise<void> {
    const { life } = owner;
    life?.pause();
    await this.takeOver(`${owner.name}+`, (newcomer) =>
      this.lostOwner?.arm(newcomer, owner, () => {
        this.crashes++;
        this.hosts.splice(this.hosts.indexOf(newcomer), 1);
      }),
    );
    const newcomer = this.hosts.find((host) => host !== owner);
    if (newcomer?.alive === true) {
      await this.someLoad(newcomer);
      await this.maybeDrain(newcomer);
    }
    life?.resume();
  }

  /** The same restore once more, in a world of its own, served before its content is there. */
  private async hydrate(restored: RestoredDisk): Promise<void> {
    const { scheduler, seed } = this;
    const random = this.random.fork();
    const world = new Scheduler();
    const profile = drawProfile(seed, random.fork(), world);
    const bucket = random.fraction() < 0.5 ? this.bucket?.copy(world) : undefined;
    const operationsMin = Math.min(120, Math.ceil(this.operationsMin / 4));
    const played = await scheduler.aside(() =>
      world.drive(playHydration({ scheduler: world, random, profile, restored, bucket, operationsMin })),
    );
    this.operations += played.operations;
    this.crashes += played.crashes;
    scheduler.note(`hydrated ${world.digest}`, played.operations);
  }

  /** `keepgate snapshot create`, and now and then `delete`, in the middle of the load. */
  private takeSnapshot(host: SimHost): void {
    const { gateway, life, shadow } = host;
    if (gateway === undefined || life?.alive !== true || host.device === undefined || this.bucket === undefined) return;
    const refused = (error: unknown): void => {
      const codes: readonly ErrorCode[] = ['store-unreachable', 'buffer-full', 'volume-closed', 'fenced', 'not-found'];
      const known = [...codes, 'remote-ahead', 'remote-forked', ...this.profile.refusals];
      if (!(error instanceof GatewayError) || !known.includes(error.code))
        host.violation ??= new Violation(`a snapshot ended with ${String(error)}`);
    };
    const [victim] = shadow.snapshots.keys();
    if (victim !== undefined && this.random.fraction() < 0.25) {
      shadow.snapshots.delete(victim);
      gateway.snapshots.delete(victim).catch(refused);
      return;
    }
    const name = `s${++this.snapshots}`;
    const { promisedLsn } = shadow;
    gateway.snapshots.create(name).then(({ lsn }) => {
      if (life.alive) host.guard(() => shadow.snapshotTaken(name, lsn, promisedLsn));
      this.judge.snapshotLsns.set(name, lsn);
    }, refused);
  }

  private async maybeDrain(host: SimHost): Promise<void> {
    const { gateway, life } = host;
    if (gateway === undefined || !host.alive || host.device === undefined || this.bucket === undefined) return;
    const gone = new Promise<void>((resolve) => life?.onDeath(resolve));
    const drained = gateway
      .forceFlush()
      .then((lsn) => gateway.replicateTo(lsn))
      .catch(() => undefined);
    await Promise.race([gone, drained, this.scheduler.sleep(this.random.below(20_000))]);
  }

  /** `keepgate scrub`, while all goes on: in a history without rot it finds nothing. */
  private async maybeScrub(host: SimHost): Promise<void> {
    const { gateway, life } = host;
    const { damages } = this;
    if (gateway === undefined || !host.alive || host.device === undefined) return;
    const gone = new Promise<void>((resolve) => life?.onDeath(resolve));
    host.shadow.rewrites = true;
    const scrubbed = gateway
      .scrub(true, () => undefined)
      .then(
        ({ found, lost }) => {
          const wrong = found.filter((line) => !line.startsWith('the bucket was not read'));
          if (!host.alive || wrong.length <= lost || this.profile.keeps !== 'all' || damages < this.damages) return;
          host.violation ??= new Violation(`a scrub of ${host.name} found ${wrong.join('; ')}`);
        },
        (error: unknown) => {
          if (!(error instanceof GatewayError)) host.violation ??= new Violation(`a scrub broke: ${String(error)}`);
        },
      );
    await Promise.race([gone, scrubbed, this.scheduler.sleep(this.random.below(30_000))]);
  }

  /** A process that starts anew finds the fence by itself; one that lives has to be told to go on. */
  private async meetTheFence(host: SimHost): Promise<void> {
    await this.someLoad(host);
    for (let tries = 0; tries < 20 && host.alive && host.gateway?.status().state !== 'fenced'; tries++)
      await this.maybeDrain(host);
    await this.tookOver(host);
  }

  /** Where the one that fenced this host is lost and had committed nothing. */
  private async tookOver(host: SimHost): Promise<boolean> {
    if (this.lostOwner === undefined || !(await this.lostOwner.takenOverBy(host))) return false;
    this.takeOvers++;
    return true;
  }

  /** `keepgate takeover` of a host that was fenced: it succeeds, or says why not. */
  private async maybeTakeOver(host: SimHost): Promise<void> {
    const { gateway, life } = host;
    if (!host.alive || gateway?.status().state !== 'fenced') return;
    if (await this.tookOver(host)) return;
    const gone = new Promise<void>((resolve) => life?.onDeath(resolve));
    const admitted: readonly ErrorCode[] = [
      'fenced',
      'remote-ahead',
      'remote-forked',
      'invalid-request',
      'disk-failed',
    ];
    const taken = gateway.takeOver().catch((error: unknown) => {
      if (error instanceof GatewayError && [...admitted, ...this.profile.refusals].includes(error.code)) return;
      host.violation ??= new Violation(`a take-over ended with ${String(error)}`);
    });
    await Promise.race([gone, taken, this.scheduler.sleep(this.random.below(60_000))]);
  }

  /** All troubles end; what is promised must come true. */
  private async end(): Promise<void> {
    const { profile, bucket } = this;
    this.ending = true;
    profile.calmDisk(this.hosts.map(({ disk }) => disk));
    if (bucket !== undefined) profile.calmStore(bucket);
    for (const host of [...this.hosts]) if (!host.alive) await this.bringBack(host);
    this.check();
    await this.scheduler.sleep(120_000);
    let owners = 0;
    for (const host of [...this.hosts]) {
      if (!host.alive && !(await this.bringBack(host))) continue;
      if (bucket === undefined) continue;
      // Whoever has nothing to say asks nobody whether it may.
      await this.someLoad(host);
      this.check();
      if ((await this.drainAtLast(host)) || ((await this.tookOver(host)) && (await this.drainAtLast(host)))) owners++;
      this.check();
    }
    await Promise.race([this.judge.reading, this.scheduler.sleep(patienceMs)]);
    if (this.judge.reading !== undefined) throw new Violation('a restore does not come to its end');
    this.check();
    if (bucket !== undefined && owners === 0 && !this.contested && !profile.rots)
      throw new Violation('nobody could drain at the end');
    for (const host of this.hosts) await this.waitUntilFilled(host);
    const restored = await this.judge.restore();
    if (restored !== undefined && profile.hydrates) await this.hydrate(restored);
    await this.maybeHeal(healShareAtEnd);
    for (const host of [...this.hosts]) {
      await this.crash(host, this.random.fraction() < 0.5 ? 'kill' : 'power');
      this.check();
    }
  }

  /** The bucket loses an object; what it needs is sent again, and is all there then. */
  private async maybeHeal(share: number): Promise<void> {
    const { bucket, random, profile } = this;
    const [host] = this.hosts;
    if (bucket === undefined || host === undefined || this.contested || profile.keeps !== 'all') return;
    if (random.fraction() >= share || !host.alive || host.device === undefined) return;
    profile.calmDisk([host.disk]);
    profile.calmStore(bucket);
    const { ending } = this;
    this.ending = true;
    await this.heal(host, bucket);
    this.ending = ending;
  }

  private async heal(host: SimHost, bucket: SimBucket): Promise<void> {
    const { random, scheduler } = this;
    // What reads on since before would meet the damage.
    await Promise.race([this.judge.reading, scheduler.sleep(patienceMs)]);
    this.check();
    if (!host.alive || !(await this.drainAtLast(host))) return;
    this.damages++;
    this.judge.damaged = true;
    const healed = await healDamage({
      host,
      bucket,
      scheduler,
      random: random.fork(),
      load: () => this.someLoad(host),
      bringBack: () => this.bringBack(host),
      check: () => this.check(),
    });
    this.judge.damaged = false;
    if (healed === undefined) return;
    scheduler.note(`healed ${healed}`);
    this.judge.damagedLsn = host.shadow.appendedLsn;
    await this.scheduler.sleep(5000);
    if (this.hosts[0]?.alive !== true) await this.bringBack(host);
    if (!(await this.drainAtLast(host))) throw new Violation(`${host.name} does not drain after it healed its bucket`);
  }

  private async waitUntilFilled(host: SimHost): Promise<void> {
    const untilMs = this.scheduler.nowMs + patienceMs;
    while (host.owed !== undefined && !this.profile.rots) {
      if (this.scheduler.nowMs > untilMs)
        throw new Violation(`${host.name} is never filled: ${JSON.stringify(host.gateway?.status().hydration)}`);
      await this.scheduler.sleep(500);
      this.check();
    }
  }

  /** True: this host is the owner, and the bucket holds exactly what it holds. */
  private async drainAtLast(host: SimHost): Promise<boolean> {
    const { gateway } = host;
    if (gateway === undefined) return false;
    // Others may be taken meanwhile.
    const snapshots = [...host.shadow.snapshots.keys()];
    const drained = gateway
      .forceFlush()
      .then((lsn) => gateway.replicateTo(lsn))
      .then(
        () => true,
        (error: unknown) => {
          const codes: readonly ErrorCode[] = [
            ...(this.contested ? (['fenced', 'remote-ahead', 'remote-forked'] as const) : []),
            ...(this.profile.rots
              ? (['log-damaged', 'checksum-mismatch', 'remote-ahead', 'remote-forked'] as const)
              : []),
          ];
          this.mustBe(error, codes);
          return false;
        },
      );
    const tooLong = this.scheduler.sleep(patienceMs).then(() => {
      throw new Violation(
        `${host.name} does not drain: ${JSON.stringify(host.gateway?.status())} ${host.log.lines.slice(-5).join('; ')}`,
      );
    });
    if (!(await Promise.race([drained, tooLong]))) return false;
    const restored = await this.judge.restore();
    const there = new Set(restored?.snapshots.map(({ name }) => name));
    const missing = snapshots.filter((name) => !there.has(name) && host.shadow.snapshots.has(name));
    if (missing.length > 0 && !this.contested && !this.profile.rots)
      throw new Violation(`the drained bucket lacks the snapshots ${missing.join(', ')}`);
    const now = await this.readAll(host);
    if (now === undefined) return false;
    if (restored === undefined || !isSame(restored, now))
      throw new Violation(`the drained bucket is not what ${host.name} holds`);
    return true;
  }

  private admitsError(host: SimHost, error: GatewayError): boolean {
    if (error.code === 'volume-closed') return true;
    if (error.code === 'read-only') return this.contested || this.profile.rots;
    if (this.lacking(host).includes(error.code)) return true;
    return host.alive && this.profile.requestErrors.includes(error.code);
  }

  private mustBe(error: unknown, codes: readonly ErrorCode[], host?: SimHost): void {
    if (error instanceof GatewayError && codes.includes(error.code)) return;
    throw error instanceof Violation
      ? error
      : new Violation(`${host?.name ?? 'a host'} was refused: ${String((error as Error).stack)}`);
  }

  private check(): void {
    if (this.judge.violation !== undefined) throw this.judge.violation;
    if (this.bucket?.violation !== undefined) throw this.bucket.violation;
    for (const { violation } of this.hosts) if (violation !== undefined) throw violation;
  }
}
