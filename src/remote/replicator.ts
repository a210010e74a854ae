/**
 * Keeps a bucket's copy of one volume up with its log: takes durable batches, makes groups of them, and uploads those.
 *
 * An idle volume sends nothing. A group is cut when a segment's worth of blocks is there, at an age, at once while
 * something drains; when behind it takes everything durable up to a bound and keeps each block's newest version. Ownership
 * (ownership.ts) is taken before the first PUT of a life. Store failures are waited out (P6); what is fatal or fenced ends
 * this life, and the local log is kept.
 *
 * Invariants: nothing beyond the durable LSN is read (P2); payload is verified before it is sealed, and what has
 * rotted is said to be lost (P3); a state is
 * reported only after all that it covers is acknowledged (P4); after `stop`, or an end, nothing is emitted and nothing
 * is sent (Incarnation).
 */
import { assert } from '../base/assert.js';
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, MIB } from '../base/units.js';
import type { Lsn } from '../base/units.js';
import { ImageCopy } from '../engine/image-copy.js';
import type { Checksums } from '../ports/checksum.js';
import type { Clock } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { FrameCipher } from '../ports/frame-cipher.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import type { DurableState, ReplicationState, RoundSource } from '../ports/replication.js';
import { BookKeeper } from './book-keeper.js';
import type { ChainState } from './chain.js';
import { claimEpoch } from './epoch-claim.js';
import { GroupCollector, newestSize } from './group-collector.js';
import type { LogSource } from './group-collector.js';
import { takeCompactionTurn } from './compaction-turn.js';
import { GroupSealer } from './group-sealer.js';
import { Housekeeping } from './housekeeping.js';
import { headProblem } from './ownership.js';
import { OwnedEpoch } from './owned-epoch.js';
import { ReceiptDesk } from './receipt-desk.js';
import type { FetchFailure, FromReplicator, ReplicationConfig } from './replication-messages.js';
import { TalliedStore } from './remote-tally.js';
import { Drains } from './replicator-drains.js';
import { BucketQuestions } from './replicator-questions.js';
import { attachRemote, eventOf, localHeadOf } from './replicator-attach.js';
import type { AttachedRemote } from './replicator-attach.js';
import { Incarnation, StoppedError } from './replicator-incarnation.js';
import { StatusReports } from './replicator-report.js';
import { StoreRetry } from './replicator-retry.js';
import { ReplicatorStatus } from './replicator-status.js';
import type { RoundLink } from './round-link.js';
import { takeRoundTurn } from './round-turn.js';
import { SentGroups } from './sent-groups.js';
import { divergenceError, findDivergence } from './takeover.js';
import { Wake } from './replicator-wake.js';
import type { ObjectSealer } from './seal.js';
import { SealedBuffers } from './sealed-buffers.js';
import { readSegmentHead } from './segment-reader.js';
import { chainOrigin } from './segment-point.js';
import { SnapshotNews } from './snapshot-news.js';
import type { ChainPoint } from './segment-point.js';
import type { StoreCounters } from './store-observe.js';
import { RetryingStore } from './store-retry.js';
import { UploadPipeline } from './upload-pipeline.js';
import type { CommittedGroup } from './upload-pipeline.js';

/** Sealed segments in memory, beside two buffers of a segment each. */
const SEALED_BYTES_MAX = 16 * MIB;
/** The log is looked at this often while writes trickle in, not at every flush. */
const COLLECT_PAUSE_MS = 100;
/** A block that somebody waits for is given up soon where the store answers with failures. */
const FETCH_ATTEMPTS_MAX = 3;

export interface ReplicatorPorts {
  readonly store: ObjectStore;
  /** Of the observing decorator inside `store`; retries are the replicator's own business. */
  readonly counters: StoreCounters;
  /** Rooted at the volume's directory. */
  readonly disk: Disk;
  readonly source: LogSource;
  readonly checksums: Checksums;
  readonly clock: Clock;
  readonly random: Random;
  /** Of what is sealed; default: node:crypto. */
  readonly cipher?: FrameCipher | undefined;
  readonly log: Log;
}

export interface ReplicatorOptions extends ReplicatorPorts {
  readonly config: ReplicationConfig;
  readonly replication: ReplicationState;
  readonly durable: DurableState;
  readonly emit: (message: FromReplicator) => void;
  readonly rounds: RoundLink;
  /** This life is to own the remote volume although the directory was fenced; answered with `tookOver` of this id. */
  readonly takeOver?: number;
}

export class Replicator {
  readonly questions: BucketQuestions;
  readonly #options: ReplicatorOptions;
  /** The store, counted. */
  readonly #store: TalliedStore;
  readonly #incarnation = new Incarnation();
  readonly #retry: StoreRetry;
  readonly #status: ReplicatorStatus;
  readonly #wake: Wake;
  readonly #segmentBlocks: number;
  readonly #slots: number;
  readonly #buffers: SealedBuffers;
  #state: ReplicationState;
  #durable: DurableState;
  #collector: GroupCollector;
  /** When the collector got its first content. */
  #pendingSinceMs: number | undefined;
  #owned: OwnedEpoch | undefined;
  readonly #drains: Drains;
  readonly #image: ImageCopy;
  readonly #rounds: RoundSource;
  #sent: SentGroups | undefined;
  #keeper: BookKeeper | undefined;
  #desk: ReceiptDesk | undefined;
  #snapshots: SnapshotNews | undefined;
  readonly #reports: StatusReports;

  constructor(options: ReplicatorOptions) {
    const { clock, random, config, counters } = options;
    this.#store = new TalliedStore(options.store, config.uuid);
    this.#options = { ...options, store: this.#store };
    this.#state = options.replication;
    this.#durable = options.durable;
    this.#segmentBlocks = Math.max(1, Math.floor(Math.min(config.segmentBytes, limits.segmentBytesMax) / BLOCK_BYTES));
    const sealedMax = Math.floor(SEALED_BYTES_MAX / (this.#segmentBlocks * BLOCK_BYTES));
    this.#slots = Math.max(1, Math.min(limits.uploadsInflightMax, sealedMax));
    this.#buffers = new SealedBuffers({ checksums: options.checksums, freeMax: this.#slots });
    this.#status = new ReplicatorStatus({
      clock,
      counters,
      tally: () => this.#store.tally,
      changed: () => this.#reports.changed(),
    });
    this.#reports = new StatusReports({
      clock,
      report: () => this.#emit({ type: 'status', status: this.#status.report() }),
      isDecaying: () => this.#status.rateDecays,
    });
    this.#wake = new Wake(clock, this.#incarnation);
    this.#retry = new StoreRetry({ clock, random, incarnation: this.#incarnation, observer: this.#status });
    this.#collector = this.#newCollector();
    this.#image = new ImageCopy(options.disk);
    this.#rounds = options.rounds.during(this.#incarnation.signal);
    this.#status.tracking = this.#tracking ? 'tracking' : undefined;
    this.#drains = new Drains(() => this.#wake.notify());
    this.questions = new BucketQuestions({
      clock,
      incarnation: this.#incarnation,
      emit: (message) => this.#emit(message),
      failed: (error) => this.#fail(error),
      replicatedTo: (lsn, signal) => this.#replicatedTo(lsn, signal),
    });
  }

  /** Lives until `stop`, a fence or a fatal failure; never rejects. */
  async run(): Promise<void> {
    try {
      if (this.#state.fenced && this.#options.takeOver === undefined)
        throw new GatewayError('fenced', 'this directory was fenced: another gateway owns the remote volume');
      this.#sent = await SentGroups.open(this.#options.disk, this.#options.checksums);
      const remote = await attachRemote({ ...this.#options, state: this.#state, retry: this.#retry });
      this.#attached(remote);
      if (this.#options.takeOver !== undefined) await this.#takeOver(remote, this.#options.takeOver);
      for (;;) await this.#step(remote);
    } catch (error) {
      this.#fail(error);
    } finally {
      await this.#owned?.housekeeping.ended();
      await this.questions.close();
      await this.#keeper?.close();
      await this.#image.close();
      await this.#sent?.close();
    }
  }

  /** The log does not hold what the bucket lacks. */
  get #tracking(): boolean {
    return this.#state.keeping === 'tracking';
  }

  onDurable(durable: DurableState): void {
    if (durable.durableLsn < this.#durable.durableLsn) return;
    this.#durable = durable;
    this.#wake.notify();
  }

  drain(id: number, lsn: Lsn): void {
    this.#drains.add(lsn, () => this.#emit({ type: 'drained', id }));
  }

  /** Without an epoch nothing can be written: the first group takes one. */
  mend(id: number, objects: readonly string[]): void {
    const mended = this.#owned?.housekeeping.mend(objects);
    this.questions.mend(id, mended ?? Promise.resolve({ written: false, problems: [] }));
  }

  /** Before the bucket was found there is nothing to make one with. */
  receipt(id: number): void {
    const early: FetchFailure = { code: 'store-unreachable', message: 'the bucket was not reached yet' };
    void Promise.resolve(this.#desk?.ask() ?? early).then((result) => this.#emit({ type: 'receipt', id, result }));
  }

  #replicatedTo(lsn: Lsn, signal: AbortSignal): Promise<void> {
    return lsn <= this.#state.replicatedLsn ? Promise.resolve() : this.#drains.until(lsn, signal);
  }

  stop(): void {
    this.#reports.stop();
    this.#desk?.stop();
    this.#incarnation.stop();
    this.#wake.notify();
  }

  #attached(remote: AttachedRemote): void {
    this.#emit({ type: 'attached', created: remote.created });
    const { head, sealer, volume } = remote;
    const { store, clock, random } = this.#options;
    const keeper = new BookKeeper({
      ...this.#options,
      store: new RetryingStore(store, { clock, random }),
      request: { signal: this.#incarnation.signal },
      sealer,
      createdSizeBytes: volume.sizeBytes,
      head: () => ({ epoch: this.#state.remoteEpoch, number: this.#state.segmentNumber, link: this.#state.chainHead }),
    });
    this.#keeper = keeper;
    const tried = new RetryingStore(store, { clock, random, attemptsMax: FETCH_ATTEMPTS_MAX });
    this.questions.attached({
      ...this.#options,
      keeper,
      store: tried,
      sealer,
      createdSizeBytes: volume.sizeBytes,
      request: { signal: this.#incarnation.signal },
    });
    if (head !== undefined) {
      const { lastLsn: lsn, wallMs } = head.index;
      this.#status.recoveryPoint = { ...head.key, link: head.link, lsn, wallMs };
    }
    this.#desk = new ReceiptDesk({
      keeper: remote.receipts,
      everyMs: this.#options.config.receiptEveryMs ?? limits.receiptEveryMsDefault,
      clock,
      incarnation: this.#incarnation,
      point: () => this.#status.recoveryPoint,
      watch: (point) => this.#watch(sealer, point),
      issued: (result) => this.#emit({ type: 'receipt', id: 0, result }),
      failed: (error) => this.#fail(error),
      warn: (message) => this.#options.log.warn(message),
    });
    this.#snapshots = new SnapshotNews({
      keeper,
      clock,
      incarnation: this.#incarnation,
      emit: (message) => this.#emit(message),
      log: this.#options.log,
      failed: (error) => this.#fail(error),
    });
    this.#snapshots.begin();
    this.#reports.changed();
  }

  /** Owns at once, whatever there is to send; `fenced` goes from the state only then. */
  async #takeOver(remote: AttachedRemote, id: number): Promise<void> {
    const local = localHeadOf(this.#state, this.#durable.durableLsn);
    const { cursor } = this.#state;
    try {
      this.#owned = await this.#takeOwnership(remote);
    } catch (error) {
      if (!(error instanceof GatewayError) || !['remote-ahead', 'remote-forked'].includes(error.code)) throw error;
      // What the two sides have in common only the log could tell.
      if (this.#tracking) throw error;
      const divergence = await this.#retry.run('compare the two sides', (request) =>
        findDivergence(local, {
          ...this.#options,
          sealer: remote.sealer,
          request,
          createdSizeBytes: remote.volume.sizeBytes,
          cursor,
        }),
      );
      throw divergence === undefined ? error : divergenceError(error, divergence, this.#options.config.name);
    }
    this.#collector = this.#newCollector();
    this.#state = { ...this.#state, fenced: false };
    this.#emit({ type: 'state', state: this.#state });
    this.#emit({ type: 'tookOver', id, refusal: undefined });
  }

  /** Whether what this life committed last still lies in the bucket. */
  async #watch(sealer: ObjectSealer, point: ChainPoint): Promise<void> {
    const { store } = this.#options;
    const head = await this.#retry.run('look after the newest segment', (request) =>
      readSegmentHead(store, sealer, point, request),
    );
    const problem = headProblem({ ...point, replicatedLsn: point.lsn, durableLsn: point.lsn }, eventOf(head));
    if (problem !== undefined) throw new GatewayError(problem.code, problem.reason);
  }

  /** Collects what is durable, sends a group if one is due, and else waits. */
  async #step(remote: AttachedRemote): Promise<void> {
    const { clock, source, config } = this.#options;
    if (this.#tracking) return this.#round(remote);
    const filled = await this.#collector.collect(source, this.#durable.durableLsn);
    this.#incarnation.check();
    if (this.#collector.empty) {
      this.#skipEmpty();
      this.#busy(this.#owned?.pipeline.idle === false);
      if (!(await this.#compact())) await this.#wake.wait();
      return;
    }
    this.#busy(true);
    this.#pendingSinceMs ??= clock.nowMs();
    const ageMs = clock.nowMs() - this.#pendingSinceMs;
    const due = filled === 'full' || this.#collector.blocks >= this.#segmentBlocks || ageMs >= config.intervalMs;
    if (due || this.#draining()) {
      await this.#send(remote);
      if (this.#owned?.housekeeping.compactor?.urgent === true) await this.#compact();
    } else if (!(await this.#compact())) await this.#pause(config.intervalMs - ageMs);
  }

  /** Waits for more, or for the age of the group; a drain ends the wait at once. */
  async #pause(remainingMs: number): Promise<void> {
    const { clock } = this.#options;
    const untilMs = clock.nowMs() + Math.min(COLLECT_PAUSE_MS, remainingMs);
    const lsn = this.#durable.durableLsn;
    await this.#wake.wait(remainingMs);
    for (;;) {
      const restMs = untilMs - clock.nowMs();
      if (restMs <= 0 || this.#draining() || this.#durable.durableLsn === lsn) return;
      await this.#wake.wait(restMs);
    }
  }

  /** Marks and epoch records need no upload: the log behind them may go, and whoever drains them is done. */
  #skipEmpty(): void {
    if (this.#owned?.pipeline.idle === false) return;
    const { cursor, lastLsn } = this.#collector;
    this.#answerDrains(lastLsn);
    // Before the first segment there is nothing that the state could be checked against at the next start.
    if (this.#state.segmentNumber === 0 || lastLsn <= this.#state.replicatedLsn) return;
    this.#state = { ...this.#state, replicatedLsn: lastLsn, cursor };
    this.#emit({ type: 'state', state: this.#state });
  }

  /** Brings the bucket to one moment of the volume, from what differs. */
  async #round(remote: AttachedRemote): Promise<void> {
    this.#owned ??= await this.#takeOwnership(remote);
    const owned = this.#owned;
    const start = await this.#rounds.begin();
    const { round, cursor } = start;
    this.#track('resyncing');
    const lastLsn = cursor.lsn - 1;
    assert(lastLsn >= owned.tail.lsn, 'a round begins at or behind the newest recovery point');
    if (lastLsn > owned.tail.lsn) {
      const sent = await takeRoundTurn({
        owned,
        start,
        createdMs: remote.volume.createdMs,
        checksums: this.#options.checksums,
        sealer: remote.sealer,
        segmentBlocks: this.#segmentBlocks,
        buffers: this.#buffers,
        read: (from, blocksMax) => this.#rounds.read(round, from, blocksMax),
        check: () => this.#incarnation.check(),
        replicatedTo: (lsn) => this.#replicatedTo(lsn, this.#incarnation.signal),
      });
      if (!sent) return;
    }
    this.#incarnation.check();
    const end = await this.#rounds.end(round);
    this.#incarnation.check();
    // Given up after its last block was read: what it sent counts, and the next one sends more than it must.
    this.#state = { ...this.#state, ...end };
    this.#collector = this.#newCollector();
    this.#pendingSinceMs = undefined;
    this.#track(this.#tracking ? 'tracking' : undefined);
  }

  #track(tracking: ReplicatorStatus['tracking']): void {
    this.#status.tracking = tracking;
    this.#reports.changed();
  }

  async #send(remote: AttachedRemote): Promise<void> {
    if (this.#owned === undefined) {
      // The remote may be further than this directory knew: collect again from there.
      this.#owned = await this.#takeOwnership(remote);
      this.#collector = this.#newCollector();
      return;
    }
    const owned = this.#owned;
    const collector = this.#collector;
    this.#collector = this.#newCollector(collector.cursor);
    this.#pendingSinceMs = undefined;
    const content = collector.content();
    this.#status.coalescedBytes += (collector.payloadBlocks - content.count) * BLOCK_BYTES;
    const sizeBytes = newestSize(content.events) ?? owned.sizeBytes;
    const { lastLsn, wallMs } = collector;
    const frame = owned.frame({ lastLsn, wallMs, sizeBytes });
    const end = { sizeBytes, cursor: collector.cursor, lastLsn, wallMs };
    await owned.upload(owned.sealer.seal(content, frame), end, () => this.#incarnation.check());
  }

  /** Goes on with compaction; false: there is nothing to do for it now. An epoch begins with a group of the log. */
  async #compact(): Promise<boolean> {
    const owned = this.#owned;
    const compactor = owned?.housekeeping.compactor;
    if (owned === undefined || compactor === undefined || owned.takeover !== undefined) return false;
    return takeCompactionTurn({
      epoch: owned.epoch,
      pipeline: owned.pipeline,
      compactor,
      incarnation: this.#incarnation,
      local: {
        source: this.#options.source,
        cursor: this.#state.cursor,
        destagedLsn: () => this.#durable.destagedLsn,
        durableLsn: () => this.#durable.durableLsn,
      },
      tail: () => ({ point: owned.tail, sizeBytes: owned.sizeBytes }),
      sending: (point, lengthBytes) => {
        this.#status.compactionBytes += lengthBytes;
        owned.housekeeping.sending(point.number);
        owned.tail = point;
      },
    });
  }

  async #takeOwnership(remote: AttachedRemote): Promise<OwnedEpoch> {
    const { store, source, checksums, clock, random, config, log } = this.#options;
    const { sealer, fencing } = remote;
    const sent = this.#sent;
    assert(sent !== undefined, 'what was sent is known before anything is');
    const { end, cursor, staged } = await claimEpoch(localHeadOf(this.#state, this.#durable.durableLsn), {
      store,
      sealer,
      retry: this.#retry,
      clock,
      random,
      fencing,
      owner: config.owner,
      source,
      checksums,
      sent,
      cursor: this.#state.cursor,
      head: remote.head?.index,
      isTracking: () => this.#tracking,
    });
    log.info(`took epoch ${end.epoch} of ${config.name}, continuing from segment ${end.chain.lastGroup.number}`);
    this.#continueFrom(end.chain, cursor);
    if (staged !== undefined) {
      // A start knows no more of it than that it goes on. Never before the segment that it is read from.
      this.#state = { ...this.#state, staged };
      this.#emit({ type: 'state', state: this.#state });
    }
    const from = end.chain.lastGroup;
    const housekeeping = this.#newHousekeeping(remote, end.epoch);
    housekeeping.begin();
    const parts = {
      epoch: end.epoch,
      housekeeping,
      pipeline: new UploadPipeline({
        store,
        sealer,
        retry: this.#retry,
        incarnation: this.#incarnation,
        fencing,
        sent,
        slots: this.#slots,
        buffers: this.#buffers,
        from,
        committed: (group) => {
          this.#committed(group);
          housekeeping.committed(group);
        },
        failed: (error) => this.#fail(error),
      }),
      sealer: new GroupSealer({
        source,
        checksums,
        sealer,
        segmentBlocks: this.#segmentBlocks,
        buffers: this.#buffers,
        image: this.#image,
        log,
      }),
    };
    return new OwnedEpoch(parts, {
      tail: from,
      sizeBytes: end.chain.sizeBytes ?? remote.volume.sizeBytes,
      staged,
      takeover: fencing === 'none' && end.fence !== undefined ? { ...end.fence, wallMs: clock.wallMs() } : undefined,
    });
  }

  #newHousekeeping(remote: AttachedRemote, epoch: number): Housekeeping {
    const { config } = this.#options;
    assert(this.#keeper !== undefined, 'an owner is attached');
    return new Housekeeping({
      ...this.#options,
      ...remote,
      store: this.#store,
      keeper: this.#keeper,
      epoch,
      createdSizeBytes: remote.volume.sizeBytes,
      segmentBlocks: this.#segmentBlocks,
      image: this.#image,
      compaction: config.compaction === true && !remote.deletesForbidden,
      ...(config.graceMs === undefined ? {} : { graceMs: config.graceMs }),
      ...(config.shardRewriteBlocks === undefined ? {} : { shardRewriteBlocks: config.shardRewriteBlocks }),
      incarnation: this.#incarnation,
      sent: () => this.#owned?.tail.number ?? 0,
      recorded: () => this.#durable.segmentRecorded,
      deleted: () => this.#reports.changed(),
      exclusive: (bytes) => this.#snapshots?.weighed(bytes),
      counted: (book) => {
        const { table } = book;
        this.#snapshots?.tell(book);
        this.#status.remoteObjects = table.objects;
        this.#status.remoteBytes = table.bytes;
        this.#status.remoteLiveBytes = table.liveBytes;
        this.#reports.changed();
      },
      applied: (mapAppliedThrough) => {
        this.#state = { ...this.#state, mapAppliedThrough };
        this.#emit({ type: 'state', state: this.#state });
      },
      wake: () => this.#wake.notify(),
      failed: (error) => this.#fail(error),
    });
  }

  /** The bucket has what an earlier life sent and did not live to record. */
  #continueFrom(chain: ChainState, cursor: ReplicationState['cursor']): void {
    const { lastGroup } = chain;
    if (lastGroup === chainOrigin || lastGroup.number <= this.#state.segmentNumber) return;
    this.#record(lastGroup, cursor, lastGroup.lsn);
  }

  #committed(group: CommittedGroup): void {
    // Marks may have been passed over since the last group that had something of the log.
    if (group.staged !== undefined) this.#state = { ...this.#state, staged: group.staged };
    this.#record(group.point, group.cursor ?? this.#state.cursor, group.lastLsn);
    this.#wake.notify();
  }

  #record(point: ChainPoint, cursor: ReplicationState['cursor'], lastLsn: Lsn): void {
    this.#state = {
      ...this.#state,
      replicatedLsn: Math.max(lastLsn, this.#state.replicatedLsn),
      cursor,
      remoteEpoch: point.epoch,
      segmentNumber: point.number,
      // A copy of its own: a view would drag its whole buffer through structured clone.
      chainHead: Uint8Array.from(point.link),
    };
    this.#status.recoveryPoint = point;
    this.#emit({ type: 'state', state: this.#state });
    this.#answerDrains(lastLsn);
    this.#reports.changed();
    this.#desk?.committed();
  }

  #draining(): boolean {
    return this.#drains.beyond(this.#owned?.tail.lsn ?? 0);
  }

  #answerDrains(lsn: Lsn): void {
    if (this.#drains.answer(lsn)) this.#owned?.housekeeping.drained();
  }

  #newCollector(cursor = this.#state.cursor): GroupCollector {
    return new GroupCollector({ cursor, blocksMax: this.#segmentBlocks * Math.max(1, this.#slots) });
  }

  /** Ends this life; the first cause counts. */
  #fail(error: unknown): void {
    if (this.#incarnation.stopped || error instanceof StoppedError) return;
    const code = error instanceof GatewayError ? error.code : undefined;
    const reason = error instanceof Error ? error.message : String(error);
    this.#status.ended = { mode: code === 'fenced' ? 'off' : 'blocked', reason };
    const status = this.#status.report();
    this.#emit({ type: 'status', status });
    if (code === 'fenced') {
      this.#state = { ...this.#state, fenced: true };
      this.#emit({ type: 'fenced', state: this.#state, reason });
    } else if (code !== undefined) {
      this.#emit({ type: 'fatal', code, message: reason });
    }
    this.stop();
    if (code === undefined) throw error;
  }

  #busy(busy: boolean): void {
    if (this.#status.busy === busy) return;
    this.#status.busy = busy;
    this.#reports.changed();
  }

  #emit(message: FromReplicator): void {
    if (!this.#incarnation.stopped) this.#options.emit(message);
  }
}
