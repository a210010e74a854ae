/**
 * The files `map` and `map.redo` with a sector that cannot be read, or with rot where it counts: they are a cache of the
 * bucket, so that what of them is in doubt is made again, and replication goes on as if nothing had been.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { samePoint } from '../../../src/remote/chain.js';
import { openCheckpoint } from '../../../src/remote/checkpoint.js';
import { RemoteBook } from '../../../src/remote/remote-map-book.js';
import { MapFile } from '../../../src/remote/remote-map-file.js';
import { MapDoubtError, nowhere } from '../../../src/remote/remote-map-header.js';
import { listCheckpoints } from '../../../src/remote/restore-checkpoint.js';
import type { ChainPoint } from '../../../src/remote/segment-point.js';
import { chainOrigin } from '../../../src/remote/segment-point.js';
import { MAP_PAGE_BYTES, MapEntries, mapPageSums, SHARD_BLOCKS, SHARD_BYTES } from '../../../src/remote/shard-map.js';
import type { MapShard } from '../../../src/remote/shard-map.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { SeededRandom } from '../../fake/random.js';
import { Rig } from '../../fake/replication-rig.js';

const UUID = '11111111-2222-4333-8444-555555555555';
/** Of shards 0 and 1. */
const PAGES = [0, 65, 66] as const;

function point(number: number): ChainPoint {
  return { epoch: 1, number, link: new Uint8Array(32).fill(number), lsn: number, wallMs: 5 };
}

function options(disk: MemoryDisk): { disk: MemoryDisk; checksums: typeof plainChecksums; uuid: string } {
  return { disk, checksums: plainChecksums, uuid: UUID };
}

/** Every page of PAGES, full of that segment's number. */
async function change(map: MapFile, segment: number): Promise<void> {
  const redo = await map.begin();
  const page = new Uint8Array(MAP_PAGE_BYTES);
  const entries = new MapEntries(page);
  for (let at = 0; at < 512; at++) entries.set(at, segment, at);
  for (const number of PAGES) await redo.page(number, page, 0);
  await map.commit(redo, point(segment));
}

async function segmentOf(map: MapFile, page: number): Promise<number> {
  const bytes = new Uint8Array(MAP_PAGE_BYTES);
  await map.readPages(page, 1, bytes, 0);
  return new MapEntries(bytes).segment(3);
}

/** A map at point 1 whose process died when that many pages of the change to point 2 were in place. */
async function halfApplied(pages: number): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  const map = await MapFile.create(options(disk));
  await change(map, 1);
  let left = 2 * pages;
  disk.hook = (operation, path) => {
    if (operation === 'write' && path === 'map' && left-- === 0) throw new Error('the process died');
  };
  await assert.rejects(change(map, 2), /the process died/);
  disk.hook = () => undefined;
  disk.kill();
  return disk;
}

/** A shard, full of that segment's number. */
function shardOf(segment: number): MapShard {
  const bytes = new Uint8Array(SHARD_BYTES);
  const entries = new MapEntries(bytes);
  for (let at = 0; at < SHARD_BLOCKS; at++) entries.set(at, segment, 0);
  const pageSums = mapPageSums(plainChecksums, 0, bytes);
  return { shardIndex: 0, entries: bytes, pageSums };
}

/** Whatever was there, an empty map takes its place. */
async function assertMadeAgain(disk: MemoryDisk): Promise<void> {
  const map = await MapFile.create(options(disk));
  for (const page of PAGES) assert.equal(await segmentOf(map, page), 0);
  await change(map, 3);
  await map.close();
  const opened = await MapFile.open(options(disk));
  assert.equal(opened.position.number, 3);
  for (const page of PAGES) assert.equal(await segmentOf(opened, page), 3);
  await opened.close();
}

describe('a map that is filled with shards', () => {
  /** false: it was filled before the power was lost. */
  async function losesPower(step: number, random: SeededRandom): Promise<boolean> {
    const disk = new MemoryDisk();
    let left = step;
    disk.hook = () => {
      if (left-- === 0) throw new Error('the power is lost');
    };
    const filled = await fill(disk).catch((error: unknown) => {
      assert.match(String(error), /the power is lost/);
      return undefined;
    });
    disk.hook = () => undefined;
    disk.crash(random);
    const opened = await MapFile.open(options(disk)).catch((error: unknown) => {
      assert(error instanceof MapDoubtError && filled === undefined, String(error));
      return undefined;
    });
    if (opened?.position.number === 7) assert.equal(await segmentOf(opened, 5), 7, `power lost at step ${step}`);
    else assert.equal(filled, undefined, 'what was filled stays so');
    await opened?.close();
    return filled === undefined;
  }

  async function fill(disk: MemoryDisk): Promise<true> {
    const map = await MapFile.create(options(disk), nowhere());
    await map.writeShard(shardOf(7));
    await map.commit(await map.begin(), point(7));
    return true;
  }

  it('has all of them wherever it shows their recovery point, whenever power is lost', async () => {
    const random = new SeededRandom(1);
    let steps = 0;
    while (await losesPower(steps, random)) {
      for (let again = 0; again < 20; again++) await losesPower(steps, random);
      steps++;
    }
    assert(steps > 10, `the power was lost at ${steps} steps only`);
  });
});

describe('a map of which a sector cannot be read', () => {
  const slot = 4096 + 266_240;
  const places = {
    'its header': 0,
    'the CRCs of a shard': 4096,
    'a page': 8192 + 512,
    'the CRCs of the next shard': slot,
    'a page there': slot + 2 * 4096 + 3584,
  };
  for (const [what, at] of Object.entries(places)) {
    it(`gives rise to doubt, and is made again: ${what}`, async () => {
      const disk = new MemoryDisk();
      const made = await MapFile.create(options(disk));
      await change(made, 1);
      await made.close();
      disk.makeUnreadable('map', at);
      const readAll = async (): Promise<void> => {
        const map = await MapFile.open(options(disk));
        for await (const shard of map.shards()) await map.readShard(shard);
      };
      await assert.rejects(readAll(), MapDoubtError);
      await assert.rejects(async () => {
        const map = await MapFile.open(options(disk));
        for (const page of PAGES) await segmentOf(map, page);
      }, MapDoubtError);
      await assertMadeAgain(disk);
    });
  }

  it('does not hide other failures', async () => {
    const disk = await halfApplied(1);
    disk.hook = (operation, path) => {
      if (operation === 'write' && path === 'map') throw new Error('no write');
    };
    await assert.rejects(MapFile.open(options(disk)), /no write/);
  });
});

describe('a change of the map on its way', () => {
  it('is applied at the next opening, however much of it was in place', async () => {
    for (let pages = 0; pages < 3; pages++) {
      const map = await MapFile.open(options(await halfApplied(pages)));
      assert.equal(map.position.number, 2);
      for (const page of PAGES) assert.equal(await segmentOf(map, page), 2);
    }
  });

  it('of which a sector cannot be read gives rise to doubt, its header too: it may be half applied', async () => {
    const { length } = (await halfApplied(0)).bytesOf('map.redo');
    assert.equal(length, 4096 + PAGES.length * (16 + 4096));
    for (const at of [0, 512, 3584, 4096, 4096 + 16 + 2048, 4096 + 2 * 4112, length - 1]) {
      for (let pages = 0; pages < 3; pages++) {
        const disk = await halfApplied(pages);
        disk.makeUnreadable('map.redo', at);
        await assert.rejects(MapFile.open(options(disk)), MapDoubtError, `byte ${at}, ${pages} pages`);
        await assertMadeAgain(disk);
      }
    }
  });

  it('that has rotted gives rise to doubt, wherever it is', async () => {
    for (const [at, bit] of [
      [0, 1],
      [9, 0],
      [12, 3],
      [40, 0],
      [60, 7],
      [4095, 2],
      [4096, 0],
      [4096 + 7, 7],
      [4096 + 12, 2],
      [4096 + 100, 4],
      [4096 + 4112, 0],
    ] as const) {
      const disk = await halfApplied(1);
      disk.bytesOf('map.redo')[at]! ^= 1 << bit;
      await assert.rejects(MapFile.open(options(disk)), MapDoubtError, `byte ${at}`);
      await assertMadeAgain(disk);
    }
  });

  it('that was never decided is none', async () => {
    const disk = await halfApplied(0);
    disk.bytesOf('map.redo').fill(0, 0, 4096);
    const map = await MapFile.open(options(disk));
    assert.equal(map.position.number, 1);
    for (const page of PAGES) assert.equal(await segmentOf(map, page), 1);
  });

  it('never outlives the pages that it was for, nor they it, when the map is removed and the power goes', async () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = new SeededRandom(seed);
      const disk = await halfApplied(1);
      let left = random.below(12);
      disk.hook = () => {
        if (left-- <= 0) throw new Error('the power went');
      };
      const created = await MapFile.create(options(disk)).then(
        () => true,
        () => false,
      );
      disk.hook = () => undefined;
      disk.crash(random);
      let map: MapFile;
      try {
        map = await MapFile.open(options(disk));
      } catch (error) {
        assert.ok(error instanceof MapDoubtError, String(error));
        continue;
      }
      const expected = map.position.number;
      assert.ok(expected === 2 ? !created : expected === 0);
      for (const page of PAGES) assert.equal(await segmentOf(map, page), expected, `seed ${seed}`);
    }
  });
});

describe('a replicator whose map cannot be read', () => {
  /** A restart with a sector of the file unreadable, and load until a checkpoint is written. */
  async function assertCheckpointAfter(rig: Rig, random: SeededRandom, spoil: () => void): Promise<void> {
    await rig.kill();
    spoil();
    rig.start();
    const keys = (): string[] => rig.store.keys(`${rig.config.uuid}/checkpoints/`);
    const before = new Set(keys());
    for (let round = 0; round < 60; round++) {
      rig.writeRandom(random);
      await rig.drain();
      if (keys().some((key) => !before.has(key))) return;
    }
    assert.fail(`no checkpoint is written: ${rig.logger.lines.slice(-3).join('; ')}`);
  }

  it('goes on writing checkpoints, whichever sector of the map it is', async () => {
    const rig = new Rig({ seed: 3, blocks: 256 });
    const random = new SeededRandom(4);
    await assertCheckpointAfter(rig, random, () => undefined);
    for (const at of [0, 4096, 8192])
      await assertCheckpointAfter(rig, random, () => rig.disk.makeUnreadable('map', at));
  });

  it('goes on writing checkpoints, whichever sector of a decided change it is', async () => {
    for (const at of [0, 3584, 4096, 4096 + 2048]) {
      const rig = new Rig({ seed: 3, blocks: 256 });
      const random = new SeededRandom(4);
      await assertCheckpointAfter(rig, random, () => undefined);
      const seen = { stopped: false };
      rig.disk.hook = (operation, path) => {
        if (operation !== 'write' || path !== 'map') return;
        seen.stopped = true;
        throw new GatewayError('disk-full', 'its pages do not get to their place');
      };
      for (let round = 0; round < 60 && !seen.stopped; round++) {
        rig.writeRandom(random);
        await rig.drain();
      }
      await assertCheckpointAfter(rig, random, () => {
        rig.disk.hook = () => undefined;
        assert.equal(rig.disk.bytesOf('map.redo').length, 4096 + 16 + 4096);
        rig.disk.makeUnreadable('map.redo', at);
      });
    }
  });

  it('does not take a map that is being made from a checkpoint for one of the beginning', async () => {
    const rig = new Rig({ seed: 3, blocks: 256 });
    await assertCheckpointAfter(rig, new SeededRandom(4), () => undefined);
    const sealer = await rig.sealer();
    const [key] = await listCheckpoints(rig.store, sealer, {});
    assert.ok(key !== undefined);
    const checkpoint = openCheckpoint(sealer, key, rig.store.peek(sealer.names.checkpoint(key))!);
    const disk = new MemoryDisk();
    disk.hook = (operation, path) => {
      if (operation === 'open' && path === 'map.redo') throw new Error('the process died');
    };
    const { store } = rig;
    await assert.rejects(
      RemoteBook.load(checkpoint, { store, sealer, disk, checksums: plainChecksums, request: {} }),
      /the process died/,
    );
    disk.hook = () => undefined;
    const map = await MapFile.open({ disk, checksums: plainChecksums, uuid: rig.config.uuid });
    assert.ok(!samePoint(map.position, chainOrigin));
  });
});
