/**
 * The conversation of one volume with its replicator, in whichever thread that lives: tells it what is durable, carries
 * its state to the engine, and answers whoever waits for the bucket.
 *
 * Invariants: what the replicator committed goes to the superblock before log space goes (the engine's, P4); once it has
 * ended for good (`refusal`) everybody who waits hears why, and nobody waits for it any more.
 */
import { GatewayError } from '../base/errors.js';
import type { Lsn } from '../base/units.js';
import type { VolumeConfiguration } from '../config/configuration.js';
import type { VolumeIdentity } from '../engine/volume-directory-format.js';
import type { Volume } from '../engine/volume.js';
import type { Transfers } from '../metrics/source.js';
import type { Clock, Timer } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { Log } from '../ports/log.js';
import type { ReceiptOutlet } from '../ports/receipt-outlet.js';
import type { ReplicationState, ReplicationStatus } from '../ports/replication.js';
import type { MasterKey } from '../remote/key.js';
import { newestKept } from '../remote/receipt-keeper.js';
import type { FetchFailure, FromReplicator, ReplicationConfig, ToReplicator } from '../remote/replication-messages.js';
import { answerRound } from '../remote/round-answer.js';
import { FollowerLine } from './follower-line.js';
import { ReceiptLine } from './receipt-line.js';
import { RemoteCopyLine } from './remote-copy-line.js';
import type { ReplicationLine, ReplicationListener } from './replication-thread.js';
import type { RevertLine } from './revert-line.js';
import type { ScrubLine } from './scrub-line.js';
import type { SnapshotLine } from './snapshot-line.js';
import { idleReplication } from './volume-placeholder.js';

/** Durability advances with every fdatasync; the replicator need not hear of each. */
const durablePauseMs = 20;
const blockedPauseMs = 100;

export interface VolumeReplication {
  readonly connect: (receive: ReplicationListener) => ReplicationLine;
  /** The replicator must not wait until clients are served: they wait for it. */
  readonly hurry?: () => void;
  readonly master: MasterKey;
  readonly fencing: 'auto' | 'none';
  readonly allowNew: boolean;
  readonly owner: string;
  /** How long what is dead stays in the bucket at least; default: the replicator's. */
  readonly graceMs?: number;
  /** Changes that make a checkpoint write a shard of the map anew; default: the replicator's. */
  readonly shardRewriteBlocks?: number;
  /** Where receipts are kept off this directory. */
  readonly outlet?: ReceiptOutlet;
}

export interface ReplicatorLineOptions {
  readonly replication: VolumeReplication;
  readonly configuration: VolumeConfiguration;
  /** Rooted at the volume's directory. */
  readonly disk: Disk;
  readonly clock: Clock;
  readonly log: Log;
  /** Who hears what concerns them. */
  readonly scrubs: ScrubLine;
  readonly reverts: RevertLine;
  readonly snapshots: SnapshotLine;
  /** Another gateway owns the remote volume. */
  readonly onFenced: () => void;
  /** It has ended for good, and everybody who waited has heard it. */
  readonly onRefused: (error: GatewayError) => void;
  /** A take-over succeeded; the state without `fenced` has come before. */
  readonly onOwner: () => void;
}

interface Waiting {
  readonly resolve: () => void;
  readonly reject: (error: GatewayError) => void;
}

export class ReplicatorLine {
  /** What the engine needs of it. */
  readonly remoteCopy: RemoteCopyLine;
  readonly follower = new FollowerLine();
  readonly #options: ReplicatorLineOptions;
  readonly #name: string;
  readonly #receipts: ReceiptLine;
  #volume: Volume | undefined;
  #line: ReplicationLine | undefined;
  /** The bucket was found in this life. */
  #attached = false;
  #closed = false;
  #status: ReplicationStatus = idleReplication;
  #transfers: Transfers | undefined;
  #refusal: GatewayError | undefined;
  #durableTimer: Timer | undefined;
  #drains = new Map<number, Waiting>();
  #nextDrain = 1;
  #takingOver: Waiting | undefined;
  #firstAnswer: Waiting | undefined;
  #whenBlocked: (() => void) | undefined;

  constructor(options: ReplicatorLineOptions) {
    const { configuration, clock, log, replication } = options;
    this.#options = options;
    this.#name = configuration.name;
    this.remoteCopy = new RemoteCopyLine(clock);
    this.#receipts = new ReceiptLine({ outlet: replication.outlet, clock, log });
  }

  get started(): boolean {
    return this.#line !== undefined;
  }

  /** Why the replicator ended, if it did. */
  get refusal(): GatewayError | undefined {
    return this.#refusal;
  }

  get status(): ReplicationStatus {
    return this.#status;
  }

  get transfers(): Transfers | undefined {
    return this.#transfers;
  }

  /** To a replicator that has found its bucket. */
  get sender(): ((message: ToReplicator) => void) | undefined {
    const line = this.#line;
    return line === undefined || !this.#attached || this.#refusal !== undefined
      ? undefined
      : (message) => line.send(message);
  }

  /** Somebody asked for the first answer. */
  get awaitsAnswer(): boolean {
    return this.#firstAnswer !== undefined;
  }

  /** Settled by the replicator's first answer: the remote volume is there, or why it will not be. Before `start`. */
  firstAnswer(): Promise<void> {
    this.#options.replication.hurry?.();
    return new Promise<void>((resolve, reject) => {
      this.#firstAnswer = { resolve, reject };
    });
  }

  /** Resolves when the store does not let the replicator go on. */
  blocked(): Promise<void> {
    return new Promise((resolve) => (this.#whenBlocked = resolve));
  }

  start(volume: Volume, identity: VolumeIdentity): void {
    const { configuration, replication } = this.#options;
    this.#volume = volume;
    const line = replication.connect((message, transfers) => {
      this.#transfers = transfers ?? this.#transfers;
      this.#receive(volume, message);
    });
    this.#line = line;
    const config: ReplicationConfig = {
      name: this.#name,
      uuid: identity.uuid,
      createdSizeBytes: volume.sizeBytes,
      logicalBlockBytes: identity.logicalBlockBytes,
      masters: [replication.master],
      intervalMs: configuration.intervalMs,
      segmentBytes: configuration.segmentBytes,
      fencing: replication.fencing,
      allowNew: replication.allowNew,
      compaction: configuration.compaction,
      ...(replication.graceMs === undefined ? {} : { graceMs: replication.graceMs }),
      ...(replication.shardRewriteBlocks === undefined ? {} : { shardRewriteBlocks: replication.shardRewriteBlocks }),
      owner: replication.owner,
      receiptEveryMs: configuration.receipts.everyMs,
    };
    if (this.#receipts.publishes) void this.#beginKnowing(volume, line, config);
    else this.#begin(volume, line, config);
    volume.replication.onDurable(() => this.#noteDurable(volume));
    this.remoteCopy.connect((message) => {
      // What is asked for may be durable only since a moment ago.
      line.send({ type: 'durable', durable: volume.replication.durableState() });
      line.send(message);
    });
  }

  /** Resolves once everything up to `lsn` is committed in the bucket. */
  replicateTo(lsn: Lsn): Promise<void> {
    const [volume, line] = [this.#volume, this.#line];
    if (volume === undefined || line === undefined) return Promise.reject(this.#notReplicating());
    const id = this.#nextDrain++;
    if (this.#refusal !== undefined) return Promise.reject(this.#refusal);
    return new Promise((resolve, reject) => {
      this.#drains.set(id, { resolve, reject });
      line.send({ type: 'durable', durable: volume.replication.durableState() });
      line.send({ type: 'drain', id, lsn });
    });
  }

  /**
   * Makes this gateway the owner again. What the bucket has must be this directory's own, else nothing changes and the
   * refusal says what would be lost on which side.
   */
  takeOver(): Promise<void> {
    const [volume, line] = [this.#volume, this.#line];
    if (volume === undefined || line === undefined) return Promise.reject(this.#notReplicating());
    if (this.#takingOver !== undefined || this.#refusal === undefined) {
      const why =
        this.#takingOver === undefined
          ? 'replicates to its bucket: there is nothing to take over'
          : 'is being taken over';
      return Promise.reject(new GatewayError('invalid-request', `volume ${this.#name} ${why}`));
    }
    this.#refusal = undefined;
    this.remoteCopy.revive();
    return new Promise((resolve, reject) => {
      this.#takingOver = { resolve, reject };
      const [replication, durable] = [volume.replication.state, volume.replication.durableState()];
      line.send({ type: 'takeOver', id: 1, replication, durable });
    });
  }

  /** A receipt of the newest recovery point; the newest that was kept where the replicator cannot say more. */
  async receipt(): Promise<string> {
    if (this.#line === undefined) throw this.#notReplicating();
    const { sender } = this;
    if (sender !== undefined) return this.#receipts.ask(sender);
    const kept = await newestKept(this.#options.disk);
    if (kept === undefined) throw new GatewayError('not-found', `volume ${this.#name} has no receipt yet`);
    return kept;
  }

  close(): void {
    this.#closed = true;
    this.#receipts.close();
    this.#durableTimer?.cancel();
    this.follower.close();
    this.#line?.send({ type: 'stop' });
  }

  // Inner workings

  #notReplicating(): GatewayError {
    return new GatewayError('not-supported', `volume ${this.#name} does not replicate`);
  }

  /** With the receipt that was kept elsewhere: clients do not wait for that. */
  async #beginKnowing(volume: Volume, line: ReplicationLine, config: ReplicationConfig): Promise<void> {
    const knownReceipts = await this.#receipts.known();
    if (!this.#closed) this.#begin(volume, line, { ...config, knownReceipts });
  }

  #begin(volume: Volume, line: ReplicationLine, config: ReplicationConfig): void {
    this.follower.start(line, volume, () => {
      line.send({
        type: 'start',
        config,
        replication: volume.replication.state,
        durable: volume.replication.durableState(),
      });
    });
  }

  #noteDurable(volume: Volume): void {
    this.#durableTimer ??= this.#options.clock.after(durablePauseMs, () => {
      this.#durableTimer = undefined;
      this.#line?.send({ type: 'durable', durable: volume.replication.durableState() });
    });
  }

  #receive(volume: Volume, message: FromReplicator): void {
    const { log, scrubs, reverts, snapshots, clock, onFenced } = this.#options;
    switch (message.type) {
      case 'attached':
        this.#attached = true;
        // Another life has not heard what the one before was asked.
        scrubs.refuse(new GatewayError('disk-failed', 'replication began anew meanwhile; scrub again'));
        reverts.refuse(new GatewayError('disk-failed', 'replication began anew meanwhile'));
        this.#firstAnswer?.resolve();
        log.info(message.created ? 'remote volume created' : 'remote volume found', { volume: this.#name });
        return;
      case 'state':
        volume.replication.heard(message.state);
        this.#noteRecoveryPoint(message.state);
        return;
      case 'status':
        this.#status = message.status;
        // What blocks it for good is said in a message of its own, right behind.
        if (message.status.mode === 'blocked') clock.after(blockedPauseMs, () => this.#whenBlocked?.());
        return;
      case 'drained':
        this.#drains.get(message.id)?.resolve();
        this.#drains.delete(message.id);
        return;
      case 'revoked':
        this.follower.revoked(message.id);
        return;
      case 'round':
        void answerRound(volume.replication.rounds, message.ask).then((answer) =>
          this.#line?.send({ type: 'round', id: message.id, answer }),
        );
        return;
      case 'fetched':
        this.remoteCopy.answered(message);
        return;
      case 'receipt':
        this.#receipts.received(message);
        return;
      case 'snapshots':
        snapshots.received(message);
        volume.snapshots.forget(message.throughLsn);
        return;
      case 'scrubbing':
      case 'liveSums':
      case 'scrubbed':
      case 'mended':
        scrubs.received(message);
        return;
      case 'past':
        reverts.received(message);
        return;
      case 'tookOver':
        this.#tookOver(message.refusal);
        return;
      case 'fenced':
        volume.replication.heard(message.state);
        onFenced();
        this.#refused(new GatewayError('fenced', message.reason));
        return;
      case 'fatal':
        this.#refused(new GatewayError(message.code, message.message));
        return;
      case 'stopped':
        return;
    }
  }

  /** Statuses come now and then only; whoever drained wants to see where that led. */
  #noteRecoveryPoint({ replicatedLsn: lsn, segmentNumber: segment, remoteEpoch: epoch }: ReplicationState): void {
    if (segment <= (this.#status.recoveryPoint?.segment ?? 0)) return;
    const timeMs = this.#options.clock.wallMs();
    this.#status = { ...this.#status, recoveryPoint: { lsn, segment, epoch, timeMs } };
  }

  /** The replicator will send nothing more. */
  #refused(error: GatewayError): void {
    const { log, scrubs, reverts, onRefused } = this.#options;
    log.error(`replication stopped: ${error.message}`, { volume: this.#name, code: error.code });
    this.#refusal = error;
    this.remoteCopy.refuse(error);
    this.#receipts.refuse(error);
    scrubs.refuse(error);
    reverts.refuse(error);
    this.#takingOver?.reject(error);
    this.#takingOver = undefined;
    for (const { reject } of this.#drains.values()) reject(error);
    this.#drains.clear();
    // What was there before replication was asked for goes on being served, with the reason on the API.
    if (error.code === 'not-supported') this.#firstAnswer?.resolve();
    else this.#firstAnswer?.reject(error);
    onRefused(error);
  }

  #tookOver(refusal: FetchFailure | undefined): void {
    const waiting = this.#takingOver;
    this.#takingOver = undefined;
    if (refusal !== undefined) {
      waiting?.reject(new GatewayError(refusal.code, refusal.message));
      return;
    }
    this.#options.onOwner();
    waiting?.resolve();
  }
}
