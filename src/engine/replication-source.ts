/**
 * A volume as its replicator has it: how far it is durable, what is to go up in rounds, and how far the bucket is.
 *
 * It hears of every sync of the log, and is told what the bucket has; log space goes only behind that (P4). Nothing here
 * waits for the replicator.
 */
import type { DurableState, ReplicationState, RoundSource } from '../ports/replication.js';
import { PendingAges } from './pending-ages.js';
import type { VolumeParts } from './volume-open.js';

export interface ReplicationSourceOptions {
  readonly parts: Pick<
    VolumeParts,
    'log' | 'size' | 'progress' | 'reclaimer' | 'rounds' | 'destager' | 'oldestPendingMs'
  >;
  readonly replicated: boolean;
  readonly isClosed: () => boolean;
}

export class ReplicationSource {
  /** For the replicator of a volume that is tracked. */
  readonly rounds: RoundSource;
  /** Of records that were acknowledged. */
  readonly ages: PendingAges;
  private readonly options: ReplicationSourceOptions;
  private readonly listeners: ((state: DurableState) => void)[] = [];

  constructor(options: ReplicationSourceOptions) {
    const { log, reclaimer, rounds, destager, oldestPendingMs } = options.parts;
    this.options = options;
    this.rounds = {
      begin: () => reclaimer.beginRound(),
      read: (round, from, blocksMax) => destager.alone(() => rounds.read(round, from, blocksMax)),
      end: (round) => reclaimer.endRound(round),
    };
    this.ages = new PendingAges(oldestPendingMs, log.appendedLsn);
  }

  durableState(): DurableState {
    const { log, progress, size } = this.options.parts;
    return {
      durableLsn: log.durableLsn,
      sizeBytes: size.bytes,
      oldestPendingMs: this.oldestPendingMs,
      destagedLsn: progress.destagedLsn,
      segmentRecorded: progress.superblock.segmentRecorded,
    };
  }

  /** When the oldest write that the bucket lacks was acknowledged, 0: it lacks none. */
  get oldestPendingMs(): number {
    const { log, progress } = this.options.parts;
    const { replicatedLsn } = progress.replication;
    return !this.options.replicated || replicatedLsn >= log.dataLsn ? 0 : this.ages.oldestMs(replicatedLsn);
  }

  onDurable(listener: (state: DurableState) => void): void {
    this.listeners.push(listener);
  }

  /** The log is durable further than it was. */
  announce(): void {
    for (const listener of this.listeners) listener(this.durableState());
  }

  get state(): ReplicationState {
    return this.options.parts.progress.replication;
  }

  /** The bucket has everything up to state.replicatedLsn: recorded in the superblock, then log space goes (P4). */
  heard(state: ReplicationState): void {
    if (!this.options.isClosed()) this.options.parts.reclaimer.replicatedTo(state);
  }

  /** The bucket stays at what it has, whatever is written, until `releaseRounds`. */
  holdRounds(): Promise<void> {
    return this.options.parts.reclaimer.holdRounds();
  }

  releaseRounds(): void {
    this.options.parts.reclaimer.releaseRounds();
  }
}
