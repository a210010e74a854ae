/**
 * Finds the remote volume, or creates it, before anything else is sent (P9). Creating waits for the store; a name that
 * is taken, a volume that no given key opens, a history that has vanished are refusals. Crashes are harmless at every
 * step: the wrapped key is kept here (first-key.ts) before it is put, and put before the volume object; all three are
 * recognised when they are found again.
 */
import { GatewayError } from '../base/errors.js';
import type { Clock } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { FrameCipher } from '../ports/frame-cipher.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import type { DurableState, ReplicationState } from '../ports/replication.js';
import { openVolumeSealer } from './key.js';
import type { OpenKeyOptions } from './key.js';
import { DELETES_FORBIDDEN } from './deletion.js';
import { ESTABLISHED_FILE, isEstablished } from './established-mark.js';
import { forgetFirstKey, keepFirstKey } from './first-key.js';
import { deletedSince, headProblem } from './ownership.js';
import type { LocalHead, OwnershipEvent } from './ownership.js';
import { parseReceipt, verifyReceipt } from './receipt.js';
import { ReceiptKeeper } from './receipt-keeper.js';
import { historyEnd, proveReceipt } from './receipt-proof.js';
import type { ReplicationConfig } from './replication-messages.js';
import type { NeighbourSurvey } from './neighbours.js';
import type { StoreRetry } from './replicator-retry.js';
import { checkpointFrom } from './restore-checkpoint.js';
import type { ObjectSealer } from './seal.js';
import { readSegmentHead } from './segment-reader.js';
import type { SegmentHead } from './segment-reader.js';
import type { ChainPoint } from './segment-point.js';
import { probeConditionalPut } from './store-probe.js';
import type { Fencing } from './upload.js';
import { readVolume, sealVolume } from './volume-object.js';
import type { RemoteVolume } from './volume-object.js';

export interface AttachOptions {
  readonly config: ReplicationConfig;
  readonly state: ReplicationState;
  readonly durable: DurableState;
  readonly disk: Disk;
  readonly store: ObjectStore;
  readonly retry: StoreRetry;
  readonly neighbours: NeighbourSurvey;
  readonly clock: Clock;
  readonly random: Random;
  /** Of the sealer. */
  readonly cipher?: FrameCipher | undefined;
  readonly log: Log;
}

export interface AttachedRemote {
  readonly sealer: ObjectSealer;
  readonly volume: RemoteVolume;
  readonly fencing: Fencing;
  /** The store was seen to forbid deletes: then compacting would only make the bucket grow. */
  readonly deletesForbidden: boolean;
  readonly created: boolean;
  /** The newest committed segment that the directory knows, verified; undefined when it knows none. */
  readonly head: Extract<SegmentHead, { kind: 'segment' }> | undefined;
  readonly receipts: ReceiptKeeper;
}

export async function attachRemote(options: AttachOptions): Promise<AttachedRemote> {
  const { config, state, disk, retry } = options;
  if (state.segmentNumber === 0 && state.replicatedLsn > 0) {
    throw new GatewayError(
      'not-supported',
      `volume ${config.name} has content that its log does not hold and the bucket does not know; this version replicates a volume from its creation on`,
    );
  }
  const { fencing, deletesForbidden } = await retry.run('probe the store', (request) => probeStore(options, request));
  const established = await isEstablished(disk, state);
  const found = await retry.run('find the volume', (request) => findVolume(options, request));
  if (established && found?.volume === undefined) {
    throw new GatewayError(
      'remote-vanished',
      `volume ${config.name} (${config.uuid}) was in ${options.store.description} and is not there any more`,
    );
  }
  const created = found?.volume === undefined;
  const { sealer, volume } =
    found?.volume === undefined
      ? await createVolume(options, fencing, found?.sealer)
      : { ...found, volume: found.volume };
  if (!established) {
    const mark = { formatVersion: 1, uuid: config.uuid, keyId: Buffer.from(sealer.keyId).toString('hex') };
    await disk.writeSmall(ESTABLISHED_FILE, Buffer.from(`${JSON.stringify(mark)}\n`));
  }
  await forgetFirstKey(disk);
  const head = await readLocalHead(options, sealer, volume);
  const receipts = await ReceiptKeeper.open(disk, sealer, options.log);
  await checkReceipts(options, receipts, { sealer, volume });
  return { sealer, volume, fencing, deletesForbidden, created, head, receipts };
}

/** Refuses a bucket that is older than, or no descendant of, the newest receipt known. */
async function checkReceipts(
  options: AttachOptions,
  receipts: ReceiptKeeper,
  { sealer, volume }: { readonly sealer: ObjectSealer; readonly volume: RemoteVolume },
): Promise<void> {
  const { config, state, durable, store, retry, log } = options;
  const known = (config.knownReceipts ?? []).map((text) => parseReceipt(text, 'the exported receipt'));
  for (const receipt of known) {
    verifyReceipt(sealer, receipt);
    if (receipt.lsn <= durable.durableLsn) continue;
    throw new GatewayError(
      'remote-ahead',
      `the exported receipt knows this volume up to LSN ${receipt.lsn}, this directory has it up to ${durable.durableLsn}: the directory was rolled back or cloned`,
    );
  }
  if (receipts.newest !== undefined) known.push(receipts.newest);
  for (const receipt of known) {
    // This directory went on from there: its head, which was found in the bucket, descends from it.
    if (receipts.has(receipt) && receipt.number <= state.segmentNumber) continue;
    const head = { epoch: state.remoteEpoch, number: state.segmentNumber, link: state.chainHead };
    const { sizeBytes: createdSizeBytes } = volume;
    await retry.run('hold the bucket to a receipt', (request) =>
      proveReceipt(receipt, head, { store, sealer, request, log, createdSizeBytes }),
    );
  }
}

export function localHeadOf(state: ReplicationState, durableLsn: number): LocalHead {
  return {
    epoch: state.remoteEpoch,
    number: state.segmentNumber,
    link: state.chainHead,
    replicatedLsn: state.replicatedLsn,
    durableLsn,
  };
}

async function readLocalHead(
  options: AttachOptions,
  sealer: ObjectSealer,
  volume: RemoteVolume,
): Promise<AttachedRemote['head']> {
  const { state, store, retry, log } = options;
  if (state.segmentNumber === 0) return undefined;
  const key = { epoch: state.remoteEpoch, number: state.segmentNumber };
  const head = await retry.run('read the newest segment', (request) => readSegmentHead(store, sealer, key, request));
  const problem = headProblem(localHeadOf(state, 0), eventOf(head));
  if (problem === undefined) return head.kind === 'segment' ? head : undefined;
  if (problem.code !== 'remote-vanished') throw new GatewayError(problem.code, problem.reason);
  const ahead = await retry.run('look for checkpoints', (request) =>
    checkpointFrom(store, sealer, state.segmentNumber, request),
  );
  if (ahead > state.segmentNumber) {
    const refusal = deletedSince(key, ahead);
    throw new GatewayError(refusal.code, refusal.reason);
  }
  const end = await retry.run('see what is missing', (request) =>
    historyEnd({ store, sealer, request, log, createdSizeBytes: volume.sizeBytes }),
  );
  const missing = end === undefined ? '' : `; ${lostText(end, state)}`;
  throw new GatewayError(problem.code, `${problem.reason}${missing}`);
}

/** What was found at a segment's key, as the ownership machine takes it. */
export function eventOf(head: SegmentHead): OwnershipEvent {
  switch (head.kind) {
    case 'segment':
      return { type: 'segment', facts: head.index, link: head.link };
    case 'fence':
      return { type: 'fence', fence: head.fence };
    case 'absent':
      return { type: 'absent' };
  }
}

function lostText(end: ChainPoint, state: ReplicationState): string {
  const segments = state.segmentNumber - end.number;
  const lost = `at least ${segments} segment${segments === 1 ? '' : 's'} and ${state.replicatedLsn - end.lsn} LSNs are missing`;
  return end.number === 0
    ? `${lost}: nothing is left`
    : `${lost}: what is left ends ${new Date(end.wallMs).toISOString()}`;
}

async function probeStore(
  options: AttachOptions,
  request: StoreRequest,
): Promise<Pick<AttachedRemote, 'fencing' | 'deletesForbidden'>> {
  const { config, store, random, clock, log } = options;
  if (config.fencing === 'none') return { fencing: 'none', deletesForbidden: false };
  const appendOnly = config.compaction !== true;
  let deletesForbidden = false;
  const { conditionalPut, detail } = await probeConditionalPut(store, {
    ...request,
    random,
    clock,
    appendOnly,
    refused: ({ message }) => {
      deletesForbidden = true;
      log.warn(`${DELETES_FORBIDDEN}: ${message}`);
    },
  });
  if (conditionalPut) return { fencing: 'conditional', deletesForbidden };
  throw new GatewayError(
    'store-no-conditional-put',
    `${store.description} does not honour If-None-Match (${detail}), so a second gateway could not be kept out`,
  );
}

async function findVolume(
  options: AttachOptions,
  request: StoreRequest,
): Promise<{ sealer: ObjectSealer; volume: RemoteVolume | undefined } | undefined> {
  const { store, config, random, cipher } = options;
  const sealer = await openSealer(store, { ...request, uuid: config.uuid, masters: config.masters, random, cipher });
  if (sealer === undefined) return undefined;
  return { sealer, volume: await readVolume(store, sealer, request) };
}

/** undefined: the volume has no key at all. key-mismatch when it has, but none that opens. */
async function openSealer(store: ObjectStore, options: OpenKeyOptions): Promise<ObjectSealer | undefined> {
  try {
    return await openVolumeSealer(store, options);
  } catch (error) {
    if (error instanceof GatewayError && error.code === 'object-missing') return undefined;
    throw error;
  }
}

async function createVolume(
  options: AttachOptions,
  fencing: Fencing,
  ownSealer: ObjectSealer | undefined,
): Promise<{ sealer: ObjectSealer; volume: RemoteVolume }> {
  const { config, disk, store, retry, clock, random, cipher } = options;
  const { uuid, masters } = config;
  await retry.run('look for other volumes', (request) => refuseTakenName(options, request));
  const ifAbsent = fencing === 'conditional';
  if (ownSealer === undefined) {
    const { name, bytes } = await keepFirstKey({ disk, uuid, masters, clock, random });
    await retry.run('put the key', (request) => store.put(name, bytes, { ...request, ifAbsent }));
  }
  // Read back what lies there: after a lost reply or a race it is the key that counts.
  const sealer = await retry.run('read the key', (request) =>
    openVolumeSealer(store, { ...request, uuid, masters, random, cipher }),
  );
  const fresh: RemoteVolume = {
    name: config.name,
    createdMs: clock.wallMs(),
    sizeBytes: config.createdSizeBytes,
    logicalBlockBytes: config.logicalBlockBytes,
  };
  const object = sealVolume(sealer, fresh);
  await retry.run('put the volume', (request) =>
    store.put(sealer.names.volume, object.bytes, { ...request, ifAbsent }),
  );
  const volume = await retry.run('read the volume', (request) => readVolume(store, sealer, request));
  if (volume === undefined) throw new GatewayError('remote-vanished', 'the volume object is gone right after its PUT');
  return { sealer, volume };
}

async function refuseTakenName(options: AttachOptions, request: StoreRequest): Promise<void> {
  const { config, store, random, neighbours } = options;
  let locked = 0;
  for (const [uuid, { name }] of await neighbours.look({ store, random, masters: config.masters }, request)) {
    if (uuid === config.uuid) continue;
    if (name === undefined) locked++;
    if (name !== config.name) continue;
    throw new GatewayError(
      'remote-exists',
      `${store.description} already holds a volume ${config.name} (${uuid}): restore it, or choose another name or prefix`,
    );
  }
  if (locked > 0 && !config.allowNew) {
    throw new GatewayError(
      'remote-exists',
      `${store.description} holds ${locked} volume${locked === 1 ? '' : 's'} that the given key does not open; to create ${config.name} beside, start once with --new`,
    );
  }
}
