/**
 * One configured volume in the gateway: opens it, ties the engine to its replicator and to those who attach it, and says
 * in which state it is.
 *
 * Invariants: a volume that was never seen in the bucket is not served before its remote volume was created or found
 * (P9); a fenced volume, or one that turns out to be older than its remote, takes no more writes unless whenFenced says
 * so (P7).
 */
import type { SessionReport } from '../api/gateway-view.js';
import { DurabilityLostError, GatewayError } from '../base/errors.js';
import type { ErrorCode } from '../base/errors.js';
import type { ByteLength, Lsn } from '../base/units.js';
import type { VolumeConfiguration } from '../config/configuration.js';
import type { VolumeIdentity } from '../engine/volume-directory-format.js';
import type { RevertRecord } from '../engine/revert-record.js';
import { Volume } from '../engine/volume.js';
import type { MeteredVolume } from '../metrics/source.js';
import type { Checksums } from '../ports/checksum.js';
import type { Clock } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { Log } from '../ports/log.js';
import type { Random } from '../ports/random.js';
import type { ServedVolume } from '../ports/volume-directory.js';
import type { EngineStatus, VolumeState, VolumeStatus } from '../ports/volume-status.js';
import { isEstablished } from '../remote/established-mark.js';
import { VolumeAccess } from './access.js';
import type { Drainable } from './drain-operation.js';
import { FillRate } from './fill-rate.js';
import { HydrationLine } from './hydration-line.js';
import type { HydrationPort } from './hydration-line.js';
import { ReplicatorLine } from './replicator-line.js';
import type { VolumeReplication } from './replicator-line.js';
import { ReservationLine } from './reservation-line.js';
import { RevertLine } from './revert-line.js';
import type { Progress } from './revert-line.js';
import { SanitizeLine } from './sanitize-line.js';
import { ScrubLine } from './scrub-line.js';
import { SnapshotLine } from './snapshot-line.js';
import type { ScrubReport } from './scrubber.js';
import { settleIn } from './volume-home.js';
import { VolumeOffer } from './volume-offer.js';
import type { IscsiAccess } from './volume-offer.js';
import { openingStatus } from './volume-placeholder.js';
import { VolumeRevert } from './volume-revert.js';

/** How long a start waits for the store's first answer about a new volume before it goes on without that volume. */
const firstAnswerMsMax = 5000;

/** What the replicator may find out that makes serving writes wrong. */
const staleCodes: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['remote-ahead', 'remote-forked']);

export interface GatewayVolumeOptions {
  readonly configuration: VolumeConfiguration;
  readonly iscsiAccess: IscsiAccess;
  /** Rooted at the volume's directory. */
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly bootId: string;
  /** undefined: the volume does not replicate. */
  readonly replication: VolumeReplication | undefined;
  /** To the bucket that a volume was restored from, while its content still comes from there. */
  readonly hydration?: HydrationPort;
  /** Removes the volume's directory. */
  readonly discard: () => Promise<void>;
  readonly onFatal: (error: Error) => void;
}

export class GatewayVolume implements Drainable {
  readonly name: string;
  readonly #options: GatewayVolumeOptions;
  readonly #access: VolumeAccess;
  readonly #reservations: ReservationLine;
  readonly #sanitize: SanitizeLine;
  #sanitizable = false;
  #rotational = false;
  readonly #fill = new FillRate();
  #identity: VolumeIdentity | undefined;
  #volume: Volume | undefined;
  #failure: GatewayError | undefined;
  readonly #line: ReplicatorLine | undefined;
  #hydration: HydrationLine | undefined;
  readonly #scrubs: ScrubLine;
  readonly #reverts: RevertLine;
  readonly #revert: VolumeRevert;
  #closed = false;

  /** Who may log in can be changed in it. */
  readonly offer: VolumeOffer;
  readonly snapshots: SnapshotLine;

  constructor(options: GatewayVolumeOptions) {
    const { configuration, clock, log } = options;
    this.name = configuration.name;
    this.#options = options;
    this.snapshots = new SnapshotLine({
      volume: this.name,
      schedule: configuration.snapshots,
      clock,
      log: log.child('snapshots'),
      replicates: () => this.replicates,
      refusal: () => this.#line?.refusal,
    });
    this.#scrubs = new ScrubLine({
      configuration,
      disk: options.disk,
      clock,
      log,
      line: () => this.#line?.sender,
      replicates: () => this.replicates,
      replicate: async () => this.replicateTo(await this.forceFlush()),
    });
    this.#reverts = new RevertLine({
      ...options,
      volume: this.name,
      line: () => this.#line?.sender,
    });
    this.#reservations = new ReservationLine({ ...options, volume: this.name });
    this.#sanitize = new SanitizeLine({ ...options, volume: this.name });
    this.#access = new VolumeAccess({ volume: this.name, mode: configuration.access, clock, log });
    this.offer = new VolumeOffer({ ...options, access: this.#access, reservations: this.#reservations });
    this.#revert = new VolumeRevert({
      access: this.#access,
      snapshots: this.snapshots,
      line: this.#reverts,
      replicateTo: (lsn) => this.replicateTo(lsn),
      onFatal: options.onFatal,
    });
    const { replication } = options;
    this.#line =
      replication &&
      new ReplicatorLine({
        ...options,
        replication,
        scrubs: this.#scrubs,
        reverts: this.#reverts,
        snapshots: this.snapshots,
        onFenced: () => this.#stopWrites(),
        onRefused: (error) => this.#refused(error),
        onOwner: () => this.#owner(),
      });
  }

  /** undefined until it is open. */
  get served(): ServedVolume | undefined {
    return this.offer.served;
  }

  get ready(): boolean {
    return this.served !== undefined;
  }

  /**
   * Opens the volume. A new one whose store does not answer stays in state `opening` after this resolved, and is served
   * once it does. A failure is both kept as the state and thrown.
   */
  async open(): Promise<void> {
    try {
      const volume = await this.#openEngine();
      const line = this.#line;
      const reverting = await this.#reverts.pending();
      if (reverting !== undefined) return await this.#goOnReverting(volume, reverting);
      if (line === undefined) {
        // A bucket would keep what a sanitize is to remove.
        this.#sanitizable = !(await this.#hasBucket(volume));
        return this.#serve(volume);
      }
      const answer = (await this.#hasBucket(volume)) ? undefined : line.firstAnswer();
      this.#replicate(volume, line);
      if (answer === undefined) return this.#serve(volume);
      await this.#serveAfter(volume, line, answer);
    } catch (error) {
      throw this.#fail(error);
    }
  }

  /**
   * A new volume that the bucket refused, or that never heard of its bucket, goes again with its directory: an empty
   * volume that nobody was served must not stand in the way of a restore.
   */
  async #discardUnserved(volume: Volume): Promise<void> {
    const empty = this.#identity?.origin === 'created' && (await volume.forceFlush()) === 0;
    await volume.close();
    if (empty) await this.#options.discard();
  }

  async #openEngine(): Promise<Volume> {
    const { configuration, disk, checksums, clock, random, log, bootId } = this.#options;
    const { name, sizeBytes } = configuration;
    const identity = await settleIn(this.#options);
    await this.#reservations.load();
    await this.#sanitize.load();
    if (this.#line !== undefined && this.#sanitize.state !== 'none') {
      throw new GatewayError(
        'not-supported',
        'it is being sanitized, and the bucket would keep what that is to remove: set replicate.enabled: false until it is over',
      );
    }
    const volume = await Volume.open({
      disk,
      checksums,
      clock,
      random,
      log,
      bootId,
      name,
      minimumSizeBytes: sizeBytes,
      bufferBytes: configuration.bufferBytes,
      whenFull: configuration.whenFull,
      fullTimeoutMs: configuration.fullTimeoutMs,
      readOnly: configuration.readOnly,
      replicated: this.#line !== undefined,
      ...(this.#line === undefined ? {} : { remoteCopy: this.#line.remoteCopy, follower: this.#line.follower }),
      provision: configuration.provision,
      onFatal: this.#options.onFatal,
    });
    this.#identity = identity;
    this.#volume = volume;
    this.snapshots.attach(volume.snapshots);
    this.#rotational = (await disk.isRotational?.()) ?? false;
    const { hydration: port } = this.#options;
    if (volume.hydration !== undefined && port !== undefined) {
      this.#hydration = new HydrationLine({ volume: volume.hydration, port, clock, log });
      void this.#hydration.start();
    }
    if (volume.replication.state.fenced) this.#stopWrites();
    return volume;
  }

  #replicate(volume: Volume, line: ReplicatorLine): void {
    if (this.#identity !== undefined) line.start(volume, this.#identity);
  }

  /** Serves once the remote volume is there; returns earlier when the store does not answer. */
  async #serveAfter(volume: Volume, line: ReplicatorLine, answer: Promise<void>): Promise<void> {
    const { clock, log } = this.#options;
    const served = answer.then(() => this.#serve(volume));
    const late = new AbortController();
    const waited = Promise.race([line.blocked(), clock.sleep(firstAnswerMsMax, late.signal)]);
    const outcome = await Promise.race([served, waited.then(() => 'waiting' as const)]).finally(() => late.abort());
    if (outcome !== 'waiting') return;
    log.warn(`volume ${this.name} is new and waits for its store`, { reason: line.status.reason });
    served.catch((error: unknown) => this.#failLate(error));
  }

  /** Whether a bucket ever had anything of the volume: a restored copy has its content from one. */
  async #hasBucket(volume: Volume): Promise<boolean> {
    return this.#identity?.origin === 'restored' || isEstablished(this.#options.disk, volume.replication.state);
  }

  #serve(volume: Volume): void {
    // Its store answered while it was being closed.
    if (this.#closed) return;
    const sanitize = this.#sanitizable ? this.#sanitize : undefined;
    this.offer.begin(volume, sanitize, this.#rotational);
    sanitize?.start(volume, volume.status().bufferCapacityBytes);
    this.#scrubs.start(volume);
    if (this.replicates) this.snapshots.start();
    this.#options.log.info('volume open', { volume: this.name, sizeBytes: volume.sizeBytes });
  }

  #fail(error: unknown): GatewayError {
    const failure =
      error instanceof GatewayError
        ? error
        : new GatewayError('disk-failed', error instanceof Error ? error.message : String(error), { cause: error });
    this.#failure = new GatewayError(failure.code, `volume ${this.name}: ${failure.message}`, { cause: error });
    return this.#failure;
  }

  /** Once nobody waits for the opening any more. */
  #failLate(error: unknown): void {
    const { message, code } = this.#fail(error);
    this.#options.log.error(message, { volume: this.name, code });
  }

  // Replication

  #refused(error: GatewayError): void {
    // A refused take-over leaves what was fenced as it is.
    const fenced = this.#volume?.replication.state.fenced === true;
    if (this.served !== undefined && !fenced && staleCodes.has(error.code)) {
      this.#stopWrites();
      this.#fail(error);
    }
  }

  #owner(): void {
    this.#failure = undefined;
    if (!this.#options.configuration.readOnly) this.#volume?.setWritable(true);
    this.#options.log.info('this gateway owns the remote volume again', { volume: this.name });
  }

  /** Makes this gateway the owner again (ReplicatorLine). */
  async takeOver(): Promise<void> {
    return this.#startedLine().takeOver();
  }

  /** Verifies log, image and bucket; one at a time. */
  async scrub(heal: boolean, progress: (doneBytes: number, totalBytes: number) => void): Promise<ScrubReport> {
    if (this.#volume === undefined || this.served === undefined) {
      throw new GatewayError('volume-closed', `volume ${this.name} is not open`);
    }
    return this.#scrubs.run(this.#volume, heal, progress);
  }

  /** Resolves once all of a restored volume's content is here. volume-closed: the signal came first. */
  async hydrated(progress: (doneBytes: number, totalBytes: number) => void, signal: AbortSignal): Promise<void> {
    await this.#hydration?.filled(progress, signal);
  }

  #stopWrites(): void {
    if (this.#options.configuration.whenFenced === 'readOnly') this.#volume?.setWritable(false);
  }

  // Drainable

  get replicates(): boolean {
    return this.#line?.started === true;
  }

  /** Grows it, durably; who is attached sees it as his protocol lets him. @throws GatewayError size-invalid, read-only */
  async resize(sizeBytes: ByteLength): Promise<void> {
    if (this.#volume === undefined || this.served === undefined)
      throw new GatewayError('volume-closed', `volume ${this.name} is not open`);
    await this.#volume.growth.to(sizeBytes);
    this.#options.log.info('volume grown', { volume: this.name, sizeBytes });
  }

  async forceFlush(): Promise<Lsn> {
    if (this.#volume === undefined) throw new GatewayError('volume-closed', `volume ${this.name} is not open`);
    return this.#volume.forceFlush();
  }

  /** Resolves once everything up to `lsn` is committed in the bucket. */
  async replicateTo(lsn: Lsn): Promise<void> {
    return this.#startedLine().replicateTo(lsn);
  }

  /** A receipt of the newest recovery point; the newest that was kept where the replicator cannot say more. */
  async receipt(): Promise<string> {
    return this.#startedLine().receipt();
  }

  #startedLine(): ReplicatorLine {
    if (this.#line?.started === true) return this.#line;
    throw new GatewayError('not-supported', `volume ${this.name} does not replicate`);
  }

  /**
   * Makes the volume what a snapshot is; nobody may have it, and nobody gets it meanwhile. First what it is now becomes a
   * snapshot, unless that is not wanted. A line that says how it ended.
   */
  async revert(name: string, keepsPresent: boolean, progress: Progress): Promise<string> {
    this.snapshots.recording();
    const volume = this.#volume;
    if (volume === undefined || this.served === undefined)
      throw new GatewayError('volume-closed', `volume ${this.name} is not open`);
    if (volume.readOnly) throw new GatewayError('read-only', `volume ${this.name} is read-only`);
    if (this.#hydration?.status !== undefined)
      throw new GatewayError(
        'invalid-request',
        `volume ${this.name} is still being restored; wait until all of it is here`,
      );
    const kept = await this.#revert.run(volume, name, keepsPresent, progress);
    const before = kept === undefined ? '' : `; what it was is snapshot ${kept}`;
    return `${this.name} is what snapshot ${name} is${before}`;
  }

  /** After a start in the middle of it: served once it is done. */
  async #goOnReverting(volume: Volume, record: RevertRecord): Promise<void> {
    const line = this.#line;
    if (line === undefined) {
      throw new GatewayError(
        'not-supported',
        `it was being reverted to snapshot ${record.snapshot}, and needs its bucket for the rest: let it replicate again`,
      );
    }
    await this.#revert.resume(volume, record);
    this.#replicate(volume, line);
    const done = this.#revert.finish(volume, record).then(() => this.#serve(volume));
    done.catch((error: unknown) => {
      if (error instanceof DurabilityLostError) return this.#options.onFatal(error);
      if (!this.#closed) this.#failLate(error);
    });
  }

  // Removal

  /**
   * Before it is closed for good: nobody has the volume, and nobody gets it from now on. Where it cannot be, nothing has
   * changed. `acceptLoss`: the bucket need not have all of it. volume-in-use, volume-sanitizing, remote-behind
   */
  async retire(acceptLoss: boolean): Promise<void> {
    const sanitizing = this.#sanitize.refusal();
    if (sanitizing !== undefined) throw sanitizing;
    this.#access.lock('is being removed');
    if (acceptLoss || this.#line === undefined) return;
    try {
      await this.#requireReplicated();
    } catch (error) {
      this.#access.unlock();
      throw error;
    }
  }

  async #requireReplicated(): Promise<void> {
    if (this.#volume === undefined)
      throw new GatewayError('remote-behind', `volume ${this.name} is not open: nobody knows what its bucket lacks`);
    await this.#volume.forceFlush();
    const { oldestPendingMs, trackedDirtyBlocks } = this.#volume.status();
    if (oldestPendingMs === 0 && trackedDirtyBlocks === 0) return;
    throw new GatewayError('remote-behind', `the bucket of volume ${this.name} lacks what was written last`);
  }

  // Status

  status(): VolumeStatus {
    const engine = this.#engineStatus();
    return {
      ...engine,
      name: this.name,
      uuid: this.#identity?.uuid ?? '',
      readOnly: this.#volume?.readOnly ?? this.#options.configuration.readOnly,
      clients: this.#access.clients(),
      replication: this.#line?.status,
      hydration: this.#hydration?.status,
      reservation: this.#reservations.status,
    };
  }

  sessions(): SessionReport[] {
    return this.#access.sessions().map(({ id, frontend, description, connections }) => {
      return { id, volume: this.name, frontend, client: description, connections };
    });
  }

  /** False when there is no session of that id here. */
  endSession(id: string, reason: string): boolean {
    return this.#access.end(id, reason);
  }

  metered(): MeteredVolume {
    const status = this.status();
    const { clock } = this.#options;
    const { oldestPendingMs, bufferUsedBytes, bufferCapacityBytes } = status;
    return {
      status,
      stats: this.offer.stats,
      transfers: this.#line?.transfers,
      ...(this.#hydration === undefined ? {} : { hydratedBytes: this.#hydration.downloadedBytes }),
      scrub: this.#scrubs.counts,
      snapshots: this.replicates ? this.snapshots.counts() : undefined,
      timeToFullSeconds: this.#fill.timeToFullSeconds(clock.nowMs(), bufferUsedBytes, bufferCapacityBytes),
      lagSeconds: oldestPendingMs === 0 ? 0 : Math.max(0, clock.wallMs() - oldestPendingMs) / 1000,
    };
  }

  #engineStatus(): EngineStatus {
    const engine = this.#volume?.status() ?? openingStatus(this.#options.configuration);
    if (this.#failure !== undefined) return { ...engine, state: 'failed', reason: this.#failure.message };
    if (this.served !== undefined) {
      const why = { fenced: this.#line?.status.reason, hydrating: this.#hydration?.status?.problem };
      const { state } = engine;
      const sanitizing = this.#sanitize.refusal()?.message;
      return {
        ...engine,
        reason: engine.reason ?? sanitizing ?? (state === 'fenced' || state === 'hydrating' ? why[state] : undefined),
      };
    }
    const state: VolumeState = 'opening';
    const { snapshot } = this.#revert;
    const reverting = snapshot && `it becomes what snapshot ${snapshot} is`;
    return { ...engine, state, reason: this.#line?.status.reason ?? reverting };
  }

  /** Refuses new clients, makes everything durable, leaves a clean directory. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#access.close();
    this.#reservations.close();
    this.#scrubs.close();
    this.snapshots.close();
    this.#reverts.close();
    this.#sanitize.close();
    this.#line?.close();
    this.#hydration?.close();
    const volume = this.#volume;
    if (volume === undefined) return;
    if (this.served === undefined && this.#line?.awaitsAnswer === true) await this.#discardUnserved(volume);
    else await volume.close();
  }
}
