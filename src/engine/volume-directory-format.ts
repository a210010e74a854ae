/**
 * A volume's directory: creating one, and reading its identity (docs/formats.md, "Volume directory").
 *
 * volume.json is written last and once. Whatever stands there without it was never finished, or lost its identity:
 * it is refused, never overwritten (P9).
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, LOGICAL_BLOCK_BYTES, type Lsn } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';
import type { Random } from '../ports/random.js';
import type { LogCursor, ReplicationState } from '../ports/replication.js';
import { createSuperblocks } from './superblock.js';

export const VOLUME_FORMAT_VERSION = 1;
export const LOG_DIRECTORY = 'log';

export interface VolumeIdentity {
  readonly formatVersion: number;
  readonly uuid: string;
  readonly name: string;
  readonly logicalBlockBytes: number;
  readonly origin: 'created' | 'restored';
  /** What a block means whose checksum was never written: a zero block, or one that is remote only. */
  readonly holes: 'zero' | 'remote';
}

/** The identity of a volume that is made from a bucket. */
export function restoredIdentity(
  { uuid, name }: Pick<VolumeIdentity, 'uuid' | 'name'>,
  holes: VolumeIdentity['holes'],
): VolumeIdentity {
  const logicalBlockBytes = LOGICAL_BLOCK_BYTES;
  return { formatVersion: VOLUME_FORMAT_VERSION, uuid, name, logicalBlockBytes, origin: 'restored', holes };
}

/** undefined: an empty or missing directory. */
export async function readIdentity(disk: Disk): Promise<VolumeIdentity | undefined> {
  if (!(await disk.exists('volume.json'))) {
    const found = await contents(disk);
    if (found.length === 0) return undefined;
    throw new GatewayError('volume-incomplete', `volume.json is missing beside ${found.join(', ')}`);
  }
  const text = Buffer.from(await disk.readSmall('volume.json')).toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new GatewayError('format-unknown', 'volume.json is no JSON', { cause });
  }
  return checkIdentity(value);
}

function checkIdentity(value: unknown): VolumeIdentity {
  const fields = value as Partial<Record<keyof VolumeIdentity, unknown>> | null;
  const version = fields?.formatVersion;
  if (typeof version === 'number' && version > VOLUME_FORMAT_VERSION) {
    throw new GatewayError(
      'format-newer',
      `volume.json has format version ${version}, this version knows up to ${VOLUME_FORMAT_VERSION}`,
    );
  }
  if (
    fields === null ||
    version !== VOLUME_FORMAT_VERSION ||
    typeof fields.uuid !== 'string' ||
    !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(fields.uuid) ||
    typeof fields.name !== 'string' ||
    fields.logicalBlockBytes !== LOGICAL_BLOCK_BYTES ||
    (fields.origin !== 'created' && fields.origin !== 'restored') ||
    (fields.holes !== 'zero' && fields.holes !== 'remote')
  ) {
    throw new GatewayError('format-unknown', 'volume.json has unknown or missing fields');
  }
  return {
    formatVersion: version,
    uuid: fields.uuid,
    name: fields.name,
    logicalBlockBytes: fields.logicalBlockBytes,
    origin: fields.origin,
    holes: fields.holes,
  };
}

export function checkSize(sizeBytes: number): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes % BLOCK_BYTES !== 0) {
    throw new GatewayError('size-invalid', `size ${sizeBytes} is no multiple of 4096 bytes`);
  }
  if (sizeBytes < limits.volumeBytesMin || sizeBytes > limits.volumeBytesMax) {
    throw new GatewayError('size-invalid', `size ${sizeBytes} is not between 1 MiB and 16 TiB`);
  }
}

export interface NewVolume {
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly random: Random;
  readonly name: string;
  readonly sizeBytes: number;
  /** Default: a random one. */
  readonly uuid?: string;
  /** Takes the space of a volume that is to have all of it from the beginning. */
  readonly reserve?: () => Promise<void>;
}

/** Makes an empty volume in an empty directory: everything reads as zero. */
export async function createVolume(options: NewVolume): Promise<VolumeIdentity> {
  const identity: VolumeIdentity = {
    formatVersion: VOLUME_FORMAT_VERSION,
    uuid: options.uuid ?? options.random.uuid(),
    name: options.name,
    logicalBlockBytes: LOGICAL_BLOCK_BYTES,
    origin: 'created',
    holes: 'zero',
  };
  await requireEmpty(options, identity);
  try {
    await makeFiles(options);
    await options.reserve?.();
    await sealDirectory(options, identity, { lsn: 0 });
  } catch (error) {
    // Nothing was promised yet. What is left would be refused as incomplete at the next try, when there is space again.
    const { disk } = options;
    const logFiles = await disk.list(LOG_DIRECTORY).catch(() => []);
    for (const name of [...DRAFT_FILES, ...logFiles.map((file) => `${LOG_DIRECTORY}/${file}`)])
      await disk.remove(name).catch(() => undefined);
    throw error;
  }
  return identity;
}

/** Everything that a new volume's directory holds, in an order in which a crash between two leaves no volume behind. */
const DRAFT_FILES = ['volume.json', 'volume.json.tmp', 'super.0', 'super.1', 'sums.redo', 'sums', 'image'] as const;

/** Names in the directory, but for the lock and a log that never had a file. */
async function contents(disk: Disk): Promise<string[]> {
  const names = (await disk.list('.')).filter((name) => name !== 'lock');
  const noLog = names.includes(LOG_DIRECTORY) && (await disk.list(LOG_DIRECTORY)).length === 0;
  return noLog ? names.filter((name) => name !== LOG_DIRECTORY) : names;
}

/** Makes the files whose content a new volume, or a restore, then fills. */
export async function layOut(options: NewVolume, identity: VolumeIdentity): Promise<void> {
  await requireEmpty(options, identity);
  await makeFiles(options);
}

async function requireEmpty({ disk, sizeBytes }: NewVolume, identity: VolumeIdentity): Promise<void> {
  checkSize(sizeBytes);
  await disk.makeDirectory('.');
  const found = await contents(disk);
  if (found.length > 0) {
    throw new GatewayError(
      'volume-exists',
      `the directory for volume ${identity.name} is not empty: ${found.slice(0, 5).join(', ')}`,
    );
  }
}

async function makeFiles({ disk, sizeBytes: imageBytes }: NewVolume): Promise<void> {
  await disk.makeDirectory(LOG_DIRECTORY);
  for (const [name, sizeBytes] of [
    ['image', imageBytes],
    ['sums', 0],
  ] as const) {
    const file = await disk.open(name, { mode: 'write', create: true });
    await file.truncate(sizeBytes);
    await file.sync();
    await file.close();
  }
}

/** Writes the superblocks of a volume whose image is complete up to `state.lsn`, then its identity. */
export async function sealDirectory(
  options: NewVolume,
  identity: VolumeIdentity,
  state: { readonly lsn: Lsn; readonly remote?: Pick<ReplicationState, 'remoteEpoch' | 'segmentNumber' | 'chainHead'> },
): Promise<void> {
  const { disk, checksums, random } = options;
  const epoch = Buffer.from(random.bytes(8)).toString('hex');
  const start: LogCursor = { file: 1, offset: 0, lsn: state.lsn + 1, chain: 0, epoch };
  await createSuperblocks(disk, checksums, {
    volumeUuid: identity.uuid,
    bootId: '00000000-0000-0000-0000-000000000000',
    sizeBytes: options.sizeBytes,
    tail: start,
    destageCursor: start,
    durableLsn: state.lsn,
    destagedLsn: state.lsn,
    replication: {
      replicatedLsn: state.lsn,
      cursor: start,
      remoteEpoch: state.remote?.remoteEpoch ?? 0,
      segmentNumber: state.remote?.segmentNumber ?? 0,
      chainHead: state.remote?.chainHead ?? new Uint8Array(32),
      mapAppliedThrough: 0,
      keeping: 'draining',
      fenced: false,
    },
    round: 0,
    clean: true,
  });
  await disk.syncDirectory(LOG_DIRECTORY);
  await disk.syncDirectory('.');
  await disk.writeSmall('volume.json', Buffer.from(`${JSON.stringify(identity, null, 2)}\n`));
}
