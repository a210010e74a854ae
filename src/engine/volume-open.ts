/**
 * Opens the parts of a volume in the order that their promises ask for (engine.md, "Log"):
 * lock, identity, superblock, recovery, superblock, epoch record durable, superblock with this boot's id.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, type BlockNumber, type ByteLength, type Lsn } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Clock } from '../ports/clock.js';
import type { Disk, DiskLock } from '../ports/disk.js';
import type { Log as TextLog } from '../ports/log.js';
import type { Random } from '../ports/random.js';
import type { RemoteCopy } from '../ports/remote-copy.js';
import type { LogCursor } from '../ports/replication.js';
import { Destager } from './destager.js';
import { isDiskFull, synced } from './disk-outcome.js';
import { DurableProgress } from './durable-progress.js';
import type { FilledBlocks } from './filled-block.js';
import { Healer } from './healer.js';
import { Hydration } from './hydration.js';
import { holesEnd, openFilledBlocks, readRecordOf } from './hydration-open.js';
import { Image } from './image.js';
import { Log } from './log.js';
import { LogFiles } from './log-files.js';
import { LogCopy } from './log-copy.js';
import { LogReader } from './log-reader.js';
import { Overlay } from './overlay.js';
import { Reclaimer, type LogFollower } from './reclaimer.js';
import { recover } from './recovery.js';
import { ReservedSpace } from './reserved-space.js';
import type { RestoreRecord } from './restore-record.js';
import { Rounds } from './rounds.js';
import { SnapshotRecords } from './snapshot-records.js';
import { Sums } from './sums.js';
import { SumsRedo } from './sums-redo.js';
import { SuperblockWriter } from './superblock.js';
import { UnreplicatedBlocks } from './unreplicated-blocks.js';
import { LOG_DIRECTORY, readIdentity, type VolumeIdentity } from './volume-directory-format.js';

export interface VolumeOptions {
  /** Rooted at the volume's directory. */
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: TextLog;
  /** Identifies this boot of the kernel (a uuid): page caches outlive a process, not a boot. */
  readonly bootId: string;
  readonly name: string;
  readonly minimumSizeBytes: ByteLength;
  readonly bufferBytes: number;
  /** track: a full buffer lets go of what only the bucket still needs, and the dirty map keeps account of it. */
  readonly whenFull: 'track' | 'throttle' | 'fail';
  readonly fullTimeoutMs: number;
  readonly readOnly: boolean;
  /** Whether the log must keep records until the bucket has them. */
  readonly replicated: boolean;
  /** Whoever reads the log for the bucket. */
  readonly follower?: LogFollower;
  /** Where blocks that have rotted are healed from. */
  readonly remoteCopy?: RemoteCopy;
  readonly provision: 'thin' | 'full';
  /** A promise can no longer be kept: the process must end without another acknowledgement. */
  readonly onFatal: (error: Error) => void;
}

export interface VolumeParts {
  readonly identity: VolumeIdentity;
  readonly size: { bytes: ByteLength };
  readonly overlay: Overlay;
  readonly unreplicated: UnreplicatedBlocks;
  readonly image: Image;
  readonly log: Log;
  readonly destager: Destager;
  readonly progress: DurableProgress;
  readonly reclaimer: Reclaimer;
  readonly rounds: Rounds;
  readonly healer: Healer | undefined;
  /** Of a restored volume whose content still comes from the bucket. */
  readonly hydration: Hydration | undefined;
  readonly filled: FilledBlocks | undefined;
  /** When the oldest record that was found and is not replicated was acknowledged, 0: none. */
  readonly oldestPendingMs: number;
  readonly snapshots: SnapshotRecords;
  /** undefined: it takes space as it needs it. */
  readonly space: ReservedSpace | undefined;
  /** Filled in by the volume. */
  readonly events: VolumeEvents;
  close(): Promise<void>;
}

export interface VolumeEvents {
  onAppend: () => void;
  onDurable: () => void;
  onProgress: () => void;
  onQuiet: () => void;
  onFatal: (error: Error) => void;
  /** A record rotted in the log before it reached the image: the block is lost here. */
  onLost: (block: BlockNumber, lsn: Lsn) => void;
  /** A block of the image cannot be trusted. */
  onRot: (block: BlockNumber) => void;
  onHealed: (block: BlockNumber) => void;
}

export async function openVolumeParts(options: VolumeOptions): Promise<VolumeParts> {
  const lock = await options.disk.lock('lock');
  const opened: { close(): Promise<void> }[] = [];
  try {
    return await openLocked(options, lock, opened);
  } catch (error) {
    for (const part of opened.reverse()) await part.close().catch(() => undefined);
    await lock.release();
    throw error;
  }
}

async function openLocked(
  options: VolumeOptions,
  lock: DiskLock,
  opened: { close(): Promise<void> }[],
): Promise<VolumeParts> {
  const { disk, checksums, clock } = options;
  const identity = await readIdentity(disk);
  if (identity === undefined)
    throw new GatewayError('not-found', `there is no volume in the directory of ${options.name}`);
  // What is seen was perhaps named by a process that was killed before it was durable.
  await synced('fsync of the volume directory', disk.syncDirectory('.'));
  const { writer: superblock, newest } = await SuperblockWriter.open(disk, checksums);
  opened.push(superblock);
  if (newest.volumeUuid !== identity.uuid) {
    throw new GatewayError(
      'format-unknown',
      `volume.json says ${identity.uuid}, the superblock ${newest.volumeUuid}: files of two volumes are mixed`,
    );
  }
  const { keeping } = newest.replication;
  if (options.replicated && keeping === 'draining' && newest.replication.cursor.lsn < newest.tail.lsn) {
    throw new GatewayError(
      'not-supported',
      `volume ${options.name} was written while replication was off; this version cannot resume replicating it`,
    );
  }
  const files = await LogFiles.open(disk, options.bufferBytes, newest.tail.file);
  opened.push({ close: () => files.closeAll() });
  const overlay = new Overlay();
  const unreplicated = new UnreplicatedBlocks();
  const recovered = await recover({
    superblock: newest,
    sameBoot: newest.bootId === options.bootId,
    files,
    disk,
    checksums,
    overlay,
    unreplicated,
  });
  const reader = new LogReader({ disk, checksums, directory: LOG_DIRECTORY, windowBytes: files.fileBytes });
  opened.push(reader);
  const record = await readRecordOf(identity, disk, checksums);
  const image = await openImage(options, identity, record);
  opened.push(image);
  const owing = await openFilledBlocks(record, { ...options, image, overlay });
  if (owing !== undefined) opened.push(owing.overwritten);
  const size = { bytes: Math.max(newest.sizeBytes, recovered.sizeBytes ?? 0) };
  const events: VolumeEvents = {
    onAppend: () => undefined,
    onDurable: () => undefined,
    onProgress: () => undefined,
    onQuiet: () => undefined,
    onFatal: options.onFatal,
    onLost: () => undefined,
    onRot: () => undefined,
    onHealed: () => undefined,
  };
  const boot = { id: newest.bootId };
  const log = new Log({
    files,
    overlay,
    checksums,
    clock,
    head: recovered.head,
    durableLsn: recovered.head.lsn - 1,
    dataLsn: recovered.dataLsn,
    onFatal: (error) => {
      events.onFatal(error);
    },
    onAppend: () => {
      events.onAppend();
    },
    onDurable: () => {
      events.onDurable();
    },
  });
  log.syncs.unsyncedBytesMax = files.capacityBytes / 8;
  const snapshots = new SnapshotRecords({ disk, checksums, log: options.log, found: recovered.snapshots });
  const rounds = new Rounds({
    disk,
    checksums,
    image,
    random: options.random,
    snapshots,
    log: options.log,
    logFileBytes: files.fileBytes,
    onRot: (block) => {
      events.onRot(block);
    },
    isOwed: (block) => owing?.filled.isOwed(block) ?? Promise.resolve(false),
  });
  opened.push(rounds);
  if (keeping === 'tracking') await rounds.resume(size.bytes, newest.round);
  const progress = new DurableProgress({
    log,
    rounds,
    superblock,
    newest,
    identity: () => ({ volumeUuid: identity.uuid, bootId: boot.id, sizeBytes: size.bytes }),
    replicated: options.replicated,
  });
  const destager = new Destager({
    reader,
    image,
    overlay,
    checksums,
    cursor: newest.destageCursor,
    sizeBytes: newest.sizeBytes,
    watcher: {
      moving: async (newest, blocks) => {
        if (progress.keepsNothing) unreplicated.clear();
        else if (options.replicated) unreplicated.moving(newest, blocks, progress.replicatedLsn);
        await rounds.moving(newest, blocks);
      },
    },
    logFileBytes: files.fileBytes,
    onRot: (block, lsn) => {
      events.onLost(block, lsn);
    },
    ...(owing === undefined ? {} : { filled: owing.filled }),
  });
  const reclaimer = new Reclaimer({
    log,
    destager,
    overlay,
    clock,
    progress,
    rounds,
    follower: options.follower,
    letsGo: options.whenFull === 'track',
    onProgress: () => {
      events.onProgress();
    },
    onQuiet: () => {
      events.onQuiet();
    },
    onFatal: (error) => {
      events.onFatal(error);
    },
  });
  const healer =
    options.remoteCopy &&
    new Healer({
      remote: options.remoteCopy,
      destager,
      clock,
      onHealed: (block) => {
        reclaimer.healed();
        events.onHealed(block);
      },
    });
  const hydration =
    owing &&
    record &&
    new Hydration({
      ...options,
      record,
      filled: owing.filled,
      destager,
      blockCount: () => size.bytes / BLOCK_BYTES,
      onFilled: () => reclaimer.healed(),
      flush: () => new Promise<void>((resolve) => log.flush({ done: () => resolve() })),
      destage: () => reclaimer.destageSoon(),
      onFatal: (error) => {
        events.onFatal(error);
      },
    });
  opened.push({
    close: () => {
      log.syncs.stop();
      reclaimer.abandon();
      return Promise.resolve();
    },
  });
  await LogCopy.reserve(disk).catch((error: unknown) => {
    if (!isDiskFull(error)) throw error;
  });
  // The boot id changes only once the epoch record is durable: until then batches of an earlier boot may lie behind the head.
  await progress.record();
  await files.prepare(recovered.head.file - 1, superblock.oldestFileNeeded).catch((error: unknown) => {
    // On a full disk the volume opens all the same, with the file that is kept for this.
    if (!isDiskFull(error) || !hasRoomForEpoch(files, recovered.head)) throw error;
  });
  // Until it is open, what breaks is the opening, and the process goes on.
  await new Promise<void>((resolve, reject) => {
    events.onFatal = reject;
    log.appendEpoch(Buffer.from(options.random.bytes(8)).toString('hex'), recovered.firstLsn);
    log.flush({ done: () => resolve() });
  });
  boot.id = options.bootId;
  // Both must know the epoch record to be durable: should it be lost, and one of them rot, the log would seem to end before it.
  await progress.recordInBoth();
  events.onFatal = options.onFatal;
  if (recovered.rewrittenBytes > 0) {
    options.log.info(
      `volume ${options.name} recovered ${recovered.batches} batches, ${recovered.rewrittenBytes} bytes made durable again`,
    );
  }
  const space =
    options.provision === 'full' ? new ReservedSpace({ disk, image: image.file, sums: image.sums.file }) : undefined;
  await space?.complete(size.bytes, files);
  if (space?.problem !== undefined) options.log.warn(`volume ${options.name}: ${space.problem}`);
  const close = async (): Promise<void> => {
    for (const part of [...opened].reverse()) await part.close();
    await lock.release();
  };
  return {
    identity,
    size,
    overlay,
    unreplicated,
    filled: owing?.filled,
    image,
    log,
    destager,
    progress,
    reclaimer,
    rounds,
    healer,
    hydration,
    oldestPendingMs: recovered.oldestMs,
    snapshots,
    space,
    events,
    close,
  };
}

function hasRoomForEpoch(files: LogFiles, head: LogCursor): boolean {
  if (!files.has(head.file)) return false;
  return files.newestFile > head.file || head.offset + BLOCK_BYTES <= files.sizeBytes(head.file);
}

async function openImage(
  options: VolumeOptions,
  identity: VolumeIdentity,
  record: RestoreRecord | undefined,
): Promise<Image> {
  const { disk, checksums } = options;
  const keepsSpace = options.provision === 'full';
  const file = await disk.open('image', { mode: 'write', lane: 'image', keepsSpace });
  const sumsFile = await disk.open('sums', { mode: 'write', lane: 'sums', keepsSpace });
  const redo = await SumsRedo.open(disk, checksums);
  const repaired = await redo.repair(sumsFile);
  if (repaired > 0)
    options.log.info(`${repaired} checksum sectors of volume ${options.name} were torn and are made again`);
  const sums = new Sums({
    file: sumsFile,
    redo,
    checksums,
    holes: identity.holes,
    ...holesEnd(record),
    onRot: (sector) => {
      options.log.error(`sector ${sector} of the checksums of volume ${options.name} is damaged`, { sector });
    },
  });
  return new Image({ file, sums, checksums });
}
