import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Spill } from '../../../src/engine/spill.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { SeededRandom } from '../../fake/random.js';

const BLOCK = 4096;
const ROUND = 0x1234;

function options(disk: MemoryDisk, round = ROUND) {
  return { disk, checksums: plainChecksums, round };
}

/** Keeps blocks of their own content; `version` tells one from another. */
async function keep(spill: Spill, blocks: readonly number[], version: number): Promise<void> {
  const bytes = new Uint8Array(blocks.length * BLOCK);
  const sums = new Uint32Array(blocks.length);
  blocks.forEach((block, at) => {
    if (block % 5 === 0) return void (sums[at] = block % 2);
    bytes.fill((block * 7 + version) & 0xff, at * BLOCK, (at + 1) * BLOCK);
    plainChecksums.sumBlocks(bytes, at * BLOCK, 1, sums, at);
    plainChecksums.toBlockSums(sums, at, 1, block);
  });
  await spill.keep(blocks, sums, bytes);
}

async function assertKept(spill: Spill, block: number, version: number): Promise<void> {
  if (block % 5 === 0) return assert.equal(spill.sumOf(block), block % 2);
  const bytes = new Uint8Array(BLOCK);
  assert.ok(await spill.read(block, bytes, 0), `block ${block}`);
  assert.ok(bytes.every((byte) => byte === ((block * 7 + version) & 0xff)));
}

describe('the spill of a round', () => {
  it('has the bytes of docs/formats.md', async () => {
    const disk = new MemoryDisk();
    const spill = await Spill.create(options(disk));
    await keep(spill, [7, 15, 20], 0);
    const file = await disk.readSmall('spill');
    assert.equal(file.length, 2 * BLOCK + BLOCK);
    const hex = (start: number, end: number): string => Buffer.from(file.subarray(start, end)).toString('hex');
    const magic = Buffer.from('KGSPILL1').toString('hex');
    assert.equal(hex(0, 36), magic + '3412000000000000' + '0000000000000000' + '0000000000000000' + '00000000');
    assert.equal(
      hex(BLOCK, BLOCK + 36),
      magic + '3412000000000000' + '0010000000000000' + '0010000000000000' + '03000000',
    );
    assert.equal(hex(BLOCK + 40, BLOCK + 44), '07000000');
    assert.equal(hex(BLOCK + 48, BLOCK + 64), '0f000000' + '01000000' + '14000000' + '00000000');
    assert.equal(file[2 * BLOCK], 49);
  });

  it('comes back with what was synced, after a kill and a power loss, and is another round’s nothing', async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const disk = new MemoryDisk();
      const random = new SeededRandom(seed);
      const spill = await Spill.create(options(disk));
      const kept = new Map<number, number>();
      for (let step = 0; step < 6; step++) {
        const blocks = Array.from({ length: 1 + random.below(12) }, () => random.below(400));
        const fresh = [...new Set(blocks)].filter((block) => !kept.has(block)).sort((a, b) => a - b);
        await keep(spill, fresh, seed);
        for (const block of fresh) kept.set(block, seed);
        await spill.sync();
      }
      if (random.fraction() < 0.5) disk.kill();
      else disk.crash(random);
      assert.equal(await Spill.load(options(disk, ROUND + 1)), undefined);
      const found = await Spill.load(options(disk));
      assert.ok(found !== undefined);
      for (const [block, version] of kept) await assertKept(found, block, version);
      assert.ok(!found.has(401));
      // And it goes on.
      await keep(found, [401], seed);
      await found.sync();
      disk.crash(random);
      await assertKept((await Spill.load(options(disk)))!, 401, seed);
    }
  });

  it('is nothing that counts when an entry was cut off or has rotted, whichever it was', async () => {
    const disk = new MemoryDisk();
    const spill = await Spill.create(options(disk));
    await keep(spill, [1, 2, 3], 0);
    await spill.sync();
    await keep(spill, [4, 6], 0);
    const bytes = await disk.readSmall('spill');
    const load = async (content: Uint8Array): Promise<Spill | undefined> => {
      const other = new MemoryDisk();
      await other.writeSmall('spill', content);
      return Spill.load(options(other));
    };
    assert.ok((await load(bytes)) !== undefined);
    for (let at = 0; at < bytes.length; at += at % BLOCK < 60 ? 1 : 501) {
      const changed = bytes.slice();
      changed[at]! ^= 2;
      const found = await load(changed);
      // Of what was durable long ago the bytes are looked at when they are read.
      const lazily = at >= 2 * BLOCK && at < 5 * BLOCK;
      if (!lazily) assert.equal(found, undefined, `byte ${at}`);
      else assert.ok(!(await found!.read(Math.floor(at / BLOCK) - 1, new Uint8Array(BLOCK), 0)));
    }
    // What the end of the file cuts off was never synced.
    for (let length = 0; length < bytes.length; length += 511) {
      const found = await load(bytes.slice(0, length));
      assert.equal(found === undefined, length < BLOCK, `${length} bytes`);
      assert.equal(found?.has(1) === true, length >= 5 * BLOCK);
      assert.ok(found?.has(4) !== true);
      if (length >= 5 * BLOCK) await assertKept(found!, 2, 0);
    }
    assert.equal(await load(new Uint8Array(0)), undefined);
    assert.equal(await Spill.load(options(new MemoryDisk())), undefined);
  });

  it('is durable again once it was loaded, whatever of it was in the page cache only', async () => {
    const disk = new MemoryDisk();
    const spill = await Spill.create(options(disk));
    await keep(spill, [1, 2, 3], 0);
    disk.kill();
    const found = await Spill.load(options(disk));
    disk.crash(new SeededRandom(1));
    assert.ok(found?.has(2));
    await assertKept((await Spill.load(options(disk)))!, 2, 0);
  });
});
