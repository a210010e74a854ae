/**
 * Deliberate faults: each one breaks a rule that docs/durability.md rests on, by changing a line of the compiled
 * program as it is loaded. The simulation must find every one of them; where it does not, it is blind.
 */
import type { SourcePatch } from '../tool/source-patch.js';
import type { StoryName } from './story.js';

export interface Mutation {
  readonly name: string;
  readonly patches: readonly SourcePatch[];
  /** Kinds of history (profile.ts) in which it can show. */
  readonly kinds: readonly number[];
  /** That leads to where it shows, which chance does not do often enough. */
  readonly story?: StoryName;
  /**
   * One that showed it when it was looked for from the first, which took long. It is played before all others: another
   * one may be the first when histories have changed since.
   */
  readonly seed?: number;
}

const engine = (file: string, find: string, replace: string): SourcePatch => ({
  file: `src/engine/${file}.js`,
  find,
  replace,
});
const remote = (file: string, find: string, replace: string): SourcePatch => ({
  file: `src/remote/${file}.js`,
  find,
  replace,
});

const crashes = [0, 1, 2];
/** The same without a bucket, which cost a third: for what the engine alone shows. */
const localCrashes = [2];
const failing = [5];
const rotting = [7];
const owners = [8, 9, 18, 19];
/** The same, with a buffer that is let go when it is full. */
const rounds = { kinds: [10, 11, 13, 14], story: 'rounds' } as const;
/** A bucket that its provider damages, of one owner. */
const damage = { kinds: [0, 1, 3, 10, 11], story: 'damage' } as const;

/** Those that end with a volume that is served before its content is there. */
const hydrating = [0, 6, 11];

export const mutations: readonly Mutation[] = [
  {
    name: 'skip the fdatasync of the log',
    kinds: crashes,
    patches: [
      engine(
        'log',
        'Promise.all(files.map((file) => this.files.handle(file).sync())).then(() => undefined)',
        'Promise.resolve()',
      ),
    ],
  },
  {
    name: 'acknowledge before the batch is written',
    kinds: crashes,
    patches: [
      engine(
        'log',
        'this.durables[i] = durable ? 1 : 0;',
        'const early = completion; if (early) queueMicrotask(() => early.done(undefined)); this.durables[i] = 0;',
      ),
    ],
  },
  {
    name: 'let a write come between what an update saw and what it writes',
    kinds: crashes,
    patches: [
      engine(
        'write-admission',
        'update(write, change) {\n        this.locks.whenFree(write, () => {',
        'update(write, change) {\n        ((_, run) => run())(write, () => {',
      ),
    ],
  },
  {
    name: 'count as durable what was appended while the sync ran',
    kinds: crashes,
    patches: [engine('sync-queue', 'this.durableLsn = captured;', 'this.durableLsn = this.appendedLsn;')],
  },
  {
    name: 'use log space again before it is in the image',
    kinds: crashes,
    patches: [engine('log-files', 'while (this.oldest < oldestNeeded && ', 'while (')],
  },
  {
    name: 'let one superblock alone free log space',
    kinds: crashes,
    patches: [
      engine('superblock', 'return Math.min(...this.tails);', 'return Math.max(...this.tails);'),
      engine('superblock', "await synced('fdatasync of a superblock', this.files[slot].sync());", ''),
    ],
  },
  {
    name: 'follow a batch by its place alone, whatever its epoch and chain',
    seed: 282,
    kinds: localCrashes,
    patches: [
      engine(
        'log-format',
        'if (claim.chain !== cursor.chain)\n        return false;',
        'return claim.firstLsn >= cursor.lsn;',
      ),
    ],
  },
  {
    name: 'destage before it is durable',
    seed: 822,
    kinds: localCrashes,
    patches: [
      engine('reclaimer', 'return await destager.step(throughLsn);', 'return await destager.step(log.appendedLsn);'),
      engine('reclaimer', 'return destager.step(throughLsn);', 'return destager.step(log.appendedLsn);'),
    ],
  },
  {
    name: 'leave a version out of the image for a newer one that is not durable',
    seed: 122,
    kinds: localCrashes,
    patches: [engine('destager', ' || lsn > durableLsn)', ')')],
  },
  {
    name: 'destage the newest version instead of the newest durable one',
    seed: 17302,
    kinds: localCrashes,
    patches: [
      engine(
        'destager',
        '        return cursor;\n    }',
        `        for (let ahead = cursor; cursor.lsn !== this.cursor.lsn; ) {
            const batch = await this.reader.next(ahead);
            if (batch === undefined || used + batch.sums.length > this.stepBlocks) break;
            used += await this.take(batch, used, 0);
            ahead = batch.next;
        }
        return cursor;
    }`,
      ),
    ],
  },
  {
    name: 'forget the overlay’s entry although a newer write came',
    kinds: crashes,
    patches: [
      engine(
        'destager',
        'this.overlay.table.deleteThrough(block, through);',
        'this.overlay.table.deleteThrough(block, Infinity);',
      ),
    ],
  },
  {
    name: 'move the superblock on before the image is synced',
    kinds: crashes,
    patches: [engine('destager', "synced('fdatasync of the image', this.image.file.sync())", 'Promise.resolve()')],
  },
  {
    name: 'write checksums in place without a copy',
    seed: 2122,
    // Where there is a bucket, it heals them.
    kinds: localCrashes,
    patches: [engine('sums', 'await this.redo?.write(numbers, bytes);', '')],
  },
  {
    name: 'write both superblocks to one place',
    seed: 20,
    kinds: crashes,
    patches: [engine('superblock', 'const slot = generation % 2 === 0 ? 0 : 1;', 'const slot = 0;')],
  },
  {
    name: 'forget the fsync of the log directory',
    seed: 122,
    kinds: localCrashes,
    patches: [
      engine(
        'log-files',
        "if (changed)\n            await synced('fsync of the log directory', this.disk.syncDirectory(LOG_DIRECTORY));",
        '',
      ),
    ],
  },
  {
    name: 'trust a second fdatasync after a failed one',
    seed: 5,
    kinds: failing,
    patches: [
      engine(
        'sync-queue',
        'if (!this.stopped)\n                this.options.onFatal(cause);\n            return;',
        'for (const file of files) this.touched.add(file); queueMicrotask(() => this.start()); return;',
      ),
    ],
  },
  {
    name: 'skip the rewrite after recovery',
    seed: 525,
    kinds: failing,
    patches: [engine('recovery', 'await rewrite({ ...options, reader }, unproven)', '0')],
  },
  {
    name: 'rewrite after recovery without a copy',
    seed: 342,
    kinds: localCrashes,
    patches: [
      engine('log-copy', 'await this.file.sync();', ''),
      engine('log-copy', 'return entries.length;', 'return 0;'),
      engine('log-copy', 'entries.push({ entry, at: at + BLOCK_BYTES });', ''),
    ],
  },
  {
    name: 'merge a sub-block write without its lock',
    kinds: [...crashes, 6],
    patches: [engine('block-lock', 'if (firstBlock < end && first < endBlock)', 'if (false)')],
  },
  {
    name: 'take this boot’s id before the epoch record is durable',
    seed: 422,
    kinds: localCrashes,
    patches: [engine('volume-open', 'bootId: boot.id,', 'bootId: options.bootId,')],
  },
  {
    name: 'serve a block of the image without its checksum',
    seed: 27,
    kinds: rotting,
    patches: [
      engine(
        'image',
        'const bad = this.checksums.verifyBlocks(target, targetStart + done * BLOCK_BYTES, run, block, sums, at);',
        'const bad = -1;',
      ),
      engine(
        'image',
        'if (this.checksums.verifyBlocks(target, targetStart + done * BLOCK_BYTES, run, block, sums, at) >= 0)\n                return false;',
        '',
      ),
    ],
  },
  {
    name: 'replicate beyond the durable LSN',
    seed: 40,
    kinds: [0, 1],
    patches: [
      engine(
        'replication-source',
        'durableLsn: log.durableLsn,\n            sizeBytes',
        'durableLsn: log.appendedLsn,\n            sizeBytes',
      ),
    ],
  },
  {
    name: 'take an incomplete group for a recovery point',
    kinds: [0, 1, 3],
    patches: [remote('chain', 'if (!facts.groupEnd) {', 'if (false) {')],
  },
  {
    name: 'commit a group before the one in front of it',
    kinds: [0, 1, 3],
    patches: [
      remote(
        'upload-rules',
        'findIndex(({ ended, pending }) => !ended || pending > 0)',
        'findIndex(({ ended }) => !ended)',
      ),
    ],
  },
  {
    name: 'let a group go on behind a snapshot',
    seed: 21,
    kinds: [0, 1, 3],
    patches: [
      remote('group-collector', 'if (isSnapshot(batch)) {', 'if (false) {'),
      remote('segment-event', 'if (lsn !== groupLastLsn)', 'if (false)'),
    ],
  },
  {
    name: 'acknowledge a snapshot before it is durable',
    seed: 20,
    kinds: [0, 1, 3],
    patches: [engine('snapshot-recorder', 'await flush();', '')],
  },
  {
    name: 'write no root at a snapshot, and restore what lies behind it',
    seed: 3,
    kinds: [0, 1, 3],
    patches: [
      remote('snapshot-open', 'if (group.point.number > point.number)', 'if (false)'),
      remote('snapshot-open', ', untilNumber: point.number', ''),
      remote('snapshot-open', 'if (samePoint(book.position, point))', 'if (true)'),
      remote('book-keeper', 'if (stops && isAtSnapshot(book))\n                return;', ''),
    ],
  },
  {
    name: 'upload a payload that has rotted',
    seed: 47,
    kinds: rotting,
    patches: [
      remote(
        'group-sealer',
        'return this.#options.checksums.verifyLogBlocks(this.#raw, at * BLOCK_BYTES, 1, block, lsn, this.#sums, at) < 0;',
        'return true;',
      ),
    ],
  },
  {
    name: 'take a segment that is missing for one that died',
    seed: 10,
    ...damage,
    patches: [
      remote('remote-scrub', 'return `${name}: it is missing`;', 'return undefined;'),
      remote('remote-scrub', 'else\n            read.push(found);', 'else if (found !== undefined) read.push(found);'),
    ],
  },
  {
    name: 'scrub the bucket without reading its payload',
    ...damage,
    patches: [
      remote('remote-scrub', 'sumProblem(head, await readPayload(store, sealer, head, request), options)', 'undefined'),
    ],
  },
  {
    name: 'call a shard healed without writing it again',
    seed: 81,
    ...damage,
    patches: [
      remote(
        'checkpoint-writer',
        'const again = this.#mends.among(mapShards.values(), sealer.names).map(({ shardIndex }) => shardIndex);',
        'const again = [];',
      ),
      remote('mend', 'return objects.every((object) => {', 'return true || objects.every((object) => {'),
    ],
  },
  {
    name: 'heal a block that is pending from an older recovery point',
    seed: 23,
    kinds: [0, 1, 3],
    patches: [
      engine(
        'healed-block',
        'if (!watch.current || overlay.lookup(block) !== -1 || sums[at] === SUM_REMOTE)',
        'if (sums[at] === SUM_REMOTE)',
      ),
      engine('image-audit', 'remoteCopy.fetch(block, watch.lsn)', 'remoteCopy.fetch(block, 0)'),
    ],
  },
  {
    name: 'accept a foreign object after 412',
    seed: 59,
    kinds: owners,
    patches: [remote('upload-rules', "{ outcome: 'other', kind: found.kind }", "{ outcome: 'mine' }")],
  },
  {
    name: 'own without fencing the epoch before',
    seed: 9,
    kinds: owners,
    patches: [
      remote(
        'ownership',
        "return isEnd ? { phase: 'fencing', epoch, local, chain }",
        'return isEnd ? owned(epoch, chain)',
      ),
    ],
  },
  {
    name: 'take another history for one’s own',
    seed: 19,
    kinds: owners,
    patches: [remote('ownership', 'if (event.same)', 'if (true)')],
  },
  {
    name: 'stay fenced after a take-over',
    seed: 29,
    kinds: owners,
    patches: [remote('replicator-progress', 'this.#tell({ fenced: false });', 'this.#tell({});')],
  },
  {
    name: 'overwrite what a round has not sent yet',
    seed: 30,
    ...rounds,
    patches: [
      engine('rounds', 'if (this.round !== undefined)\n            await this.keep(this.round, newest, blocks);', ''),
    ],
  },
  {
    name: 'go on with a round without what it had kept',
    seed: 30,
    ...rounds,
    patches: [
      engine(
        'rounds',
        'await Spill.load({ disk, checksums, round: number })',
        `await Spill.load({ disk, checksums, round: number }).then((spill) => {
            if (spill !== undefined) spill.table = new spill.table.constructor();
            return spill;
        })`,
      ),
    ],
  },
  {
    name: 'go on with a round as if nothing had changed since',
    seed: 30,
    ...rounds,
    patches: [engine('rounds', 'await this.dirty.load(end);', 'if (number === 0) await this.dirty.load(end);')],
  },
  {
    name: 'begin a round before its blocks are durable',
    seed: 14,
    ...rounds,
    patches: [
      engine(
        'frozen-file',
        "await synced('fdatasync of the frozen map', file.sync());\n    }\n    finally",
        '}\n    finally',
      ),
    ],
  },
  {
    name: 'take what is staged for what is there',
    seed: 10,
    ...rounds,
    patches: [remote('remote-map-book', "if (index.role !== 'staged')", 'if (true)')],
  },
  {
    name: 'leave out some of a round that goes on',
    seed: 30,
    ...rounds,
    patches: [remote('round-turn', 'owned.staged.next : 0', 'owned.staged.next + 40 : 0')],
  },
  {
    name: 'let the log go before the dirty map is durable',
    seed: 10,
    ...rounds,
    patches: [
      engine(
        'rounds',
        'await this.dirty.flush();\n        await this.options.snapshots.save(r',
        'await this.options.snapshots.save(r',
      ),
    ],
  },
  {
    name: 'track without what the log still held',
    seed: 10,
    ...rounds,
    patches: [engine('rounds', 'this.dirty.add(record.firstBlock, record.blockCount);', ';')],
  },
  {
    name: 'follow the log again although it was let go',
    seed: 30,
    ...rounds,
    patches: [engine('durable-progress', "this.held?.lsn === cursor.lsn ? 'draining' : 'tracking'", "'draining'")],
  },
  {
    name: 'complete a group in the bucket before it is noted as sent',
    seed: 14,
    ...rounds,
    patches: [
      remote(
        'upload-pipeline',
        'if (segment.index.groupEnd)\n            await sent.add({ ...segment.key, link: segment.link });',
        '',
      ),
    ],
  },
  {
    name: 'forget the snapshots that wait when the log goes',
    seed: 33,
    ...rounds,
    patches: [
      engine('rounds', 'await this.options.snapshots.save(from.lsn - 1, to.lsn);', ''),
      engine('rounds', 'await this.options.snapshots.save(replicatedLsn, beforeLsn);', ''),
    ],
  },
  {
    name: 'give a snapshot a moment before its call',
    seed: 70,
    ...rounds,
    patches: [
      engine('reclaimer', 'const target = log.durableLsn;', 'const target = -1;'),
      engine('rounds', 'between(replicatedLsn, moment.cursor.lsn)', 'between(replicatedLsn, Infinity)'),
      remote('segment-event', 'if (lsn > groupLastLsn)', 'if (false)'),
    ],
  },
  {
    name: 'take any group for one’s own while tracking',
    seed: 79,
    kinds: owners,
    patches: [remote('epoch-claim', 'sent.has({ ...last.key, link: last.link })', 'true')],
  },
  {
    name: 'move a block although the map has moved on',
    seed: 41,
    kinds: [0, 1, 3],
    patches: [remote('remote-map', 'if (!stays) {', 'if (false) {')],
  },
  {
    name: 'compact a pending block from the local copy',
    seed: 621,
    kinds: [0, 1],
    patches: [
      remote('compaction-batch', 'pending.lookup(block) !== -1', 'false'),
      // A client may choose what it writes so that sums are equal; here none does.
      remote('compaction-batch', 'if (read && this.#isSound(at))', 'if (read)'),
      remote(
        'compaction-batch',
        'writer.sums[writer.reserve(block, 1)] = source.index.sums[payload] ?? 0;',
        `{
                const at = writer.reserve(block, 1);
                this.#options.checksums.sumBlocks(this.#content, at * BLOCK_BYTES, 1, writer.sums, at);
                this.#options.checksums.toBlockSums(writer.sums, at, 1, block);
            }`,
      ),
    ],
  },
  {
    name: 'delete what died since the oldest kept checkpoint',
    seed: 20,
    kinds: [0, 1, 3],
    patches: [
      remote(
        'deletion',
        'dies(sealer.names.segment(key), Math.max(newest, key.number + 1));',
        'dies(sealer.names.segment(key), key.number + 1);',
      ),
      remote('dead-list', 'sinceMs <= this.runningMs - graceMs', 'true'),
    ],
  },
  {
    name: 'keep one checkpoint only',
    seed: 41,
    kinds: [0, 1, 3],
    patches: [remote('kept-checkpoints', 'export const CHECKPOINTS_KEPT = 3;', 'export const CHECKPOINTS_KEPT = 1;')],
  },
  {
    name: 'delete at once, whoever reads',
    seed: 161,
    kinds: [0, 1, 3],
    patches: [
      remote('deletion', 'this.#due(dead, floor)', 'this.#due(dead, Infinity)'),
      remote('dead-list', 'sinceMs <= this.runningMs - graceMs', 'true'),
    ],
  },
  {
    name: 'delete what a reader has pinned',
    seed: 281,
    kinds: [0, 1, 3],
    patches: [remote('deletion', 'this.#due(dead, floor)', 'this.#due(dead, Infinity)')],
  },
  {
    name: 'delete what any checkpoint still needs',
    seed: 41,
    kinds: [0, 1, 3],
    patches: [remote('deletion-rule', 'deadAt > lowest', 'false')],
  },
  {
    name: 'a late fill overwrites a newer write',
    seed: 11,
    kinds: hydrating,
    patches: [
      engine('filled-block', 'if (!(await this.isWanted(firstBlock + from)))', 'if (false)'),
      engine(
        'filled-block',
        'while (to < blockCount && (await this.isWanted(firstBlock + to)))',
        'while (to < blockCount)',
      ),
    ],
  },
  {
    name: 'an owed block is read as zeros',
    seed: 6,
    kinds: hydrating,
    patches: [engine('volume-open', 'holes: identity.holes,', "holes: 'zero',")],
  },
  {
    name: 'what only the bucket has counts as zero, whatever its map says',
    seed: 146,
    kinds: hydrating,
    patches: [engine('owed-zeros', 'if (mapped[at] !== 0)', 'if (false)')],
  },
];
