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
import type { ChapConfiguration, Configuration, VolumeConfiguration } from '../config/configuration.js';
import { formatListenAddress, isLocal } from '../config/listen-address.js';
import { formatLimit } from '../config/quantity.js';
import { insecureListener } from '../config/rule.js';
import { readIdentity } from '../engine/volume-directory-format.js';
import { IscsiTarget } from '../frontends/iscsi/target.js';
import { NbdServer } from '../frontends/nbd/server.js';
import type { MeteredVolume } from '../metrics/source.js';
import { inheritedSockets } from '../platform/inherited-sockets.js';
import type { LogLevels } from '../platform/log-levels.js';
import { openReceiptOutlet } from '../platform/receipt-outlet.js';
import { NetStreamFactory } from '../platform/socket-listener.js';
import { ensureWritableDirectory, exists, removeTree } from '../platform/text-file.js';
import { UNLIMITED } from '../ports/bandwidth.js';
import type { BandwidthChange, BandwidthReport, BandwidthReports, RateLimits } from '../ports/bandwidth.js';
import type { DiskLock } from '../ports/disk.js';
import type { Log } from '../ports/log.js';
import type { ReceiptOutlet } from '../ports/receipt-outlet.js';
import type { InheritedSocket, ListenAddress, StreamSecurity } from '../ports/stream.js';
import type { ChapSecrets, ServedVolume, VolumeDirectory } from '../ports/volume-directory.js';
import type { MasterKey } from '../remote/key.js';
import type { ApiListener } from './api-listener.js';
import { DrainOperation } from './drain-operation.js';
import { GatewayVolume } from './gateway-volume.js';
import { loadApiToken, loadChap, loadMasterKey } from './identity.js';
import { ReplicationThread } from './replication-thread.js';
import { clearDraft } from './restore-draft.js';
import { storeAt } from './restore-location.js';
import { removeRunFile, writeRunFile } from './run-file.js';
import type { RunFile } from './run-file.js';
import { createSystemPorts } from './system-ports.js';
import type { SystemPorts } from './system-ports.js';
import { TaskOperation } from './task-operation.js';
import type { TaskOptions } from './task-operation.js';
import { loadTlsSecurity } from './tls-credentials.js';
import type { IscsiAccess } from './volume-offer.js';
import { clearRemoved, VolumeRoster } from './volume-roster.js';
import type { Removal } from './volume-roster.js';

/** A start that takes longer has its API, and replicates, before its volumes are open. */
const servedMsMax = 1000;
/** Finished and running operations that the API can still show. */
const operationsMax = 100;
const noSessions = { logins: 0, rejections: new Map<string, number>() };

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
  readonly #operations = new Map<string, DrainOperation | TaskOperation>();
  readonly #streams: NetStreamFactory;
  readonly #nbd: NbdServer;
  /** Made when its secrets are read. */
  #iscsi: IscsiTarget | undefined;
  readonly #bandwidth: BandwidthGovernor;
  #lock: DiskLock | undefined;
  #thread: ReplicationThread | undefined;
  #api: ApiListener | undefined;
  #master: Promise<MasterKey> | undefined;
  /** The restore that runs; settles with its end. */
  #restoring: Promise<unknown> | undefined;
  readonly #stopping = new AbortController();
  #listening = false;

  constructor(options: GatewayOptions) {
    const { log, configuration, version } = options;
    this.version = version;
    this.#options = options;
    this.#ports = createSystemPorts();
    this.#bandwidth = new BandwidthGovernor({
      clock: this.#ports.clock,
      plan: configuration.bandwidth,
      onChange: (limits) => {
        this.#thread?.setLimits(limits);
        log.info('bandwidth changed', { upload: formatLimit(limits.upload), download: formatLimit(limits.download) });
      },
    });
    this.#streams = new NetStreamFactory({ log });
    const streams = this.#streams;
    const { clock } = this.#ports;
    this.#nbd = new NbdServer({ directory: this, streams, clock, log, tls: configuration.nbd.tls.mode });
    this.#roster = new VolumeRoster({
      configuration,
      ports: this.#ports,
      log,
      stopping: this.#stopping.signal,
      create: (volume) => this.#createVolume(volume),
      release: async (name) => this.#thread?.release(name),
      operationOn: (name) => this.#operationOn(name),
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
    if (configuration.volumes.some(({ replicate }) => replicate)) await this.#masterKey();
    const token = await loadApiToken(configuration.api.tokenFile, this.#ports.random);
    if (configuration.store !== undefined) this.#runThread(firstStart);
    await ensureWritableDirectory(join(dataDir, 'volumes'), 'dataDir');
    for (const volume of configuration.volumes) await this.#roster.enter(volume);
    this.#nbd.security = await this.#loadSecurity(configuration);
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
    const { configuration } = this.#options;
    await this.#openVolumes();
    const nbd = configuration.nbd.enabled ? await this.#listenNbd() : [];
    this.#iscsi = configuration.iscsi.enabled ? await this.#createIscsi() : undefined;
    return { nbd, iscsi: (await this.#iscsi?.listen(configuration.iscsi.listen)) ?? [] };
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

  /** Read once; where that fails, again at the next call. Only the demonstration makes one by itself. */
  #masterKey(): Promise<MasterKey> {
    const { keyFile, demonstration } = this.#options.configuration;
    this.#master ??= loadMasterKey(keyFile, demonstration, this.#ports.random).catch((error: unknown) => {
      this.#master = undefined;
      throw error;
    });
    return this.#master;
  }

  async #createVolume(volume: VolumeConfiguration): Promise<GatewayVolume> {
    const { configuration, log, allowNew, onFatal } = this.#options;
    const { clock, random, checksums, bootId } = this.#ports;
    const directory = join(configuration.dataDir, 'volumes', volume.name);
    const thread = this.#thread;
    const { store } = configuration;
    const master = volume.replicate ? await this.#masterKey() : undefined;
    const chap = await chapOf(volume.chap);
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
          const masters = await this.#keysFor(location);
          const thread = this.#runThread(false);
          thread.begin();
          return { send: thread.hydrate(volume.name, directory, storeAt(location, store), receive), masters };
        },
      },
      discard: () => removeTree(directory),
      onFatal,
    });
  }

  /** Those that may open the bucket that a volume was restored from: the one of the restore, and this gateway's own. */
  async #keysFor(location: Readonly<Record<string, string>>): Promise<MasterKey[]> {
    const paths = new Set([
      location['keyFile'] ?? this.#options.configuration.keyFile,
      this.#options.configuration.keyFile,
    ]);
    const found = await Promise.allSettled([...paths].map((path) => loadMasterKey(path, false, this.#ports.random)));
    const keys = found.filter((outcome) => outcome.status === 'fulfilled').map(({ value }) => value);
    if (keys.length === 0 && found[0]?.status === 'rejected') throw found[0].reason;
    return keys;
  }

  #listenNbd(): Promise<readonly ListenAddress[]> {
    const { nbd, trustedNetwork } = this.#options.configuration;
    const open = trustedNetwork || nbd.tls.mode === 'required';
    const addresses = nbd.listen.flatMap((address): readonly (ListenAddress | InheritedSocket)[] =>
      address.kind === 'systemd' ? inheritedSockets(address.name, 'nbd.listen') : [address],
    );
    return this.#nbd.listen(addresses, (bound) => {
      if (open || isLocal(bound)) return;
      throw new GatewayError('insecure-listener', insecureListener('nbd.listen', bound, 'NBD without TLS'));
    });
  }

  /** undefined: NBD does without TLS. */
  async #loadSecurity({ nbd }: Configuration): Promise<StreamSecurity | undefined> {
    if (!nbd.enabled || this.#nbd.tls === 'off') return undefined;
    const { security, warnings } = await loadTlsSecurity(nbd.tls, this.#ports.clock.wallMs());
    for (const warning of warnings) this.#options.log.warn(warning);
    return security;
  }

  async #createIscsi(): Promise<IscsiTarget> {
    const { targetPrefix, advertise, digests, discoveryChap } = this.#options.configuration.iscsi;
    const { clock, checksums, random } = this.#ports;
    return new IscsiTarget({
      directory: this,
      streams: this.#streams,
      clock,
      log: this.#options.log.child('iscsi'),
      checksums,
      random,
      options: {
        targetPrefix,
        advertise,
        digests,
      },
      discoveryChap: await chapOf(discoveryChap),
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
        sessions: () => ({ nbd: this.#nbd, iscsi: this.#iscsi ?? noSessions }),
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
    return this.#keep(new DrainOperation({ id: this.#ports.random.uuid(), volume, clock: this.#ports.clock }));
  }

  takeOver(name: string): Operation {
    const volume = this.#volumeNamed(name);
    const work = (): Promise<undefined> => volume.takeOver().then(() => undefined);
    return this.#begin({ kind: 'takeover', volume: name, work });
  }

  scrub(name: string, heal: boolean): Operation {
    const volume = this.#volumeNamed(name);
    return this.#begin({
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
    if (this.#restoring !== undefined) {
      throw new GatewayError('invalid-request', 'another restore runs; begin this one after it');
    }
    this.#requireStarted();
    const work = (progress: (doneBytes: number, totalBytes: number) => void): Promise<string> => {
      const running = this.#restore(request, progress).finally(() => (this.#restoring = undefined));
      this.#restoring = running;
      return running;
    };
    return this.#begin({ kind: 'restore', volume: request.as ?? request.volume, work });
  }

  async #restore(request: RestoreRequest, progress: (doneBytes: number, totalBytes: number) => void): Promise<string> {
    const { configuration, log } = this.#options;
    const { signal } = this.#stopping;
    const claimed: string[] = [];
    const { restoreOnline } = await import('./online-restore.js');
    const restored = await restoreOnline(request, {
      configuration,
      ports: this.#ports,
      log,
      signal,
      volumeOf: (uuid) => this.#volumeOf(uuid),
      has: (name) => this.#roster.find(name) !== undefined,
      claim: (name) => {
        this.#roster.claim(name);
        claimed.push(name);
      },
    })
      .then(async (done) => ({ ...done, volume: await this.#roster.enter(done.volume) }))
      .finally(() => claimed.forEach((name) => this.#roster.unclaim(name)));
    const { volume } = restored;
    await volume.open();
    if (signal.aborted) {
      throw new GatewayError('volume-closed', 'the gateway is stopping; the volume is served after its next start');
    }
    if (request.full === true) await volume.hydrated(progress, signal);
    return restored.summary;
  }

  /** Whether it could be opened or not. */
  async #volumeOf(uuid: string): Promise<string | undefined> {
    for (const { name } of this.#roster.volumes) {
      const disk = this.#ports.openDisk(join(this.#options.configuration.dataDir, 'volumes', name));
      // What cannot be read is no volume either.
      const identity = await readIdentity(disk).catch(() => undefined);
      if (identity?.uuid === uuid) return name;
    }
    return undefined;
  }

  #volumeNamed(name: string): GatewayVolume {
    const volume = this.#roster.find(name);
    if (volume === undefined) throw new GatewayError('not-found', `there is no volume "${name}"`);
    return volume;
  }

  #operationOn(name: string): string | undefined {
    for (const operation of this.#operations.values()) {
      const { kind, volume, state } = operation.report();
      if (volume === name && state === 'running') return kind;
    }
    return undefined;
  }

  #begin(task: Pick<TaskOptions, 'kind' | 'volume' | 'work'>): Operation {
    const { random, clock } = this.#ports;
    return this.#keep(new TaskOperation({ ...task, id: random.uuid(), clock }));
  }

  #keep(operation: DrainOperation | TaskOperation): Operation {
    this.#operations.set(operation.id, operation);
    for (const id of this.#operations.keys()) {
      if (this.#operations.size <= operationsMax) break;
      this.#operations.delete(id);
    }
    return operation.report();
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
    return this.#begin({
      kind: 'revert',
      volume: name,
      work: (progress) => volume.revert(snapshot, keepsPresent, progress),
    });
  }

  operation(id: string): Operation | undefined {
    return this.#operations.get(id)?.report();
  }

  operations(): readonly Operation[] {
    return [...this.#operations.values()].map((operation) => operation.report());
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
    const discoveryChap = await chapOf(fresh.iscsi.discoveryChap);
    const access = new Map<string, IscsiAccess>();
    for (const { name, initiators, chap } of fresh.volumes) access.set(name, { initiators, chap: await chapOf(chap) });
    const security = fresh.nbd.tls.mode === 'off' ? undefined : await this.#loadSecurity(fresh);
    this.#bandwidth.setPlan(fresh.bandwidth);
    this.#nbd.security = security ?? this.#nbd.security;
    if (this.#iscsi !== undefined) this.#iscsi.discoveryChap = discoveryChap;
    const users = new Map(fresh.volumes.map(({ name, nbdUsers }) => [name, nbdUsers]));
    for (const { name, offer } of this.#roster.volumes) {
      offer.iscsiAccess = access.get(name) ?? offer.iscsiAccess;
      offer.nbdUsers = users.get(name) ?? offer.nbdUsers;
    }
    const changed = new Set<string>();
    const fixed = fixedPart(configuration);
    for (const [key, value] of Object.entries(fixedPart(fresh))) {
      if (JSON.stringify(value) !== JSON.stringify(fixed[key])) changed.add(key);
    }
    const asFresh = new Map(fresh.volumes.map((volume) => [volume.name, fixedVolume(volume)]));
    for (const volume of this.#roster.settings()) {
      const now = asFresh.get(volume.name);
      if (now !== undefined && now !== fixedVolume(volume)) changed.add(`volumes: ${volume.name}`);
    }
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
    const begun = [this.#restoring?.catch(() => undefined), this.#roster.idle()];
    await Promise.all([this.#nbd.close(), this.#iscsi?.close(), ...begun]);
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

/** What takes a restart to change: all but bandwidth, volumes, and who may log in. */
function fixedPart({ dataDir, keyFile, nbd, iscsi, api, store }: Configuration): Readonly<Record<string, unknown>> {
  return {
    dataDir,
    keyFile,
    nbd: { ...nbd, tls: nbd.tls.mode },
    iscsi: { ...iscsi, discoveryChap: undefined },
    api,
    store,
  };
}

/** `added` only says where it stands; a larger size is taken over (VolumeRoster). */
function fixedVolume(volume: VolumeConfiguration): string {
  const free = { sizeBytes: undefined, initiators: undefined, chap: undefined, nbdUsers: undefined, added: undefined };
  return JSON.stringify({ ...volume, ...free });
}

async function chapOf(chap: ChapConfiguration | undefined): Promise<ChapSecrets | undefined> {
  return chap === undefined ? undefined : loadChap(chap);
}
