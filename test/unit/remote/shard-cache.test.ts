import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { SHARD_CACHE_FILE, ShardCache } from '../../../src/remote/shard-cache.js';
import { MAP_PAGE_BYTES, MapEntries, mapPageSums, SHARD_BYTES, SHARD_PAGES } from '../../../src/remote/shard-map.js';
import type { MapShard } from '../../../src/remote/shard-map.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { SeededRandom } from '../../fake/random.js';

function shardOf(shardIndex: number, segment: number): MapShard {
  const entries = new Uint8Array(SHARD_BYTES);
  for (let at = 0; at < SHARD_BYTES / 8; at++) new MapEntries(entries).set(at, segment, at % 2048);
  const pageSums = mapPageSums(plainChecksums, shardIndex, entries);
  return { shardIndex, entries, pageSums };
}

const linkOf = (fill: number): Uint8Array => new Uint8Array(32).fill(fill);

async function pageOf(cache: ShardCache, link: Uint8Array, page: number): Promise<Uint8Array | undefined> {
  const bytes = new Uint8Array(MAP_PAGE_BYTES);
  return (await cache.readPage(link, page, bytes)) ? bytes : undefined;
}

describe('shard cache', () => {
  it('gives back a shard by its link, over restarts, and nothing for any other', async () => {
    const disk = new MemoryDisk();
    const first = await ShardCache.open(disk, plainChecksums);
    const shard = shardOf(3, 77);
    assert.equal(await pageOf(first, linkOf(1), 3 * SHARD_PAGES), undefined);
    assert.ok(await first.write(linkOf(1), shard));
    await first.close();
    const again = await ShardCache.open(disk, plainChecksums);
    for (const page of [0, 1, SHARD_PAGES - 1]) {
      const expected = shard.entries.slice(page * MAP_PAGE_BYTES, (page + 1) * MAP_PAGE_BYTES);
      assert.deepEqual(await pageOf(again, linkOf(1), 3 * SHARD_PAGES + page), expected);
    }
    assert.equal(await pageOf(again, linkOf(2), 3 * SHARD_PAGES), undefined);
    assert.equal(await pageOf(again, linkOf(1), 2 * SHARD_PAGES), undefined);
    assert.equal(await pageOf(again, linkOf(1), 4 * SHARD_PAGES), undefined);
    assert.ok(await again.write(linkOf(2), shardOf(3, 78)));
    assert.equal(await pageOf(again, linkOf(1), 3 * SHARD_PAGES), undefined);
    await again.close();
    assert.equal(await pageOf(again, linkOf(2), 3 * SHARD_PAGES), undefined);
  });

  it('keeps nothing on a full disk, and fails nobody', async () => {
    const disk = new MemoryDisk();
    disk.hook = (operation) => {
      if (operation === 'open') throw new GatewayError('disk-full', 'no space');
    };
    const cache = await ShardCache.open(disk, plainChecksums);
    assert.equal(await cache.write(linkOf(1), shardOf(3, 77)), false);
    assert.equal(await pageOf(cache, linkOf(1), 3 * SHARD_PAGES), undefined);
    await cache.close();
  });

  it('has the bytes of docs/formats.md', async () => {
    const disk = new MemoryDisk();
    const cache = await ShardCache.open(disk, plainChecksums);
    const shard = shardOf(1, 9);
    await cache.write(linkOf(0xab), shard);
    const file = await disk.open(SHARD_CACHE_FILE, { mode: 'read' });
    const slot = new Uint8Array(512 + SHARD_BYTES);
    await file.read(slot, 0, slot.length, slot.length);
    const view = new DataView(slot.buffer);
    assert.equal(Buffer.from(slot.subarray(0, 8)).toString(), 'KGRESMAP');
    assert.equal(view.getUint32(8, true), 1);
    assert.deepEqual(slot.slice(16, 48), linkOf(0xab));
    assert.equal(view.getUint32(48 + 4 * 5, true), shard.pageSums[5]);
    assert.deepEqual(slot.slice(304, 512), new Uint8Array(208));
    assert.deepEqual(slot.slice(512), shard.entries);
    const crc = view.getUint32(12, true);
    view.setUint32(12, 0, true);
    const seed = plainChecksums.crc32c(0, new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]), 0, 8);
    assert.equal(plainChecksums.crc32c(seed, slot, 0, 512), crc);
  });

  it('takes nothing that has rotted, in any of its bytes, for the shard', async () => {
    const disk = new MemoryDisk();
    const whole = await ShardCache.open(disk, plainChecksums);
    const shard = shardOf(0, 5);
    await whole.write(linkOf(1), shard);
    await whole.close();
    const random = new SeededRandom(4);
    const positions = [0, 9, 13, 20, 50, 300, 400, 512, 513, ...Array.from({ length: 20 }, () => random.below(4608))];
    for (const position of positions) {
      const file = await disk.open(SHARD_CACHE_FILE, { mode: 'write' });
      const byte = new Uint8Array(1);
      await file.read(byte, 0, 1, position);
      await file.write([Uint8Array.of(byte[0]! ^ 4)], position);
      const cache = await ShardCache.open(disk, plainChecksums);
      assert.equal(await pageOf(cache, linkOf(1), 0), undefined, `byte ${position}`);
      await file.write([byte], position);
    }
  });

  it('is never wrong after the power went while it was written', async () => {
    for (let seed = 1; seed <= 30; seed++) {
      const disk = new MemoryDisk();
      const random = new SeededRandom(seed);
      const cache = await ShardCache.open(disk, plainChecksums);
      await disk.syncDirectory('.');
      const [older, newer] = [shardOf(0, 5), shardOf(0, 6)];
      await cache.write(linkOf(1), older);
      if (random.fraction() < 0.5) {
        const file = await disk.open(SHARD_CACHE_FILE, { mode: 'write' });
        await file.sync();
      }
      await cache.write(linkOf(2), newer);
      disk.crash(random);
      const again = await ShardCache.open(disk, plainChecksums);
      for (const [link, { entries }] of [
        [linkOf(1), older],
        [linkOf(2), newer],
      ] as const) {
        for (let page = 0; page < SHARD_PAGES; page++) {
          const found = await pageOf(again, link, page);
          if (found === undefined) continue;
          assert.equal(Buffer.compare(found, entries.subarray(page * MAP_PAGE_BYTES, (page + 1) * MAP_PAGE_BYTES)), 0);
        }
      }
    }
  });
});
