/**
 * A machine that restored from the bucket without its content: it serves while the content comes here. Some get it from the
 * bucket by the gateway's own code, others by a filler of their own from a model of the recovery point, which fails, falls
 * silent, brings more than it was asked for, and comes late. Clients work, the machine crashes; the shadow of the restored
 * volume begins with the recovery point and judges every read. At the end it must be complete, and need the bucket no more.
 */
import { GatewayError, type ErrorCode } from '../../src/base/errors.js';
import { createHydrating } from '../../src/engine/hydration-open.js';
import type { Hydration } from '../../src/engine/hydration.js';
import type { HydrationPort } from '../../src/gateway/hydration-line.js';
import type { SeededRandom } from '../fake/random.js';
import { SimDisk, type DiskOperation } from './disk.js';
import { FrozenModel } from './frozen-model.js';
import { bucketPort, restoreLazily } from './hydration-bucket.js';
import { checksums, SimHost, volumeName } from './host.js';
import type { Profile } from './profile.js';
import type { RestoredDisk } from './restore.js';
import { Life, type Scheduler } from './scheduler.js';
import { BLOCK, Shadow, Violation } from './shadow.js';
import type { SimBucket } from './store.js';
import { runLoad } from './workload.js';

const MIB = 1024 * 1024;
/** Virtual time in which a healthy gateway must have answered, opened, or filled a volume. */
const patienceMs = 3_600_000;

/** Operations of the disk before and after which crashes tell most. */
const turningPoints: readonly { readonly operation: DiskOperation; readonly path: string }[] = [
  { operation: 'sync', path: 'image' },
  { operation: 'write', path: 'sums' },
  { operation: 'sync', path: 'sums' },
  { operation: 'write', path: 'overwritten' },
  { operation: 'sync', path: 'overwritten' },
  { operation: 'rename', path: 'restore' },
  { operation: 'sync', path: 'super.' },
];

export interface HydrationResult {
  readonly operations: number;
  readonly crashes: number;
}

export interface HydrationOptions {
  /** A world of its own. */
  readonly scheduler: Scheduler;
  readonly random: SeededRandom;
  /** Of that world. */
  readonly profile: Profile;
  readonly restored: RestoredDisk;
  /** From where it was restored, in that world; undefined: the model stands for it. */
  readonly bucket: SimBucket | undefined;
  readonly operationsMin: number;
}

/** Rejects with what was violated. */
export function playHydration(options: HydrationOptions): Promise<HydrationResult> {
  return new HydrationRun(options).run();
}

class HydrationRun {
  private readonly scheduler: Scheduler;
  private readonly random: SeededRandom;
  private readonly profile: Profile;
  private readonly model: FrozenModel;
  private readonly host: SimHost;
  private readonly source: RestoredDisk;
  private readonly operationsMin: number;
  private readonly bucket: SimBucket | undefined;
  /** There is no way to the bucket. */
  private away = false;
  private operations = 0;
  private crashes = 0;
  /** Whoever is answered late was asked before the trouble ended. */
  private troubledUntilMs = 0;
  private calm = false;

  constructor({ scheduler, random, profile, restored, bucket, operationsMin }: HydrationOptions) {
    this.scheduler = scheduler;
    this.random = random;
    this.profile = profile;
    this.source = restored;
    this.operationsMin = operationsMin;
    this.bucket = bucket;
    this.model = new FrozenModel(restored, random.fork(), bucket === undefined);
    const disk = new SimDisk(random.fork());
    const { lsn } = restored.recoveryPoint;
    const shadow = new Shadow({
      sizeBytes: restored.contents.length,
      base: { contents: this.model.contents, lsn },
      pathOf: (file) => disk.pathOf(file),
      astray: profile.rots,
    });
    this.host = new SimHost({
      name: 'restored',
      scheduler,
      random: random.fork(),
      bucket: undefined,
      disk,
      shadow,
      sizeBytes: restored.contents.length,
      astray: profile.rots,
      graceMs: 0,
      configuration: profile.configuration,
      ...(bucket === undefined ? {} : { hydration: (life: Life) => this.port(bucket, life) }),
    });
  }

  private port(bucket: SimBucket, life: Life): HydrationPort {
    const { host, random } = this;
    const broken = (violation: Violation): void => void (host.violation ??= violation);
    return bucketPort({ bucket, disk: host.disk, life, random: random.fork(), isAway: () => this.away, broken });
  }

  async run(): Promise<HydrationResult> {
    const { profile, host, random } = this;
    await this.create();
    this.trouble();
    let served = await this.bringUp();
    while (served && this.operations < this.operationsMin) {
      this.trouble();
      await this.round();
      this.check();
      if (!host.alive || random.fraction() < profile.disturbed) served = await this.crash();
    }
    if (served) await this.end();
    this.check();
    return { operations: this.operations, crashes: this.crashes };
  }

  /** An interrupted restore leaves nothing that opens, and may be done again. */
  private async create(): Promise<void> {
    const { host, random, scheduler, bucket } = this;
    for (;;) {
      const life = new Life(scheduler);
      const made = bucket === undefined ? this.createFromModel(life) : this.createFrom(bucket, life);
      const cut = random.fraction() < 0.3;
      const withinMs = bucket === undefined ? 20 : 2000;
      const gone = cut ? scheduler.sleep(random.below(withinMs)) : new Promise<void>(() => undefined);
      const how = await Promise.race([made.then(() => 'made'), gone.then(() => 'gone')]);
      life.end();
      if (how === 'gone') host.disk.powerLoss();
      if (host.disk.file('volume.json') !== undefined) return;
      host.disk.wipe();
    }
  }

  private async createFrom(bucket: SimBucket, life: Life): Promise<void> {
    const { host, random, source } = this;
    const lsn = await restoreLazily(bucket, host.disk, life, random.fork(), false);
    if (lsn !== source.recoveryPoint.lsn) throw new Violation(`an instant restore is of LSN ${lsn}`);
  }

  private createFromModel(life: Life): Promise<void> {
    const { host, random, source } = this;
    const { epoch, number, lsn } = source.recoveryPoint;
    const sizeBytes = source.contents.length;
    return createHydrating({
      disk: host.disk.attach(life),
      checksums,
      random: random.fork(),
      name: volumeName,
      uuid: random.uuid(),
      sizeBytes,
      source: {
        uuid: random.uuid(),
        store: {},
        pinFloor: 0,
        recoveryPoint: { epoch, number, link: '', lsn, wallMs: 0 },
        sizeBytes,
      },
      pins: [],
    });
  }

  private trouble(): void {
    const { profile, model, random, scheduler, host, bucket } = this;
    profile.troubleDisk([host.disk]);
    if (bucket !== undefined) {
      profile.troubleStore(bucket);
      this.troubledUntilMs = Infinity;
      return;
    }
    model.latencyMs = random.fraction() < 0.3 ? 3000 : 60;
    const choice = random.fraction();
    model.trouble = choice < 0.12 ? 'away' : choice < 0.2 ? 'silent' : 'none';
    if (model.trouble !== 'none') this.troubledUntilMs = Infinity;
    else if (this.troubledUntilMs === Infinity) this.troubledUntilMs = scheduler.nowMs + 30_000;
  }

  /** Near enough for all that an opening asks for, listings in small pages among it, to be there within a read's patience. */
  private calmBucket(): void {
    const { bucket, profile, random } = this;
    if (bucket === undefined) return;
    profile.calmStore(bucket);
    bucket.plan.latencyMs = () => random.fraction() * 40;
  }

  private async round(): Promise<void> {
    const { host, random, scheduler } = this;
    const operations = 10 + random.below(30);
    this.operations += operations;
    const load = runLoad({
      host,
      scheduler,
      random: random.fork(),
      operations,
      clients: 1 + random.below(2),
      pauseMs: random.fraction() < 0.5 ? 2 : 150,
      depth: 1 + random.below(8),
      admits: (error) => this.admits(error),
    });
    if (random.fraction() < 0.5) {
      await Promise.race([load, scheduler.sleep(patienceMs)]);
      return;
    }
    // In the middle of it, or where the order of things matters.
    const { operation, path } = turningPoints[random.below(turningPoints.length)]!;
    const reached = new Promise<void>((resolve) => {
      let passes = random.below(4);
      host.disk.atNext(
        (found, where) => found === operation && where.startsWith(path) && passes-- === 0,
        () => scheduler.at(random.fraction() < 0.5 ? 0 : random.below(10), resolve),
      );
    });
    await Promise.race([load.then(() => scheduler.sleep(2000)), reached]);
  }

  /** False: what is there is refused for good, as it may be where bits rot or syncs fail. */
  private async crash(): Promise<boolean> {
    const { host, random, scheduler } = this;
    this.crashes++;
    const choice = random.fraction();
    if (choice < 0.1) await host.stop();
    else if (choice < 0.45) host.kill();
    else host.powerLoss();
    if (random.fraction() < 0.2) host.sizeBytes = Math.min(2 * MIB, host.sizeBytes + 16 * BLOCK);
    if (random.fraction() < 0.3) await scheduler.sleep(random.below(3000));
    return this.bringUp();
  }

  private async bringUp(): Promise<boolean> {
    const { host, profile } = this;
    for (let tries = 0; ; tries++) {
      if (tries > 3 || this.calm) profile.calmDisk([host.disk]);
      this.away = this.random.fraction() < 0.6;
      this.calmBucket();
      try {
        await host.start();
        if (await this.judgeServed()) {
          this.startFilling();
          return true;
        }
      } catch (error) {
        this.check();
        if (host.alive || tries >= 8) {
          if (error instanceof GatewayError && profile.refusals.includes(error.code)) return false;
          throw error instanceof Violation ? error : new Violation(`refused: ${String((error as Error).stack)}`);
        }
      }
    }
  }

  /** Without the bucket all that is here is served, and what is not is an error; with it, everything is. */
  private async judgeServed(): Promise<boolean> {
    const { host, profile, bucket, away: alone } = this;
    const { device, life } = host;
    if (device === undefined) throw new Violation('a detached copy is not served at once');
    const { hydration } = device;
    this.model.trouble = 'none';
    if (bucket === undefined) {
      hydration?.connect(
        alone ? new GatewayError('store-unreachable', 'not connected yet') : this.model.attach(life!.clock),
      );
    }
    // Segments are blocks, where the model stands for the bucket.
    const through = bucket === undefined ? (hydration?.progress.segmentsThrough ?? Infinity) : 0;
    const gone = new Promise<undefined>((resolve) => life?.onDeath(() => resolve(undefined)));
    const mayFail: readonly ErrorCode[] = [
      ...(profile.rots ? profile.requestErrors : []),
      'checksum-mismatch',
      ...(alone ? (['store-unreachable'] as const) : []),
    ];
    const found = await Promise.race([host.readAll(mayFail), gone]);
    if (found === undefined) return false;
    const unknown = new Set<number>();
    for (const [block, { code }] of found.unreadable) {
      const owed = code === 'store-unreachable';
      if (owed && hydration === undefined) throw new Violation(`block ${block} is owed to a complete volume`);
      // What rotted later may lie before that, too.
      if (owed && block < through && !profile.rots)
        throw new Violation(`block ${block} is owed, and everything up to ${through} is here`);
      if (!owed && !this.model.lost.has(block)) {
        if (!profile.rots) throw new Violation(`block ${block} is an error`);
        unknown.add(block);
        continue;
      }
      // Whoever reads it gets what the recovery point has, or had.
      found.contents.set(this.model.contents.subarray(block * BLOCK, (block + 1) * BLOCK), block * BLOCK);
    }
    host.guard(() => host.shadow.judgeRecovery(found.contents, profile.keeps, unknown));
    this.check();
    return true;
  }

  /** Brings what is owed, in the background of this life. Segment numbers are blocks: it goes through them in order. */
  private startFilling(): void {
    const { host, random, scheduler } = this;
    const { device, life } = host;
    const hydration = device?.hydration;
    this.away = false;
    if (hydration === undefined || life === undefined || this.bucket !== undefined) return;
    const frozen = this.model.attach(life.clock);
    hydration.connect(frozen);
    const pauseMs = this.calm ? 1 : ([2, 100, 1000][random.below(3)] ?? 0);
    const fill = async (): Promise<void> => {
      while (life.alive && hydration.active) {
        await life.clock.sleep(random.below(2 * pauseMs));
        try {
          await this.fillSome(hydration, frozen, life);
        } catch (error) {
          // A failed disk may have ended the process.
          if (host.life !== life || !host.alive) return;
          const code = error instanceof GatewayError ? error.code : undefined;
          if (code === 'volume-closed') return;
          if (code === undefined || !this.admitsFilling(code))
            host.violation ??= new Violation(`a fill failed: ${String((error as Error).stack)}`);
          await life.clock.sleep(random.below(3000));
        }
      }
    };
    void fill();
    scheduler.note('filling', hydration.progress.segmentsThrough);
  }

  private async fillSome(hydration: Hydration, frozen: ReturnType<FrozenModel['attach']>, life: Life): Promise<void> {
    const { random, model } = this;
    const { segmentsThrough } = hydration.progress;
    const blocks = model.contents.length / BLOCK;
    if (segmentsThrough >= blocks) {
      if (!(await hydration.complete())) {
        const owed = await hydration.owed(0, blocks);
        const first = owed.indexOf(1);
        if (first >= 0) await hydration.fill(model.exactly(first));
      }
      return;
    }
    const ordered = this.calm || random.fraction() < 0.6;
    const first = ordered ? segmentsThrough : random.below(blocks);
    const count = Math.min(blocks - first, 1 + random.below(12));
    const owed = await hydration.owed(first, count);
    const from = owed.indexOf(1);
    if (from >= 0) {
      const runs = await frozen.fetch(first + from, count - from, {});
      // Clients go on meanwhile.
      if (random.fraction() < 0.3) await life.clock.sleep(random.below(4000));
      for (const run of runs) await hydration.fill(run);
    }
    if (ordered && random.fraction() < 0.7) await hydration.advance({ segmentsThrough: first + count });
  }

  /** All troubles end: it is filled, and then needs nobody. */
  private async end(): Promise<void> {
    const { host, profile, model, scheduler, random } = this;
    this.calm = true;
    profile.calmDisk([host.disk]);
    this.calmBucket();
    if (!host.alive || random.fraction() < 0.5) if (!(await this.crash())) return;
    model.trouble = 'none';
    model.latencyMs = 60;
    this.troubledUntilMs = Math.min(this.troubledUntilMs, scheduler.nowMs + 120_000);
    this.startFilling();
    const untilMs = scheduler.nowMs + patienceMs;
    while (host.device?.hydration?.active === true) {
      // A log that has rotted is not moved into the image any more: what it covers stays owed.
      if (profile.rots && host.device.status().state === 'failed') return;
      if (scheduler.nowMs > untilMs)
        throw new Violation(
          `it is never complete: ${JSON.stringify([host.device.hydration.progress, host.gateway?.status().hydration])}`,
        );
      await scheduler.sleep(500);
      this.check();
      if (!host.alive && !(await this.bringUp())) return;
    }
    host.device?.hydration?.connect(new GatewayError('store-unreachable', 'the bucket is gone'));
    this.troubledUntilMs = 0;
    await this.round();
    this.check();
    for (const how of ['power', 'kill'] as const) {
      if (how === 'power') host.powerLoss();
      else host.kill();
      this.crashes++;
      if (!(await this.bringUp())) return;
      if (host.device?.hydration !== undefined && !profile.rots)
        throw new Violation('a complete volume wants its bucket again');
    }
  }

  private admits(error: GatewayError): boolean {
    const { host, model, profile, scheduler } = this;
    if (error.code === 'volume-closed') return true;
    if (error.code === 'checksum-mismatch' && model.lost.has(error.context.block as number)) return true;
    if (error.code === 'store-unreachable' && scheduler.nowMs <= this.troubledUntilMs) return true;
    return host.alive && profile.requestErrors.includes(error.code);
  }

  private admitsFilling(code: ErrorCode): boolean {
    if (code === 'store-unreachable') return this.scheduler.nowMs <= this.troubledUntilMs;
    return code === 'disk-full' || this.profile.requestErrors.includes(code);
  }

  private check(): void {
    if (this.host.violation !== undefined) throw this.host.violation;
  }
}
