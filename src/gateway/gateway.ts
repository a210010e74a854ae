/**
 * The composition root: builds ports, volumes, replication thread, front ends and API from a configuration, and owns
 * their order. Starting: data directory locked, volumes open, then listeners, and only then what no client waits for: the
 * API and replication, whose code is most of the program. Stopping: listeners, requests in flight, volumes made durable
 * and clean, then replication, which is abandoned where it stands.
 *
 * Who ends the process is serve's affair: a broken promise or invariant is handed to `onFatal`.
 */
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { GatewayView, Operation, RestoreRequest, SessionReport, SnapshotReport } from '../api/gateway-view.js';
import { BandwidthGovernor } from '../bandwidth/governor.js';
import { GatewayError } from '../base/errors.js';
import type { ByteLength } from '../base/units.js';
import type { Configuration, VolumeConfiguration } from '../config/configuration.js';
import { formatListenAddress } from '../config/listen-address.js';
import { formatLimit } from '../config/quantity.js';
import type { MeteredVolume } from '../metrics/source.js';
import type { LogLevels } from '../platform/log-levels.js';
import { openReceiptOutlet } from '../platform/receipt-outlet.js';
import { ensureWritableDirectory, exists, removeTree } from '../platform/text-file.js';
import { UNLIMITED } from '../ports/bandwidth.js';
import type { BandwidthChange, BandwidthReport, BandwidthReports, RateLimits } from '../ports/bandwidth.js';
import type { DiskLock } from '../ports/disk.js';
import type { Log } from '../ports/log.js';
import type { ReceiptOutlet } from '../ports/receipt-outlet.js';
import type { ListenAddress } from '../ports/stream.js';
import type { ServedVolume, VolumeDirectory } from '../ports/volume-directory.js';
import type { ApiListener } from './api-listener.js';
import { changedFixed } from './fixed-setting.js';
import { FrontEnds } from './front-ends.js';
import { GatewayVolume } from './gateway-volume.js';
import { loadApiToken, loadChap } from './identity.js';
import { KeyRing } from './key-ring.js';
import { OperationList } from './operation-list.js';
import { ReplicationThread } from './replication-thread.js';
import { clearDraft } from './restore-draft.js';
import { storeAt } from './restore-location.js';
import { RestoreTurn } from './restore-turn.js';
import { removeRunFile, writeRunFile } from './run-file.js';
import type { RunFile } from './run-file.js';
import { createSystemPorts } from './system-ports.js';
import type { SystemPorts } from './system-ports.js';
import type { IscsiAccess } from './volume-offer.js';
import { clearRemoved, VolumeRoster } from './volume-roster.js';
import type { Removal } from './volume-roster.js';

/** A start that takes longer has its API, and replicates, before its volumes are open. */
const servedMsMax = 1000;

export interface GatewayOptions {
  readonly configuration: Configuration;
  readonly version: string;
  readonly log: Log;
  readonly logLevels: LogLevels;
  /** Create volumes even where the bucket holds volumes that the key does not open. */
  readonly allowNew: boolean;
  /** A promise or an invariant is broken: the process must end at once. */
  readonly onFatal: (error: Error) => void;
}

function outletOf({ exportTo, method }: VolumeConfiguration['receipts']): { readonly outlet?: ReceiptOutlet } {
  return exportTo === undefined ? {} : { outlet: openReceiptOutlet(exportTo, method) };
}

export class Gateway implements GatewayView, VolumeDirectory {
  readonly version: string;
  readonly #options: GatewayOptions;
  readonly #ports: SystemPorts;
  readonly #roster: VolumeRoster;
  readonly #operations: OperationList;
  readonly #restores: RestoreTurn;
  readonly #keys: KeyRing;
  readonly #frontEnds: FrontEnds;
  readonly #bandwidth: BandwidthGovernor;
  #lock: DiskLock | undefined;
  #thread: ReplicationThread | undefined;
  #api: ApiListener | undefined;
  readonly #stopping = new AbortController();
  #listening = false;

  constructor(options: GatewayOptions) {
    const { log, configuration, version } = options;
    this.version = version;
    this.#options = options;
    this.#ports = createSystemPorts();
    this.#keys = new KeyRing(configuration, this.#ports.random);
    this.#operations = new OperationList(this.#ports);
    this.#bandwidth = new BandwidthGovernor({
      clock: this.#ports.clock,
      plan: configuration.bandwidth,
      onChange: (limits) => {
        this.#thread?.setLimits(limits);
        log.info('bandwidth changed', { upload: formatLimit(limits.upload), download: formatLimit(limits.download) });
      },
    });
    this.#frontEnds = new FrontEnds({ configuration, directory: this, ports: this.#ports, log });
    this.#roster = new VolumeRoster({
      configuration,
      ports: this.#ports,
      log,
      stopping: this.#stopping.signal,
      create: (volume) => this.#createVolume(volume),
      release: async (name) => this.#thread?.release(name),
      operationOn: (name) => this.#operations.runningOn(name),
    });
    this.#restores = new RestoreTurn({
      configuration,
      ports: this.#ports,
      log,
      stopping: this.#stopping.signal,
      roster: this.#roster,
    });
  }

  /**
   * Resolves once listeners are up, and says where. Rejects, with everything undone, when something is wrong with the
   * configuration, or when not a single volume could be opened.
   */
  async start(): Promise<RunFile> {
    try {
      return await this.#start();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  async #start(): Promise<RunFile> {
    const { configuration, log } = this.#options;
    const { dataDir } = configuration;
    await ensureWritableDirectory(dataDir, 'dataDir');
    // Only then: a directory store that is missing later is a disk that is not mounted.
    const firstStart = !(await exists(join(dataDir, 'volumes')));
    const disk = this.#ports.openDisk(dataDir);
    this.#lock = await disk.lock('lock').catch((error: unknown) => {
      if (!(error instanceof GatewayError) || error.code !== 'volume-locked') throw error;
      throw new GatewayError('volume-locked', `${dataDir} is in use by another gateway`, { cause: error });
    });
    await clearDraft(dataDir);
    await clearRemoved(dataDir);
    if (configuration.volumes.some(({ replicate }) => replicate)) await this.#keys.master();
    const token = await loadApiToken(configuration.api.tokenFile, this.#ports.random);
    if (configuration.store !== undefined) this.#runThread(firstStart);
    await ensureWritableDirectory(join(dataDir, 'volumes'), 'dataDir');
    for (const volume of configuration.volumes) await this.#roster.enter(volume);
    this.#frontEnds.secure(await this.#frontEnds.loadSecurity(configuration));
    const serving = this.#serve();
    await Promise.race([serving, this.#ports.clock.sleep(servedMsMax)]);
    this.#thread?.begin();
    const api = await this.#startApi(token);
    const { nbd, iscsi } = await serving;
    const run = { pid: process.pid, nbd, iscsi, api };
    await writeRunFile(dataDir, run).catch((error: unknown) => {
      // A full disk must not keep volumes from being read; commands then need --api.
      if (!(error instanceof GatewayError) || error.code !== 'disk-full') throw error;
      log.warn(`${error.message}; commands will not find this gateway by themselves`);
    });
    this.#listening = true;
    log.info('listening', {
      nbd: nbd.map(formatListenAddress).join(' '),
      iscsi: iscsi.map(formatListenAddress).join(' '),
      api: formatListenAddress(api),
    });
    return run;
  }

  async #serve(): Promise<Pick<RunFile, 'nbd' | 'iscsi'>> {
    await this.#openVolumes();
    return this.#frontEnds.listen();
  }

  /** One thread for all that goes to and from buckets; made when something does. */
  #runThread(createStore: boolean): ReplicationThread {
    const { configuration, logLevels, onFatal } = this.#options;
    const { store } = configuration;
    this.#thread ??= new ReplicationThread({
      data: { store, createStore, logLevels, limits: this.#bandwidth.limits },
      clock: this.#ports.clock,
      onFatal,
    });
    return this.#thread;
  }

  async #createVolume(volume: VolumeConfiguration): Promise<GatewayVolume> {
    const { configuration, log, allowNew, onFatal } = this.#options;
    const { clock, random, checksums, bootId } = this.#ports;
    const directory = join(configuration.dataDir, 'volumes', volume.name);
    const thread = this.#thread;
    const { store } = configuration;
    const master = volume.replicate ? await this.#keys.master() : undefined;
    const chap = await loadChap(volume.chap);
    await ensureWritableDirectory(directory, 'dataDir');
    return new GatewayVolume({
      configuration: volume,
      iscsiAccess: { initiators: volume.initiators, chap },
      disk: this.#ports.openDisk(directory),
      checksums,
      clock,
      random,
      log: log.child('volume'),
      bootId,
      replication:
        thread !== undefined && store !== undefined && master !== undefined
          ? {
              connect: (receive) => thread.open(volume.name, directory, receive),
              hurry: () => thread.begin(),
              master,
              fencing: store.fencing,
              allowNew,
              owner: hostname(),
              ...outletOf(volume.receipts),
            }
          : undefined,
      hydration: {
        reader: hostname(),
        connect: async ({ store: location }, receive) => {
          const masters = await this.#keys.openers(location);
          const thread = this.#runThread(false);
          thread.begin();
          return { send: thread.hydrate(volume.name, directory, storeAt(location, store), receive), masters };
        },
      },
      discard: () => removeTree(directory),
      onFatal,
    });
  }

  async #startApi(token: string): Promise<ListenAddress> {
    const { configuration, log } = this.#options;
    const { listenWithApi } = await import('./api-listener.js');
    const api = await listenWithApi({
      gateway: this,
      metered: {
        version: this.version,
        volumes: () => this.volumes(),
        sessions: () => this.#frontEnds.sessions(),
        uploadLimit: () => this.bandwidth().upload.bytesPerSecond,
      },
      listen: configuration.api.listen,
      token,
      log: log.child('api'),
      clock: this.#ports.clock,
    });
    this.#api = api;
    // It was stopped meanwhile.
    if (this.#stopping.signal.aborted) await api.close();
    return api.address;
  }

  /** Opens all at once. One that fails is shown as failed; when all fail the first failure is the gateway's. */
  async #openVolumes(): Promise<void> {
    const { volumes } = this.#roster;
    const outcomes = await Promise.allSettled(volumes.map((volume) => volume.open()));
    const failures = outcomes.filter((outcome) => outcome.status === 'rejected').map(({ reason }) => reason as Error);
    if (failures.length === volumes.length && failures[0] !== undefined) throw failures[0];
    for (const failure of failures) this.#options.log.error(failure.message);
  }

  // VolumeDirectory

  list(): readonly ServedVolume[] {
    return this.#roster.volumes.map(({ served }) => served).filter((served) => served !== undefined);
  }

  find(name: string): ServedVolume | undefined {
    return this.#roster.find(name)?.served;
  }

  // GatewayView

  ready(): boolean {
    return this.#listening && this.#roster.volumes.every(({ ready }) => ready);
  }

  volumes(): readonly MeteredVolume[] {
    return this.#roster.volumes.map((volume) => volume.metered());
  }

  drain(name: string): Operation {
    const volume = this.#volumeNamed(name);
    if (volume.ready && !volume.replicates) {
      throw new GatewayError('not-supported', `volume ${name} does not replicate: replicate.enabled is false`);
    }
    return this.#operations.drain(volume);
  }

  takeOver(name: string): Operation {
    const volume = this.#volumeNamed(name);
    const work = (): Promise<undefined> => volume.takeOver().then(() => undefined);
    return this.#operations.begin({ kind: 'takeover', volume: name, work });
  }

  scrub(name: string, heal: boolean): Operation {
    const volume = this.#volumeNamed(name);
    return this.#operations.begin({
      kind: 'scrub',
      volume: name,
      work: async (progress) => {
        const { found, absent } = await volume.scrub(heal, progress);
        if (found.length > 0) throw new GatewayError('checksum-mismatch', found.join('; '));
        return absent === 0 ? undefined : `${absent} blocks are in the bucket only, and were not verified`;
      },
    });
  }

  restore(request: RestoreRequest): Operation {
    this.#restores.requireFree();
    this.#requireStarted();
    return this.#operations.begin({
      kind: 'restore',
      volume: request.as ?? request.volume,
      work: (progress) => this.#restores.run(request, progress),
    });
  }

  #volumeNamed(name: string): GatewayVolume {
    const volume = this.#roster.find(name);
    if (volume === undefined) throw new GatewayError('not-found', `there is no volume "${name}"`);
    return volume;
  }

  async receipt(name: string): Promise<string> {
    const volume = this.#volumeNamed(name);
    return volume.receipt();
  }

  snapshots(name: string): readonly SnapshotReport[] {
    return this.#volumeNamed(name).snapshots.list();
  }

  async resize(name: string, sizeBytes: ByteLength): Promise<void> {
    await this.#volumeNamed(name).resize(sizeBytes);
  }

  async addVolume(written: Readonly<Record<string, unknown>>): Promise<string> {
    this.#requireStarted();
    return this.#roster.add(written);
  }

  async removeVolume(name: string, removal: Removal): Promise<void> {
    this.#requireStarted();
    return this.#roster.remove(name, removal);
  }

  /** The API answers before: what is just being opened can be neither closed nor opened a second time. */
  #requireStarted(): void {
    if (!this.#listening) throw new GatewayError('volume-closed', 'the gateway is starting or stopping; try again');
  }

  async createSnapshot(name: string, snapshot: string | undefined): Promise<SnapshotReport> {
    return this.#volumeNamed(name).snapshots.create(snapshot);
  }

  async deleteSnapshot(name: string, snapshot: string): Promise<void> {
    return this.#volumeNamed(name).snapshots.delete(snapshot);
  }

  revert(name: string, snapshot: string, keepsPresent: boolean): Operation {
    const volume = this.#volumeNamed(name);
    return this.#operations.begin({
      kind: 'revert',
      volume: name,
      work: (progress) => volume.revert(snapshot, keepsPresent, progress),
    });
  }

  operation(id: string): Operation | undefined {
    return this.#operations.find(id);
  }

  operations(): readonly Operation[] {
    return this.#operations.all();
  }

  sessions(): readonly SessionReport[] {
    return this.#roster.volumes.flatMap((volume) => volume.sessions());
  }

  endSession(id: string): void {
    const found = this.#roster.volumes.some((volume) => volume.endSession(id, 'it was ended by the API'));
    if (!found) throw new GatewayError('not-found', `there is no session "${id}"`);
  }

  bandwidth(): BandwidthReports {
    const { limits } = this.#bandwidth;
    const report = (direction: keyof RateLimits): BandwidthReport => {
      const limit = limits[direction];
      const found = limit === 'auto' ? (this.#thread?.foundRate(direction) ?? UNLIMITED) : limit;
      return { limit, by: this.#bandwidth.by(direction), bytesPerSecond: found };
    };
    return { upload: report('upload'), download: report('download') };
  }

  changeBandwidth(change: BandwidthChange): void {
    this.#bandwidth.change(change);
  }

  // Life

  /**
   * Takes over what can change while running, with what the secret files say now; says what cannot. Rejects, and nothing
   * has changed, when one of those files cannot be used. Sessions that are there stay.
   */
  async reconfigure(fresh: Configuration): Promise<void> {
    const { configuration, log } = this.#options;
    const discoveryChap = await loadChap(fresh.iscsi.discoveryChap);
    const access = new Map<string, IscsiAccess>();
    for (const { name, initiators, chap } of fresh.volumes)
      access.set(name, { initiators, chap: await loadChap(chap) });
    const security = fresh.nbd.tls.mode === 'off' ? undefined : await this.#frontEnds.loadSecurity(fresh);
    this.#bandwidth.setPlan(fresh.bandwidth);
    this.#frontEnds.secure(security);
    this.#frontEnds.renewDiscovery(discoveryChap);
    const users = new Map(fresh.volumes.map(({ name, nbdUsers }) => [name, nbdUsers]));
    for (const { name, offer } of this.#roster.volumes) {
      offer.iscsiAccess = access.get(name) ?? offer.iscsiAccess;
      offer.nbdUsers = users.get(name) ?? offer.nbdUsers;
    }
    const changed = changedFixed(configuration, this.#roster.settings(), fresh);
    for (const key of changed) log.warn(`${key} changed in the configuration; restart the gateway for it`);
    // Elsewhere, or with another key, they are other volumes.
    if (!['dataDir', 'keyFile', 'store'].some((key) => changed.has(key))) await this.#roster.reload(fresh);
  }

  /**
   * Everything acknowledged is durable once this resolved. Never waits for the store, but to take a pin back for a moment.
   * A restore that has not come to serve its volume leaves nothing; behind that, the next start goes on with it.
   */
  async stop(): Promise<void> {
    this.#listening = false;
    this.#stopping.abort();
    this.#bandwidth.close();
    const begun = [this.#restores.idle(), this.#roster.idle()];
    await Promise.all([this.#frontEnds.close(), ...begun]);
    const closed = await Promise.allSettled(this.#roster.volumes.map((volume) => volume.close()));
    await this.#thread?.end();
    await this.#api?.close();
    if (this.#lock !== undefined) {
      await removeRunFile(this.#options.configuration.dataDir);
      await this.#lock.release();
      this.#lock = undefined;
    }
    for (const outcome of closed) if (outcome.status === 'rejected') throw outcome.reason;
  }
}
