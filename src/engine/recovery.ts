/**
 * What the log holds after a crash (engine.md, "Log"; P1).
 *
 * Two walks. The first follows the chain of headers from the superblock's tail to its end and collects every claim of
 * durability on the way; what the superblock itself claims it reads into the overlay at once, as far as it is not in the
 * image yet. The second begins behind that: of what no claim covers it verifies the payload too, and cuts the log before
 * the first batch that fails. The rest is written again, because a page that an earlier, failed fsync left clean may differ
 * from the disk: recovered is not durable. And since some of it may have been durable and acknowledged as such, a copy
 * comes first (log-copy.ts).
 *
 * After a clean end the second walk finds nothing, and nobody looks for claims behind the end of the chain: an opening has
 * written a superblock that is not clean into each of the two places before it takes a write (volume-open.ts). So where the
 * newest that can be read is clean, nothing was acknowledged since.
 *
 * A bad batch at or below a claim is rot, not a torn tail: log-damaged, and nothing is served. In the boot that the
 * log's epoch began in, the page cache is intact, so only the very last, never acknowledged batch may be bad.
 */
import { DurabilityLostError, GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, type Lsn } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';
import type { LogCursor } from '../ports/replication.js';
import type { BatchClaim, LogBatch, SnapshotRecord } from './log-format.js';
import type { LogFiles } from './log-files.js';
import { LogCopy, repairFromCopy } from './log-copy.js';
import { logFileName, LogReader } from './log-reader.js';
import type { Overlay } from './overlay.js';
import type { Superblock } from './superblock.js';
import type { UnreplicatedBlocks } from './unreplicated-blocks.js';
import { LOG_DIRECTORY } from './volume-directory-format.js';

/**
 * LSNs skipped after anything but a clean end, more than can have been lost without being synced: none is used twice,
 * also when rot made the last batches look as if they had never been finished.
 */
const LSN_GAP = 2 ** 24;

export interface Recovered {
  /** Where the next batch goes; everything before it is durable again. */
  readonly head: LogCursor;
  /** First LSN of the epoch that this opening begins. */
  readonly firstLsn: Lsn;
  /** The newest size that a record states, or undefined. */
  readonly sizeBytes: number | undefined;
  readonly rewrittenBytes: number;
  /** LSN of the newest record that is a client's, or what lies before the tail. */
  readonly dataLsn: Lsn;
  /** Batches read back, and when the oldest of them was acknowledged (milliseconds since 1970, 0: none). */
  readonly batches: number;
  readonly oldestMs: number;
  /** In order. */
  readonly snapshots: readonly SnapshotRecord[];
}

export interface RecoveryOptions {
  readonly superblock: Superblock;
  readonly sameBoot: boolean;
  readonly files: LogFiles;
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly overlay: Overlay;
  /** Is told what is in the image already, and perhaps not in the bucket. */
  readonly unreplicated: UnreplicatedBlocks;
}

interface Recovery extends RecoveryOptions {
  readonly reader: LogReader;
}

export async function recover(options: RecoveryOptions): Promise<Recovered> {
  const { disk, checksums, files } = options;
  const { generation } = options.superblock;
  await repairFromCopy(disk, checksums, generation, files).catch(failStop);
  const reader = new LogReader({ disk, checksums, directory: LOG_DIRECTORY, windowBytes: files.fileBytes });
  try {
    const unproven: LogBatch[] = [];
    const recovered = await recoverWith({ ...options, reader }, unproven);
    const rewrittenBytes = await rewrite({ ...options, reader }, unproven);
    await files.removeStrays();
    return { ...recovered, rewrittenBytes };
  } finally {
    await reader.close();
  }
}

/** Both walks; collects the batches that no claim covers. */
async function recoverWith(options: Recovery, unproven: LogBatch[]): Promise<Omit<Recovered, 'rewrittenBytes'>> {
  const { superblock, reader } = options;
  const found = new Findings(superblock);
  const walked = await walkHeaders(options, found);
  let head = walked.end;
  reader.refresh();
  let cursor = walked.read;
  while (cursor.lsn < walked.end.lsn) {
    const batch = await reader.next(cursor);
    if (batch === undefined) throw damaged(cursor, 'it could be read a moment ago and cannot be read now');
    if (batch.lastLsn > walked.durableLsn) {
      if (!payloadIsWhole(options, batch)) {
        if (options.sameBoot && batch.lastLsn + 1 < walked.end.lsn)
          throw damaged(cursor, 'acknowledged batches follow it');
        head = cursor;
        break;
      }
      unproven.push(batch);
    }
    options.overlay.replay(batch);
    found.note(batch);
    cursor = batch.next;
  }
  const firstLsn = superblock.clean ? head.lsn : head.lsn + LSN_GAP;
  const { sizeBytes, dataLsn, batches, oldestMs, snapshots } = found;
  return { head, firstLsn, sizeBytes, dataLsn, batches, oldestMs, snapshots };
}

/** What the batches of the log say, each noted once and in order. */
class Findings {
  sizeBytes: number | undefined;
  dataLsn: Lsn;
  batches = 0;
  oldestMs = 0;
  readonly snapshots: SnapshotRecord[] = [];
  private readonly replicatedLsn: Lsn;

  constructor({ tail, replication }: Superblock) {
    this.dataLsn = tail.lsn - 1;
    this.replicatedLsn = replication.replicatedLsn;
  }

  note(batch: LogBatch): void {
    for (const record of batch.records) {
      if (record.kind === 'resize') this.sizeBytes = record.sizeBytes;
      if (record.kind === 'snapshot') {
        const { lsn, name, snapshotLsn } = record;
        this.snapshots.push({ lsn, name, snapshotLsn, wallMs: batch.wallMs });
      }
      if (record.kind === 'mark' || record.kind === 'epoch') continue;
      this.dataLsn = record.lsn;
      if (this.oldestMs === 0 && record.lsn > this.replicatedLsn) this.oldestMs = batch.wallMs;
    }
    this.batches++;
  }
}

interface Walked {
  /** Up to here the image or the overlay has everything. */
  readonly read: LogCursor;
  readonly end: LogCursor;
  readonly durableLsn: Lsn;
}

/** Follows the chain to its end; refuses when a claim lies beyond it. Notes and reads what the second walk will not see. */
async function walkHeaders(options: Recovery, found: Findings): Promise<Walked> {
  const { superblock, reader, overlay, unreplicated } = options;
  let cursor = superblock.tail;
  let read = superblock.destageCursor;
  let durableLsn = superblock.durableLsn;
  for (;;) {
    const batch = await reader.next(cursor);
    if (batch === undefined) break;
    durableLsn = Math.max(durableLsn, batch.durableThrough);
    if (batch.lastLsn <= superblock.destagedLsn) {
      found.note(batch);
      unreplicated.moved(batch, superblock.replication.replicatedLsn);
    } else if (batch.lastLsn <= superblock.durableLsn) {
      found.note(batch);
      overlay.replay(batch);
      read = batch.next;
    }
    cursor = batch.next;
  }
  if (durableLsn >= cursor.lsn) throw damaged(cursor, `records through LSN ${durableLsn} were durable`);
  if (!superblock.clean) await refuseLaterClaims(options, cursor);
  return { read, end: cursor, durableLsn };
}

/** Looks behind the end of the chain for batches that could only be there if something before them was lost. */
async function refuseLaterClaims(options: Recovery, end: LogCursor): Promise<void> {
  const { files, reader } = options;
  const numbers: number[] = [...options.files.strays.filter((file) => file > end.file)];
  for (let file = end.file; file <= files.newestFile; file++) numbers.push(file);
  for (const file of numbers) {
    for await (const found of reader.claims(file, file === end.file ? end.offset : 0)) {
      if (!isLater(found.claim, end)) continue;
      const { durableThrough, firstLsn } = found.claim;
      const where = `log file ${logFileName(found.file)} at byte ${found.offset}`;
      if (durableThrough >= end.lsn)
        throw damaged(end, `${where} states that records through LSN ${durableThrough} were durable`);
      if (options.sameBoot) throw damaged(end, `${where} holds the acknowledged LSN ${firstLsn}`);
    }
  }
  reader.refresh();
}

function isLater(claim: BatchClaim, end: LogCursor): boolean {
  return claim.firstLsn >= end.lsn && (claim.epoch === end.epoch || claim.epochBefore === end.epoch);
}

function payloadIsWhole(options: Recovery, batch: LogBatch): boolean {
  const { bytes, start } = options.reader.payload(batch);
  return batch.records.every(
    (record) =>
      record.kind !== 'write' ||
      options.checksums.verifyLogBlocks(
        bytes,
        start + record.sumsStart * BLOCK_BYTES,
        record.blockCount,
        record.firstBlock,
        record.lsn,
        batch.sums,
        record.sumsStart,
      ) < 0,
  );
}

/** Writes batches again, so that the disk surely has them; a copy of each piece of them is durable before. */
async function rewrite(options: Recovery, batches: readonly LogBatch[]): Promise<number> {
  const { disk, checksums, superblock } = options;
  if (batches.length === 0) return 0;
  const copy = await LogCopy.create(disk, checksums, superblock.generation);
  try {
    let piece: LogBatch[] = [];
    for (const batch of batches) {
      if (!copy.hasRoomFor(batch.lengthBytes)) {
        await rewritePiece(options, copy, piece);
        piece = [];
        copy.begin();
      }
      await copy.add(batch.file, batch.offset, await options.reader.whole(batch));
      piece.push(batch);
    }
    await rewritePiece(options, copy, piece);
  } finally {
    await copy.close();
  }
  return batches.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
}

/** Of batches that are in the copy. */
async function rewritePiece({ files, reader }: Recovery, copy: LogCopy, piece: readonly LogBatch[]): Promise<void> {
  await copy.finish().catch(failStop);
  const touched = new Set<number>();
  for (const batch of piece) {
    await files.handle(batch.file).write([await reader.whole(batch)], batch.offset);
    touched.add(batch.file);
  }
  await Promise.all([...touched].map((file) => files.handle(file).sync())).catch(failStop);
}

function failStop(cause: unknown): never {
  throw new DurabilityLostError('fdatasync of the log failed during recovery', { cause });
}

function damaged(at: LogCursor, why: string): GatewayError {
  return new GatewayError(
    'log-damaged',
    `log file ${logFileName(at.file)} is damaged at byte ${at.offset} (LSN ${at.lsn}): ${why}; restore the volume from its bucket`,
    { context: { file: at.file, offset: at.offset, lsn: at.lsn } },
  );
}
