import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { BlockSet, BLOCKS_PER_GROUP } from '../../../src/engine/block-set.js';
import { DirtyMap } from '../../../src/engine/dirty-map.js';
import { addFrozen, readFrozen, writeFrozen } from '../../../src/engine/frozen-file.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { SeededRandom } from '../../fake/random.js';

const end = 5 * BLOCKS_PER_GROUP;
const moment = {
  round: 7,
  cursor: { file: 1, offset: 8192, lsn: 5, epoch: '0123456789abcdef', chain: 0x1122_3344 },
  sizeBytes: end * 4096,
  wallMs: 6,
};

function setOf(...blocks: readonly number[]): BlockSet {
  const set = new BlockSet();
  for (const block of blocks) set.add(block, 1);
  return set;
}

function countOf(map: DirtyMap): number {
  return map.countBelow(end);
}

async function reloaded(disk: MemoryDisk): Promise<DirtyMap> {
  const map = new DirtyMap(disk, plainChecksums);
  await map.load(end);
  return map;
}

describe('the dirty map', () => {
  it('is what it was after a power loss, once it was flushed', async () => {
    const disk = new MemoryDisk();
    const random = new SeededRandom(5);
    const map = new DirtyMap(disk, plainChecksums);
    const marked = new Set<number>();
    for (let step = 0; step < 300; step++) {
      const block = random.below(end);
      map.add(block, 1);
      marked.add(block);
      if (step % 40 === 0) await map.flush();
    }
    await map.flush();
    await map.close();
    disk.crash(random);
    const found = await reloaded(disk);
    assert.equal(countOf(found), marked.size);
    for (const block of marked) assert.ok(found.has(block));
    await found.close();
  });

  it('counts every block where its file is missing, and all of a sector that has rotted', async () => {
    const disk = new MemoryDisk();
    const none = await reloaded(disk);
    assert.equal(countOf(none), end);
    await none.clear();
    none.add(7, 1);
    none.add(BLOCKS_PER_GROUP + 1, 1);
    await none.flush();
    await none.close();
    const file = await disk.open('dirty', { mode: 'write' });
    await file.write([Uint8Array.of(1)], 100);
    await file.close();
    const found = await reloaded(disk);
    assert.equal(countOf(found), BLOCKS_PER_GROUP + 1);
    assert.ok(found.has(7) && found.has(BLOCKS_PER_GROUP + 1) && !found.has(BLOCKS_PER_GROUP + 2));
    await found.close();
  });

  it('writes again what a killed process had left in the page cache only', async () => {
    const disk = new MemoryDisk();
    const map = new DirtyMap(disk, plainChecksums);
    map.add(1, 1);
    await map.flush();
    map.add(9, 1);
    disk.hook = (operation) => {
      if (operation === 'sync') throw new Error('killed');
    };
    await assert.rejects(map.flush());
    disk.hook = () => undefined;
    disk.kill();
    const next = await reloaded(disk);
    next.add(9, 1);
    await next.flush();
    disk.crash(new SeededRandom(1));
    const found = await reloaded(disk);
    assert.ok(found.has(1) && found.has(9));
    assert.equal(countOf(found), 2);
    await found.close();
  });

  it('keeps what stands aside for a round until the round is in the bucket', async () => {
    const disk = new MemoryDisk();
    const united = async (): Promise<number> => {
      const map = await reloaded(disk);
      await map.unite(end);
      await map.close();
      return countOf(map);
    };
    const map = new DirtyMap(disk, plainChecksums);
    map.add(10, 5);
    await map.flush();
    const { blocks, durable } = await map.freeze(moment);
    assert.ok(durable);
    assert.equal(blocks.countBelow(end), 5);
    map.add(100, 1);
    await map.flush();
    assert.equal(countOf(map), 6);
    assert.equal(countOf(await reloaded(disk)), 1);
    assert.equal(await united(), 6);
    await map.committed();
    await map.flush();
    assert.equal(await united(), 1);
    await map.freeze({ ...moment, round: 8 });
    map.thaw();
    assert.ok(map.has(100));
    await map.flush();
    assert.equal(countOf(await reloaded(disk)), 1);
    await map.clear();
    assert.equal(await united(), 0);
    await map.close();
  });

  it('stays in one file where there is no space for another', async () => {
    const disk = new MemoryDisk();
    const map = new DirtyMap(disk, plainChecksums);
    map.add(10, 5);
    await map.flush();
    disk.hook = (_, path) => {
      if (path === 'frozen') throw new GatewayError('disk-full', 'full');
    };
    assert.equal((await map.freeze(moment)).durable, false);
    disk.hook = () => undefined;
    map.add(11, 1);
    map.add(100, 1);
    await map.flush();
    assert.equal(countOf(await reloaded(disk)), 6);
    await map.committed();
    await map.flush();
    assert.equal(countOf(await reloaded(disk)), 2);
    await map.close();
  });
});

describe('frozen blocks', () => {
  it('have the bytes of docs/formats.md', async () => {
    const disk = new MemoryDisk();
    await writeFrozen(disk, plainChecksums, { ...moment, blocks: setOf(0, 9, BLOCKS_PER_GROUP + 1) });
    const bytes = await disk.readSmall('frozen');
    assert.equal(bytes.length, 4096 + 2 * 512);
    const hex = (start: number, stop: number): string => Buffer.from(bytes.subarray(start, stop)).toString('hex');
    assert.equal(hex(0, 12), Buffer.from('KGFROZE1').toString('hex') + '01000000');
    assert.equal(
      hex(16, 80),
      '0700000000000000' +
        '0100000000000000' +
        '0020000000000000' +
        '0500000000000000' +
        'efcdab8967452301' +
        '44332211' +
        '00000000' +
        Buffer.from(BigUint64Array.of(BigInt(end * 4096)).buffer).toString('hex') +
        '0600000000000000',
    );
    assert.equal(hex(4096, 4100), '01020000');
    assert.equal(hex(4608, 4612), '02000000');
  });

  it('come back exactly, after a power loss too, or not at all', async () => {
    const disk = new MemoryDisk();
    const random = new SeededRandom(3);
    const blocks = new BlockSet();
    for (let count = 0; count < 50; count++) blocks.add(random.below(end - 20), 1 + random.below(20));
    blocks.add(2 * BLOCKS_PER_GROUP, BLOCKS_PER_GROUP);
    await writeFrozen(disk, plainChecksums, { ...moment, blocks });
    disk.crash(random);
    const found = await readFrozen(disk, plainChecksums, 7);
    assert.deepEqual({ ...found, blocks: undefined }, { ...moment, blocks: undefined });
    assert.deepEqual([...found!.blocks.within(0, end)], [...blocks.within(0, end)]);
    assert.equal(await readFrozen(disk, plainChecksums, 8), undefined);
    // Any flipped bit, and a whole sector that has become zeros.
    const bytes = await disk.readSmall('frozen');
    for (let at = 0; at < bytes.length; at += at < 100 ? 1 : 37) {
      // Behind the header's fields, and in groups without bits, there is nothing that could rot unseen.
      const file = await disk.open('frozen', { mode: 'write' });
      await file.write([Uint8Array.of(bytes[at]! ^ 16)], at);
      assert.equal(await readFrozen(disk, plainChecksums, 7), undefined, `byte ${at}`);
      const all = new BlockSet();
      await addFrozen(disk, plainChecksums, end, all);
      for (const block of blocks.within(0, end)) assert.ok(all.has(block));
      await file.write([bytes.subarray(at, at + 1)], at);
      await file.close();
    }
    const file = await disk.open('frozen', { mode: 'write' });
    await file.write([new Uint8Array(512)], 4096 + 512);
    assert.equal(await readFrozen(disk, plainChecksums, 7), undefined);
  });
});
