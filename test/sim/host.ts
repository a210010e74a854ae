/**
 * A machine that runs the gateway's own volume code (engine, replicator, and what ties them together) on a simulated
 * disk, over and over: it can be killed, lose its power, stop in order, and start again.
 */
import { GatewayError, type ErrorCode } from '../../src/base/errors.js';
import type { VolumeConfiguration } from '../../src/config/configuration.js';
import { LOG_DIRECTORY } from '../../src/engine/volume-directory-format.js';
import { LogReader } from '../../src/engine/log-reader.js';
import { Volume } from '../../src/engine/volume.js';
import { GatewayVolume } from '../../src/gateway/gateway-volume.js';
import { GuardedDevice } from '../../src/gateway/guarded-device.js';
import type { HydrationPort } from '../../src/gateway/hydration-line.js';
import { nativeChecksums } from '../../src/platform/checksum.js';
import type { Completion } from '../../src/ports/block-device.js';
import type { ReplicationStatus } from '../../src/ports/replication.js';
import { parseMasterKey } from '../../src/remote/key.js';
import type { FromReplicator, ToReplicator } from '../../src/remote/replication-messages.js';
import { NeighbourSurvey } from '../../src/remote/neighbours.js';
import { ReplicationWorkerCore } from '../../src/remote/replication-worker-core.js';
import { ObservedStore } from '../../src/remote/store-observe.js';
import { RecordedLog } from '../fake/log.js';
import type { SeededRandom } from '../fake/random.js';
import { SimDisk } from './disk.js';
import { Life, type Scheduler } from './scheduler.js';
import { BLOCK, Shadow, Violation } from './shadow.js';
import type { SimBucket } from './store.js';

export const checksums = nativeChecksums();
export const master = parseMasterKey(Buffer.alloc(32, 7).toString('base64'), 'the simulation');
export const volumeName = 'disk0';
const KIB = 1024;

export interface HostOptions {
  readonly name: string;
  readonly scheduler: Scheduler;
  readonly random: SeededRandom;
  readonly bucket: SimBucket | undefined;
  readonly disk?: SimDisk;
  readonly sizeBytes: number;
  readonly shadow?: Shadow;
  readonly astray: boolean;
  readonly graceMs: number;
  /** Default: the replicator's. */
  readonly shardRewriteBlocks?: number | undefined;
  readonly configuration?: Partial<VolumeConfiguration>;
  /** To the bucket that the volume was restored from, for one life. */
  readonly hydration?: (life: Life) => HydrationPort;
  /** Of a host that takes over before its content is there: that content. */
  readonly owed?: Uint8Array;
  readonly log?: RecordedLog;
}

export class SimHost {
  readonly name: string;
  readonly disk: SimDisk;
  readonly log: RecordedLog;
  shadow: Shadow;
  sizeBytes: number;
  life: Life | undefined;
  gateway: GatewayVolume | undefined;
  /** Why the process ended by itself. */
  fatal: Error | undefined;
  /** The first thing that must never be. */
  violation: Error | undefined;
  skewMs = 0;
  /** There is no way to the bucket that it was restored from. */
  cutOff = false;
  /** Resolves when the process is gone, however. */
  private ended: Promise<void> = Promise.resolve();
  private bootId: string;
  private readonly options: HostOptions;

  constructor(options: HostOptions) {
    const { random, sizeBytes } = options;
    this.options = options;
    this.name = options.name;
    this.sizeBytes = sizeBytes;
    this.disk = options.disk ?? new SimDisk(random.fork());
    this.log = options.log ?? new RecordedLog();
    this.bootId = random.uuid();
    this.shadow = options.shadow ?? this.blank();
    this.disk.onAppend = (file, bytes, position, failed) => {
      options.scheduler.note('append', bytes.length);
      this.guard(() => this.shadow.appended(file, bytes, position, failed));
    };
  }

  /** An empty volume. */
  private blank(): Shadow {
    return new Shadow({
      sizeBytes: this.sizeBytes,
      pathOf: (file) => this.disk.pathOf(file),
      astray: this.options.astray,
    });
  }

  /** Whatever is there is removed. */
  wipe(): void {
    this.disk.wipe();
    this.shadow = this.blank();
  }

  get alive(): boolean {
    return this.life?.alive === true;
  }

  get device(): Volume | undefined {
    const served = this.gateway?.served?.device;
    // Nothing is sanitized in the simulation.
    const device = served instanceof GuardedDevice ? served.device : served;
    return device instanceof Volume ? device : undefined;
  }

  /** Why the process ended by itself, as text. */
  get endedBy(): string | undefined {
    return this.fatal?.message;
  }

  get takesOverLazily(): boolean {
    return this.options.owed !== undefined;
  }

  /** What only the bucket may have yet of its content. */
  get owed(): Uint8Array | undefined {
    return this.device?.hydration?.active === true ? this.options.owed : undefined;
  }

  get replication(): ReplicationStatus | undefined {
    return this.gateway?.status().replication;
  }

  /** Starts the process. Rejects with the refusal, after which the process is gone. */
  async start(): Promise<void> {
    const { scheduler, bucket, random } = this.options;
    const life = new Life(scheduler, () => this.skewMs);
    this.life = life;
    this.fatal = undefined;
    this.ended = new Promise((resolve) => life.onDeath(resolve));
    const gateway = new GatewayVolume({
      configuration: { ...defaults, sizeBytes: this.sizeBytes, ...this.options.configuration },
      iscsiAccess: { initiators: [], chap: undefined },
      disk: this.disk.attach(life),
      checksums,
      clock: life.clock,
      random: random.fork(),
      log: this.log,
      bootId: this.bootId,
      replication:
        bucket === undefined
          ? undefined
          : {
              connect: (receive) => this.connect(life, bucket, receive),
              master,
              fencing: 'auto',
              allowNew: false,
              owner: this.name,
              graceMs: this.options.graceMs,
              ...(this.options.shardRewriteBlocks === undefined
                ? {}
                : { shardRewriteBlocks: this.options.shardRewriteBlocks }),
            },
      ...(this.options.hydration === undefined ? {} : { hydration: this.options.hydration(life) }),
      discard: () => Promise.resolve(this.wipe()),
      onFatal: (error) => {
        if (!life.alive) return;
        this.fatal = error;
        this.kill();
      },
    });
    this.gateway = gateway;
    const opened = gateway.open();
    // A process that dies while it opens never answers.
    await Promise.race([opened, this.ended]);
    if (!life.alive) throw new GatewayError('disk-failed', `the process ended: ${this.endedBy ?? 'killed'}`);
  }

  /** The replicator, as the worker thread runs it. */
  private connect(
    life: Life,
    bucket: SimBucket,
    receive: (message: FromReplicator, transfers: undefined) => void,
  ): { send(message: ToReplicator): void } {
    const { random } = this.options;
    const disk = this.disk.attach(life);
    const observed = new ObservedStore(bucket.attach(life), { clock: life.clock });
    const messageMs = 0.05;
    const core = new ReplicationWorkerCore({
      store: observed,
      counters: observed.counters,
      disk,
      source: new LogReader({ disk, checksums, directory: LOG_DIRECTORY, windowBytes: 256 * KIB }),
      checksums,
      clock: life.clock,
      neighbours: new NeighbourSurvey(),
      random: random.fork(),
      log: this.log,
      emit: (message) => {
        const copy = structuredClone(message);
        life.later(messageMs, () => receive(copy, undefined));
      },
    });
    return {
      send: (message) => {
        const copy = structuredClone(message);
        life.later(messageMs, () => {
          core.receive(copy);
          if (message.type !== 'start') return;
          core.ended().catch((error: unknown) => {
            if (!life.alive) return;
            this.violation ??= new Violation(`the replication thread broke: ${String((error as Error).stack)}`);
          });
        });
      },
    };
  }

  /** SIGKILL. */
  kill(): void {
    if (!this.alive) return;
    this.end('kill');
    this.disk.processDied();
  }

  powerLoss(): void {
    if (this.alive) this.end('power');
    else this.shadow.died(true);
    this.disk.powerLoss();
    this.bootId = this.options.random.uuid();
  }

  /** A power loss of which is decided what reached the disk (disk.ts). */
  powerLossKeeping(keeps: (thing: number) => boolean): void {
    if (this.alive) this.end('power');
    else this.shadow.died(true);
    this.disk.powerLossKeeping(keeps);
    this.bootId = this.options.random.uuid();
  }

  /** SIGTERM, and an orderly end. */
  async stop(): Promise<void> {
    // A disk that fails meanwhile makes it an ordinary death.
    const closed = this.gateway?.close().then(
      () => 'stop',
      () => 'kill',
    );
    const how = await Promise.race([closed, this.ended]);
    if (how === 'stop') this.end(how);
    else this.kill();
  }

  private end(how: string): void {
    if (this.life?.alive !== true) return;
    this.options.scheduler.note(`${this.name} ${how}`);
    this.life.end();
    this.shadow.died(how === 'power');
  }

  /** A completion that only a living process runs, and whose judgement ends the simulation where it fails. */
  completion(done: (error: GatewayError | undefined) => void): Completion {
    const { life } = this;
    return {
      done: (error) => {
        if (life?.alive === true) this.guard(() => done(error));
      },
    };
  }

  guard(judge: () => void): void {
    try {
      judge();
    } catch (error) {
      this.violation ??= error as Error;
    }
  }

  /** The whole volume, read as a client does; blocks that it refuses with one of `mayFail` are named. */
  async readAll(
    mayFail: readonly ErrorCode[],
  ): Promise<{ contents: Uint8Array; unreadable: Map<number, GatewayError> }> {
    const { device } = this;
    if (device === undefined) throw new GatewayError('volume-closed', 'the volume is not served');
    const contents = new Uint8Array(device.sizeBytes);
    const unreadable = new Map<number, GatewayError>();
    const readPart = async (at: number, lengthBytes: number): Promise<void> => {
      try {
        await this.read(device, at, contents.subarray(at, at + lengthBytes));
      } catch (error) {
        if (!(error instanceof GatewayError) || !mayFail.includes(error.code)) throw error;
        if (lengthBytes === BLOCK) unreadable.set(at / BLOCK, error);
        else for (let block = at; block < at + lengthBytes; block += BLOCK) await readPart(block, BLOCK);
      }
    };
    const step = 64 * KIB;
    for (let at = 0; at < contents.length; at += step) await readPart(at, Math.min(step, contents.length - at));
    return { contents, unreadable };
  }

  read(device: Volume, offset: number, target: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      const completion = this.completion((error) => (error === undefined ? resolve() : reject(error)));
      if (device.read(offset, target.length, target, 0, completion)) resolve();
    });
  }
}

const defaults: VolumeConfiguration = {
  name: volumeName,
  sizeBytes: 0,
  bufferBytes: 2 * KIB * KIB,
  whenFull: 'throttle',
  provision: 'thin',
  fullTimeoutMs: 30_000,
  access: 'shared',
  readOnly: false,
  nbdEnabled: true,
  nbdUsers: [],
  iscsiEnabled: true,
  physicalBlockBytes: 4096,
  initiators: [],
  chap: undefined,
  replicate: true,
  intervalMs: 2000,
  segmentBytes: 64 * KIB,
  whenFenced: 'readOnly',
  compaction: true,
  scrub: { everyMs: undefined, remote: false },
  snapshots: { everyMs: undefined, keep: 30 },
  receipts: { exportTo: undefined, method: 'PUT', everyMs: 5000 },
};
