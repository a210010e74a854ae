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
import type { DurableState, LogCursor, RoundSource, StagedProgress } from '../ports/replication.js';
import { BookKeeper } from './book-keeper.js';
import { GroupCollector, newestSize } from './group-collector.js';
import { IdleMemory } from './idle-memory.js';
import { takeCompactionTurn } from './compaction-turn.js';
import { headProblem } from './ownership.js';
import type { OwnedEpoch } from './owned-epoch.js';
import { ReceiptDesk } from './receipt-desk.js';
import type { FetchFailure, FromReplicator } from './replication-messages.js';
import type { RemoteBook } from './remote-map-book.js';
import { TalliedStore } from './remote-tally.js';
import { Drains } from './replicator-drains.js';
import { BucketQuestions } from './replicator-questions.js';
import { attachRemote, eventOf, localHeadOf } from './replicator-attach.js';
import type { AttachedRemote } from './replicator-attach.js';
import { takeEpoch } from './replicator-epoch.js';
import { Incarnation, StoppedError } from './replicator-incarnation.js';
import type { ReplicatorOptions } from './replicator-options.js';
import { ReplicatorProgress } from './replicator-progress.js';
import { StatusReports } from './replicator-report.js';
import { StoreRetry } from './replicator-retry.js';
import { ReplicatorStatus } from './replicator-status.js';
import { takeRoundTurn } from './round-turn.js';
import { SentGroups } from './sent-groups.js';
import { divergenceError, findDivergence } from './takeover.js';
import { Wake } from './replicator-wake.js';
import type { ObjectSealer } from './seal.js';
import { SealedBuffers } from './sealed-buffers.js';
import { readSegmentHead } from './segment-reader.js';
import { SnapshotNews } from './snapshot-news.js';
import type { ChainPoint } from './segment-point.js';
import { RetryingStore } from './store-retry.js';
import type { CommittedGroup } from './upload-pipeline.js';

/** Sealed segments in memory, beside two buffers of a segment each. */
const SEALED_BYTES_MAX = 16 * MIB;
/** The log is looked at this often while writes trickle in, not at every flush. */
const COLLECT_PAUSE_MS = 100;
/** A block that somebody waits for is given up soon where the store answers with failures. */
const FETCH_ATTEMPTS_MAX = 3;

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
  readonly #memory: IdleMemory;
  readonly #progress: ReplicatorProgress;
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
    this.#progress = new ReplicatorProgress(options.replication, (message) => this.#emit(message));
    this.#durable = options.durable;
    this.#segmentBlocks = Math.max(1, Math.floor(Math.min(config.segmentBytes, limits.segmentBytesMax) / BLOCK_BYTES));
    const sealedMax = Math.floor(SEALED_BYTES_MAX / (this.#segmentBlocks * BLOCK_BYTES));
    this.#slots = Math.max(1, Math.min(limits.uploadsInflightMax, sealedMax));
    this.#buffers = new SealedBuffers({ checksums: options.checksums, freeMax: this.#slots });
    this.#memory = new IdleMemory(clock, () => {
      for (const buffers of [options.source, this.#owned?.sealer, this.#buffers]) buffers?.releaseMemory();
    });
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
    this.#status.tracking = this.#progress.tracking ? 'tracking' : undefined;
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
      if (this.#progress.state.fenced && this.#options.takeOver === undefined)
        throw new GatewayError('fenced', 'this directory was fenced: another gateway owns the remote volume');
      this.#sent = await SentGroups.open(this.#options.disk, this.#options.checksums);
      const remote = await attachRemote({ ...this.#options, state: this.#progress.state, retry: this.#retry });
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
    return lsn <= this.#progress.state.replicatedLsn ? Promise.resolve() : this.#drains.until(lsn, signal);
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
      head: () => {
        const { remoteEpoch: epoch, segmentNumber: number, chainHead: link } = this.#progress.state;
        return { epoch, number, link };
      },
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
    const { state } = this.#progress;
    const local = localHeadOf(state, this.#durable.durableLsn);
    try {
      this.#owned = await this.#takeOwnership(remote);
    } catch (error) {
      if (!(error instanceof GatewayError) || !['remote-ahead', 'remote-forked'].includes(error.code)) throw error;
      // What the two sides have in common only the log could tell.
      if (this.#progress.tracking) throw error;
      const divergence = await this.#retry.run('compare the two sides', (request) =>
        findDivergence(local, {
          ...this.#options,
          sealer: remote.sealer,
          request,
          createdSizeBytes: remote.volume.sizeBytes,
          cursor: state.cursor,
        }),
      );
      throw divergence === undefined ? error : divergenceError(error, divergence, this.#options.config.name);
    }
    this.#collector = this.#newCollector();
    this.#progress.tookOver();
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
    if (this.#progress.tracking) return this.#round(remote);
    const filled = await this.#collector.collect(source, this.#durable.durableLsn);
    this.#incarnation.check();
    if (this.#collector.empty) {
      this.#skipEmpty();
      this.#busy(this.#owned?.pipeline.idle === false);
      if (!(await this.#compact())) await this.#wake.wait(this.#rest());
      return;
    }
    this.#busy(true);
    this.#memory.used();
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
    this.#rest();
    await this.#wake.wait(remainingMs);
    for (;;) {
      const restMs = untilMs - clock.nowMs();
      if (restMs <= 0 || this.#draining() || this.#durable.durableLsn === lsn) return;
      await this.#wake.wait(restMs);
    }
  }

  /** See IdleMemory. What is on its way to the bucket wakes the loop once it is there. */
  #rest(): number | undefined {
    return this.#owned?.pipeline.idle === false ? undefined : this.#memory.rest();
  }

  /** Marks and epoch records need no upload: the log behind them may go, and whoever drains them is done. */
  #skipEmpty(): void {
    if (this.#owned?.pipeline.idle === false) return;
    const { cursor, lastLsn } = this.#collector;
    this.#answerDrains(lastLsn);
    this.#progress.passedOver(lastLsn, cursor);
  }

  /** Brings the bucket to one moment of the volume, from what differs. */
  async #round(remote: AttachedRemote): Promise<void> {
    this.#memory.used();
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
    this.#progress.roundEnded(end);
    this.#collector = this.#newCollector();
    this.#pendingSinceMs = undefined;
    this.#track(this.#progress.tracking ? 'tracking' : undefined);
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
        cursor: this.#progress.state.cursor,
        destagedLsn: () => this.#durable.destagedLsn,
        durableLsn: () => this.#durable.durableLsn,
      },
      tail: () => ({ point: owned.tail, sizeBytes: owned.sizeBytes }),
      sending: (point, lengthBytes) => {
        this.#memory.used();
        this.#status.compactionBytes += lengthBytes;
        owned.housekeeping.sending(point.number);
        owned.tail = point;
      },
    });
  }

  async #takeOwnership(remote: AttachedRemote): Promise<OwnedEpoch> {
    assert(this.#sent !== undefined && this.#keeper !== undefined, 'an owner is attached, and knows what was sent');
    return takeEpoch(remote, {
      ...this.#options,
      store: this.#store,
      retry: this.#retry,
      incarnation: this.#incarnation,
      progress: this.#progress,
      durable: () => this.#durable,
      sent: this.#sent,
      keeper: this.#keeper,
      image: this.#image,
      buffers: this.#buffers,
      slots: this.#slots,
      segmentBlocks: this.#segmentBlocks,
      sentThrough: () => this.#owned?.tail.number ?? 0,
      found: (point, cursor) => this.#record(point, cursor, point.lsn),
      committed: (group) => this.#committed(group),
      counted: (book) => this.#counted(book),
      exclusive: (bytes) => this.#snapshots?.weighed(bytes),
      wake: () => this.#wake.notify(),
      failed: (error) => this.#fail(error),
    });
  }

  #counted(book: RemoteBook | undefined): void {
    if (book !== undefined) {
      const { table } = book;
      this.#snapshots?.tell(book);
      this.#status.remoteObjects = table.objects;
      this.#status.remoteBytes = table.bytes;
      this.#status.remoteLiveBytes = table.liveBytes;
    }
    this.#reports.changed();
  }

  #committed(group: CommittedGroup): void {
    // Marks may have been passed over since the last group that had something of the log.
    this.#record(group.point, group.cursor ?? this.#progress.state.cursor, group.lastLsn, group.staged);
    this.#wake.notify();
  }

  #record(point: ChainPoint, cursor: LogCursor, lastLsn: Lsn, staged?: StagedProgress): void {
    this.#status.recoveryPoint = point;
    this.#progress.committed(point, cursor, lastLsn, staged);
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

  #newCollector(cursor = this.#progress.state.cursor): GroupCollector {
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
      this.#progress.fenced(reason);
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
