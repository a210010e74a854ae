/**
 * Places in the program where a process can be made to kill itself: by a line that is put into the compiled code of that
 * one process as it is loaded (source-patch.ts), so that the program itself holds no switch.
 *
 * Each names two steps whose order a promise hangs on, and dies between them. A line that is not found, once and only
 * once, is an error of the process that loads it: a failpoint cannot get lost unnoticed when the program changes.
 */
import type { SourcePatch } from '../tool/source-patch.js';

export interface Failpoint {
  readonly name: string;
  /** Compiled module below dist/src. */
  readonly file: string;
  /** The process dies right before, or right after, this text. */
  readonly before?: string;
  readonly after?: string;
  /** An expression of that place: passages count only while it is true. */
  readonly when?: string;
  /** It dies at one of the first so many passages, which the seed chooses. Default: at the first. */
  readonly passagesMax?: number;
  /** Further changes, which bring the process there sooner. */
  readonly further?: readonly SourcePatch[];
}

export interface DeathOptions {
  readonly random: () => number;
  /** Passages count once this file exists; default: from the start of the process. */
  readonly armedBy?: string;
}

/** The patches with which a process dies at one of the failpoint's passages. */
export function dieAt(failpoint: Failpoint, options: DeathOptions): readonly SourcePatch[] {
  const { before, after, when = 'true', passagesMax = 1, further = [] } = failpoint;
  const { random, armedBy } = options;
  const find = before ?? after;
  if (find === undefined) throw new Error(`failpoint "${failpoint.name}" has no place`);
  const armed =
    armedBy === undefined ? 'true' : `process.getBuiltinModule('node:fs').existsSync(${JSON.stringify(armedBy)})`;
  const counted = '(globalThis.passages = (globalThis.passages ?? 0) + 1)';
  const passage = 1 + Math.floor(random() * passagesMax);
  const die = `if ((${when}) && ${armed} && ${counted} === ${passage}) process.kill(process.pid, 'SIGKILL');`;
  const both = before === undefined ? `${find} ${die}` : `${die} ${find}`;
  // The text may be all that follows an `if`; but what it declares must be seen by what follows.
  const replace = find.startsWith('const ') ? both : `{ ${both} }`;
  return [{ file: `src/${failpoint.file}`, find, replace }, ...further];
}

/** Checkpoints of the remote map follow one another more quickly than a short load could wait for. */
const checkpointsOften: readonly SourcePatch[] = [
  {
    file: 'src/remote/checkpoint-writer.js',
    find: 'const SEGMENTS_DUE = 128;',
    replace: 'const SEGMENTS_DUE = 8;',
  },
];

/** Reached while clients write. */
export const failpointsUnderLoad: readonly Failpoint[] = [
  {
    name: 'a batch is in the log, and not acknowledged',
    file: 'engine/log.js',
    before: 'this.publish(records, payloadAt, sums, lengthBytes);',
    passagesMax: 400,
  },
  {
    name: 'the log is synced, and the flush not answered',
    file: 'engine/sync-queue.js',
    before: 'this.durableLsn = captured;',
    passagesMax: 20,
  },
  {
    name: 'blocks are in the image, and their sums are not',
    file: 'engine/destager.js',
    after: 'await this.writeBlocks(blocks);',
    passagesMax: 4,
  },
  {
    name: 'image and sums are synced, and the superblock is not written',
    file: 'engine/reclaimer.js',
    after: 'await destager.sync();',
    passagesMax: 2,
  },
  {
    name: 'a superblock is written, and not synced',
    file: 'engine/superblock.js',
    before: "await synced('fdatasync of a superblock', this.files[slot].sync());",
    passagesMax: 12,
  },
  {
    name: 'one superblock lets a log file go, and the other does not yet',
    file: 'engine/reclaimer.js',
    before: 'if (fencedNow || this.superblockHoldsFiles())\n            await progress.record();',
    when: 'this.superblockHoldsFiles()',
  },
  {
    name: 'one log file is renamed, and the next is not',
    file: 'engine/log-files.js',
    after: "await written('recycling a log file', change);",
    passagesMax: 3,
  },
  {
    name: 'log files are renamed, and their directory is not synced',
    file: 'engine/log-files.js',
    before:
      "if (changed)\n            await synced('fsync of the log directory', this.disk.syncDirectory(LOG_DIRECTORY));",
    when: 'changed',
  },
  {
    name: 'the store has acknowledged a segment, and its commit is not recorded',
    file: 'remote/upload-pipeline.js',
    before: 'group.pending--;',
    passagesMax: 40,
  },
  {
    name: 'a commit has reached the engine, and no superblock',
    file: 'engine/durable-progress.js',
    after: 'this.replication = { ...state, keeping, cursor: stands ? cursor : state.cursor };',
    passagesMax: 20,
  },
  {
    name: 'a checkpoint is in the bucket, and the map does not know it',
    file: 'remote/checkpoint-writer.js',
    before: 'await map.file.commit(change, position);',
    further: checkpointsOften,
  },
  {
    name: 'a change of the map is decided, and not applied',
    file: 'remote/remote-map-file.js',
    after: 'await change.seal(position);',
    further: checkpointsOften,
  },
  {
    name: 'a page of the map is changed, and its sum is not',
    file: 'remote/remote-map-file.js',
    before: 'await this.#file.write([sumBytes], pagePosition(shard * SHARD_PAGES) - MAP_PAGE_BYTES);',
    passagesMax: 10,
    further: checkpointsOften,
  },
];

/** Reached while tracking, under load, with a store that takes what is sent (long-outage.ts). */
export const failpointsInRound: readonly Failpoint[] = [
  {
    name: 'a round’s blocks stand aside, and the dirty map still has them',
    file: 'engine/dirty-map.js',
    before: 'await this.empty();\n        this.frozenInFile = true;',
  },
  {
    name: 'a round has begun, and no superblock names it',
    file: 'engine/reclaimer.js',
    before: 'await progress.record();\n            return start;',
  },
  {
    name: 'what a round has not sent is kept, and not durable',
    file: 'engine/round.js',
    before: 'await spill.sync();',
    passagesMax: 3,
  },
  {
    name: 'what a round has not sent is kept, and not overwritten',
    file: 'engine/round.js',
    after: 'await spill.sync();',
    passagesMax: 3,
  },
  {
    name: 'a staged segment is in the bucket, and its commit is not recorded',
    file: 'remote/upload-pipeline.js',
    before: 'group.pending--;',
    passagesMax: 4,
  },
  {
    name: 'the bucket has a round, and one superblock says so',
    file: 'engine/reclaimer.js',
    after:
      'rounds.end();\n            // Both superblocks, before bits go: either of them may be the one that is read next.\n            await progress.record();',
  },
  {
    name: 'both superblocks say that the bucket has a round, and its blocks still stand aside',
    file: 'engine/rounds.js',
    before: 'await this.dirty.committed();',
  },
];

/** Reached before a process uploads for the first time, which may be while it is still opening the volume. */
export const failpointsInOwnership: readonly Failpoint[] = [
  {
    name: 'an epoch is claimed in the bucket, and the one before it has no fence',
    file: 'remote/ownership-driver.js',
    before: 'const { key, successorEpoch, lastGroup } = action;',
  },
  {
    name: 'an epoch is owned, and nothing is sent in it',
    file: 'remote/replicator-epoch.js',
    before: 'const from = end.chain.lastGroup;',
  },
];

/** Reached when a directory is opened whose process was killed. */
export const failpointsInRecovery: readonly Failpoint[] = [
  {
    name: 'some of what is beyond the last sync is written again, and the rest is not',
    file: 'engine/recovery.js',
    before: 'touched.add(batch.file);',
    passagesMax: 3,
  },
  {
    name: 'all is written again, and no superblock says so',
    file: 'engine/recovery.js',
    before: 'await files.removeStrays();',
  },
  {
    name: 'the epoch record is written, and not synced',
    file: 'engine/volume-open.js',
    after: "log.appendEpoch(Buffer.from(options.random.bytes(8)).toString('hex'), recovered.firstLsn);",
  },
  {
    name: 'the epoch record is durable, and no superblock has the boot',
    file: 'engine/volume-open.js',
    after: 'boot.id = options.bootId;',
  },
];

/** Reached after SIGTERM. */
export const failpointsInOrderlyEnd: readonly Failpoint[] = [
  {
    name: 'the work is over, and the superblock does not say that the end was clean',
    file: 'engine/reclaimer.js',
    before: 'await this.progress.record(true);',
  },
];

/** Reached inside `keepgate restore`. */
export const failpointsInRestore: readonly Failpoint[] = [
  {
    name: 'the history is proved, and no directory is made',
    file: 'remote/restore.js',
    before: 'const target = await this.#options.openTarget({ uuid, name, sizeBytes });',
  },
  {
    name: 'the directory is made, and empty',
    file: 'gateway/restore-volume.js',
    after: 'const disk = await draft.volume();',
  },
  {
    name: 'some blocks are fetched',
    file: 'remote/restore-fetch.js',
    after: 'await sink.write(firstBlock, payload, at * BLOCK_BYTES, blockCount, sums, at);',
    passagesMax: 200,
  },
  {
    name: 'all blocks are there, and no superblock',
    file: 'engine/restore-sink.js',
    after: 'await Promise.all([this.image.sync(), this.sums.sync()]);',
  },
  {
    name: 'one superblock is there',
    file: 'engine/superblock.js',
    before: 'await file.sync();',
    passagesMax: 2,
  },
  {
    name: 'the superblocks are there, and volume.json is not',
    file: 'engine/volume-directory-format.js',
    before: "await disk.syncDirectory('.');",
  },
  {
    name: 'the volume is whole, and not in its place',
    file: 'gateway/restore-volume.js',
    before: 'await place(restored.name);',
  },
];

/** The directory is in its place, and the restore has not said so. */
export const failpointAfterRestore: Failpoint = {
  name: 'the volume is there',
  file: 'gateway/restore-volume.js',
  before: 'return restored;',
};
