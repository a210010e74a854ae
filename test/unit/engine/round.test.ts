/** A round of a restored volume whose content still comes from the bucket. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BlockSet } from '../../../src/engine/block-set.js';
import { Image } from '../../../src/engine/image.js';
import { Overlay } from '../../../src/engine/overlay.js';
import { Round } from '../../../src/engine/round.js';
import { Spill } from '../../../src/engine/spill.js';
import { Sums } from '../../../src/engine/sums.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { SeededRandom } from '../../fake/random.js';

const BLOCK = 4096;

describe('a round while blocks are owed from the bucket', () => {
  it('says of none of them that it is lost, whatever the dirty map says, nor when a write moves one of them', async () => {
    const disk = new MemoryDisk();
    const onRot = (): void => assert.fail('no sector has rotted');
    const open = async (name: string) => disk.open(name, { mode: 'write', create: true });
    const file = await open('image');
    await file.truncate(16 * BLOCK);
    const sums = new Sums({ file: await open('sums'), checksums: plainChecksums, holes: 'remote', onRot });
    const image = new Image({ file, sums, checksums: plainChecksums });
    const content = new Uint8Array(BLOCK).fill(7);
    const sum = new Uint32Array(1);
    plainChecksums.sumBlocks(content, 0, 1, sum, 0);
    plainChecksums.toBlockSums(sum, 0, 1, 12);
    await file.write([content], 12 * BLOCK);
    await sums.page(12);
    sums.set(12, sum[0] ?? 0);
    // All are dirty; 12 was written, 13 was written and has rotted, all others were not touched since the restore.
    const blocks = new BlockSet();
    blocks.add(0, 16);
    const spilled = { disk, checksums: plainChecksums, round: 1 };
    const options = {
      round: 1,
      blocks,
      cursor: { file: 1, offset: 0, lsn: 9, chain: 0, epoch: '00' },
      sizeBytes: 16 * BLOCK,
      wallMs: 5,
      image,
      checksums: plainChecksums,
      onRot: (block: number) => assert.equal(block, 13),
      isOwed: (block: number) =>
        Promise.resolve(block !== 3 && block !== 12 && block !== 13 ? true : block === 3 && owed),
    };
    let owed = true;
    const round = new Round({ ...options, spill: await Spill.create(spilled) });
    const newest = new Overlay();
    newest.table.set(3, 9, 0, 5);
    assert.equal(await round.moving(newest, Uint32Array.of(3)), true);
    const piece = await round.piece(0, 100);
    assert.deepEqual([...piece.blocks], [12, 13]);
    assert.deepEqual([...piece.sums], [sum[0], 1]);
    assert.equal(piece.next, undefined);
    await round.spill?.close();
    // The step came to its end: 3 is the image's, and the round's in no case.
    await file.write([content], 3 * BLOCK);
    plainChecksums.sumBlocks(content, 0, 1, sum, 0);
    plainChecksums.toBlockSums(sum, 0, 1, 3);
    await sums.page(3);
    sums.set(3, sum[0] ?? 0);
    owed = false;
    const resumed = new Round({ ...options, spill: await Spill.load(spilled) });
    assert.deepEqual([...(await resumed.piece(0, 100)).blocks], [12, 13]);
  });
});

describe('what a round has kept', () => {
  it('is durable when a step of the destager may overwrite it', async () => {
    const disk = new MemoryDisk();
    const open = async (name: string) => disk.open(name, { mode: 'write', create: true });
    const file = await open('image');
    await file.truncate(16 * BLOCK);
    const onRot = (): void => assert.fail('nothing has rotted');
    const sums = new Sums({ file: await open('sums'), checksums: plainChecksums, holes: 'zero', onRot });
    const image = new Image({ file, sums, checksums: plainChecksums });
    const content = new Uint8Array(BLOCK).fill(9);
    const sum = new Uint32Array(1);
    await sums.page(5);
    plainChecksums.sumBlocks(content, 0, 1, sum, 0);
    plainChecksums.toBlockSums(sum, 0, 1, 5);
    await file.write([content], 5 * BLOCK);
    sums.set(5, sum[0] ?? 0);
    await disk.syncDirectory('.');
    const blocks = new BlockSet();
    blocks.add(0, 16);
    const spilled = { disk, checksums: plainChecksums, round: 1 };
    const round = new Round({
      round: 1,
      blocks,
      cursor: { file: 1, offset: 0, lsn: 9, chain: 0, epoch: '00' },
      sizeBytes: 16 * BLOCK,
      wallMs: 5,
      image,
      checksums: plainChecksums,
      onRot,
      isOwed: () => Promise.resolve(false),
      spill: await Spill.create(spilled),
    });
    round.securedTo(4);
    const newest = new Overlay();
    for (const block of [2, 5, 7]) newest.table.set(block, 9, 0, 5);
    assert.equal(await round.moving(newest, Uint32Array.of(2, 5, 7)), true);
    disk.crash(new SeededRandom(1));
    const found = await Spill.load(spilled);
    assert.ok(found !== undefined);
    const bytes = new Uint8Array(BLOCK);
    assert.ok(await found.read(5, bytes, 0));
    assert.deepEqual(bytes, content);
    assert.equal(found.sumOf(7), 0);
    // The bucket has it for certain.
    assert.ok(!found.has(2));
  });
});
