/** A round of a restored volume whose content still comes from the bucket. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BlockSet } from '../../../src/engine/block-set.js';
import { Image } from '../../../src/engine/image.js';
import { Overlay } from '../../../src/engine/overlay.js';
import { Round } from '../../../src/engine/round.js';
import { Sums } from '../../../src/engine/sums.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MemoryDisk } from '../../fake/memory-disk.js';

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
    const unread = new BlockSet();
    unread.add(0, 16);
    const round = new Round({
      number: 1,
      unread,
      cursor: { file: 1, offset: 0, lsn: 9, chain: 0, epoch: '00' },
      sizeBytes: 16 * BLOCK,
      disk,
      image,
      checksums: plainChecksums,
      onRot: (block) => assert.equal(block, 13),
      isOwed: (block) => Promise.resolve(block !== 12 && block !== 13),
    });
    const newest = new Overlay();
    newest.table.set(3, 9, 0, 5);
    assert.equal(await round.moving(newest, Uint32Array.of(3)), true);
    const piece = await round.piece(0, 100);
    assert.deepEqual([...piece.blocks], [12, 13]);
    assert.deepEqual([...piece.sums], [sum[0], 1]);
    assert.equal(piece.next, undefined);
    await round.close();
  });
});
