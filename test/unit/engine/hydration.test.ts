/** A restored volume that serves while its content is in the bucket only. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { limits } from '../../../src/base/limits.js';
import type { Hydration } from '../../../src/engine/hydration.js';
import type { FrozenRun, FrozenVolume } from '../../../src/ports/hydration.js';
import { plainChecksums } from '../../fake/checksums.js';
import { SeededRandom } from '../../fake/random.js';
import { MIB, settle, VolumeHarness } from './volume-harness.js';

const BLOCK = 4096;

/** A bucket that holds `content`; blocks of zeros are no payload. */
class Bucket implements FrozenVolume {
  readonly fetches: { readonly first: number; readonly count: number }[] = [];
  readonly lost = new Set<number>();
  failure: GatewayError | undefined;
  /** While set, nothing is answered. */
  silent = false;
  readonly maps: { readonly first: number; readonly count: number }[] = [];
  /** Blocks that one answer of the map is about at most. */
  mappedMax = Infinity;
  /** Happens while the map is looked at. */
  meanwhile: () => Promise<void> = () => Promise.resolve();

  constructor(readonly content: Uint8Array) {}

  run(block: number): FrozenRun {
    const bytes = this.content.slice(block * BLOCK, (block + 1) * BLOCK);
    if (bytes.length === 0 || plainChecksums.isZero(bytes, 0, bytes.length))
      return { firstBlock: block, blockCount: 1, payload: undefined };
    const sums = new Uint32Array(1);
    plainChecksums.sumBlocks(bytes, 0, 1, sums, 0);
    plainChecksums.toBlockSums(sums, 0, 1, block);
    if (this.lost.has(block)) sums[0] = 1;
    return { firstBlock: block, blockCount: 1, payload: { bytes, start: 0, sums, sumsStart: 0 } };
  }

  fetch(first: number, count: number): Promise<readonly FrozenRun[]> {
    this.fetches.push({ first, count });
    if (this.silent) return new Promise(() => undefined);
    if (this.failure !== undefined) return Promise.reject(this.failure);
    return Promise.resolve(Array.from({ length: count }, (_, at) => this.run(first + at)));
  }

  async mapped(first: number, count: number): Promise<Uint8Array<ArrayBuffer>> {
    this.maps.push({ first, count });
    if (this.silent) return new Promise(() => undefined);
    if (this.failure !== undefined) throw this.failure;
    await this.meanwhile();
    const told = Math.min(count, this.mappedMax);
    return Uint8Array.from({ length: told }, (_, at) => (this.run(first + at).payload === undefined ? 0 : 1));
  }
}

interface Stage {
  readonly h: VolumeHarness;
  readonly bucket: Bucket;
}

/** Every fourth block of the recovery point is zero. */
function contentOf(random: SeededRandom, sizeBytes: number): Uint8Array {
  const content = random.bytes(sizeBytes);
  for (let block = 3; block * BLOCK < sizeBytes; block += 4) content.fill(0, block * BLOCK, (block + 1) * BLOCK);
  return content;
}

async function stage(seed: number): Promise<Stage> {
  const h = new VolumeHarness(seed, MIB);
  const bucket = new Bucket(contentOf(h.random, MIB));
  await h.restored(bucket.content);
  hydration(h).connect(bucket);
  return { h, bucket };
}

function hydration({ volume }: VolumeHarness): Hydration {
  assert.ok(volume.hydration !== undefined, 'content is still owed');
  return volume.hydration;
}

const code = (expected: string, message?: RegExp) => (error: unknown) => {
  assert.ok(error instanceof GatewayError, String(error));
  assert.equal(error.code, expected, error.message);
  if (message !== undefined) assert.match(error.message, message);
  return true;
};

async function destaged(h: VolumeHarness): Promise<void> {
  await h.flush();
  h.clock.advance(6000);
  await settle();
  assert.equal(h.volume.status().overlayBlocks, 0);
}

async function fillAll({ h, bucket }: Stage): Promise<void> {
  for (let block = 0; block < hydration(h).blockCount; block++) await hydration(h).fill(bucket.run(block));
}

describe('restored volume while it is filled', () => {
  it('serves what the recovery point has, and fetches each block once', async () => {
    const { h, bucket } = await stage(1);
    assert.equal(h.volume.status().state, 'hydrating');
    assert.deepEqual(await h.read(0, MIB), bucket.content);
    assert.deepEqual(bucket.fetches, [{ first: 0, count: 256 }]);
    assert.deepEqual(await h.read(5000, 100_000), bucket.content.slice(5000, 105_000));
    assert.equal(bucket.fetches.length, 1);
    const known = await h.volume.blockStatus(3 * BLOCK, 2 * BLOCK, 100);
    assert.deepEqual(
      known.map(({ state }) => state),
      ['hole', 'data'],
    );
    await h.volume.close();
  });

  it('fetches for a part of a block, and nothing for whole blocks and trims', async () => {
    const { h, bucket } = await stage(2);
    await h.write(0, h.random.bytes(4 * BLOCK));
    await h.zero(8 * BLOCK, 4 * BLOCK, true);
    await h.read(0, 4 * BLOCK);
    assert.equal(plainChecksums.isZero(await h.read(8 * BLOCK, 4 * BLOCK), 0, 4 * BLOCK), true);
    await destaged(h);
    assert.equal(plainChecksums.isZero(await h.read(8 * BLOCK, 4 * BLOCK), 0, 4 * BLOCK), true);
    assert.deepEqual(bucket.fetches, []);
    await h.write(20 * BLOCK + 512, h.random.bytes(512));
    assert.deepEqual(bucket.fetches, [{ first: 20, count: 1 }]);
    assert.deepEqual(await h.read(0, MIB), h.expected(h.operations.length));
    await h.volume.close();
  });

  it('lets no late fill take the place of a newer write or trim, in the log or in the image', async () => {
    const { h, bucket } = await stage(3);
    const late = [0, 1, 2].map((block) => bucket.run(block));
    await h.write(0, h.random.bytes(BLOCK));
    await h.zero(BLOCK, BLOCK, true);
    for (const run of late.slice(0, 2)) await hydration(h).fill(run);
    assert.deepEqual(await h.read(0, 2 * BLOCK), h.expected(2).slice(0, 2 * BLOCK));
    await destaged(h);
    for (const run of late) await hydration(h).fill(run);
    assert.deepEqual(await h.read(0, MIB), h.expected(2));
    await h.volume.close();
    await h.open();
    assert.deepEqual(await h.read(0, 2 * BLOCK), h.expected(2).slice(0, 2 * BLOCK));
    await h.volume.close();
  });

  it('makes a whole range zero but for what was written since, wherever that is', async () => {
    for (const early of [false, true]) {
      const h = new VolumeHarness(31, MIB);
      await h.restored(new Uint8Array(MIB));
      const zeros = { firstBlock: 0, blockCount: 256, payload: undefined };
      if (early) await hydration(h).fill({ ...zeros, firstBlock: 200, blockCount: 56 });
      await h.write(9 * BLOCK, h.random.bytes(3 * BLOCK));
      await destaged(h);
      await h.write(5 * BLOCK, h.random.bytes(BLOCK));
      await h.zero(100 * BLOCK, 40 * BLOCK, true);
      await hydration(h).fill(zeros);
      assert.deepEqual(await h.read(0, MIB), h.expected(h.operations.length));
      assert.equal(await hydration(h).complete(), true);
      await h.volume.close();
      await h.open();
      assert.deepEqual(await h.read(0, MIB), h.expected(h.operations.length));
      await h.volume.close();
    }
  });

  it('gives back no old content where a checksum of a newer write has rotted', async () => {
    const { h, bucket } = await stage(4);
    await h.write(5 * BLOCK, h.random.bytes(BLOCK));
    await destaged(h);
    await h.volume.close();
    h.disk.bytesOf('sums')[40]! ^= 1; // all sums of the sector count as lost,
    h.disk.bytesOf('sums.redo')[0]! ^= 1; // there being no other copy of it
    await h.open();
    hydration(h).connect(bucket);
    await assert.rejects(h.read(5 * BLOCK, BLOCK), code('checksum-mismatch', /block 5 /));
    await hydration(h).fill(bucket.run(5));
    await assert.rejects(h.read(5 * BLOCK, BLOCK), code('checksum-mismatch', /block 5 /));
    // What was not written since the restore is as the bucket has it.
    assert.deepEqual(await h.read(6 * BLOCK, 4 * BLOCK), bucket.content.slice(6 * BLOCK, 10 * BLOCK));
    await h.volume.close();
  });

  it('makes nothing zero where a checksum of a newer write has rotted', async () => {
    const h = new VolumeHarness(32, MIB);
    await h.restored(new Uint8Array(MIB));
    await h.write(5 * BLOCK, h.random.bytes(BLOCK));
    await destaged(h);
    await h.volume.close();
    h.disk.bytesOf('sums')[40]! ^= 1;
    h.disk.bytesOf('sums.redo')[0]! ^= 1;
    await h.open();
    await hydration(h).fill({ firstBlock: 0, blockCount: 256, payload: undefined });
    await assert.rejects(h.read(5 * BLOCK, BLOCK), code('checksum-mismatch', /block 5 /));
    assert.deepEqual(await h.read(6 * BLOCK, 250 * BLOCK), new Uint8Array(250 * BLOCK));
    await h.volume.close();
  });

  it('gives back no old content where the record of a newer write has rotted', async () => {
    const { h, bucket } = await stage(5);
    await h.write(5 * BLOCK, new Uint8Array(BLOCK).fill(0x5a));
    await h.flush();
    const log = h.disk.bytesOf('log/00000001');
    const at = Buffer.from(log.buffer, log.byteOffset, log.length).indexOf(Buffer.alloc(BLOCK, 0x5a));
    assert.ok(at > 0);
    log[at + 9]! ^= 1;
    h.clock.advance(6000);
    await settle();
    await assert.rejects(h.read(5 * BLOCK, BLOCK), code('checksum-mismatch', /block 5 /));
    await h.volume.close();
    await h.open();
    hydration(h).connect(bucket);
    await assert.rejects(h.read(5 * BLOCK, BLOCK), code('checksum-mismatch', /block 5 /));
    await h.volume.close();
  });

  it('is an error, never zeros, where the bucket does not give a block, and no error once it does', async () => {
    const { h, bucket } = await stage(6);
    hydration(h).connect(new GatewayError('store-unreachable', 'no key for it'));
    await assert.rejects(h.read(0, BLOCK), code('store-unreachable', /no key/));
    hydration(h).connect(bucket);
    bucket.failure = new GatewayError('object-missing', 'segments/1-7 is not there');
    await assert.rejects(h.read(0, BLOCK), code('object-missing', /1-7/));
    await assert.rejects(h.write(512, new Uint8Array(512)), code('object-missing'));
    h.operations = [];
    bucket.failure = undefined;
    bucket.silent = true;
    const waiting = assert.rejects(h.read(0, BLOCK), code('store-unreachable', /block 0 is in the bucket only/));
    await settle();
    h.clock.advance(25_000);
    await waiting;
    bucket.silent = false;
    assert.deepEqual(await h.read(0, MIB), bucket.content);
    await h.volume.close();
  });

  it('makes what was filled durable before the checksum that vouches for it', async () => {
    const { h, bucket } = await stage(15);
    await hydration(h).fill(bucket.run(0));
    const order: string[] = [];
    h.disk.hook = (operation, path) => order.push(`${operation} ${path}`);
    await hydration(h).advance({ segmentsThrough: 1 });
    h.disk.hook = () => undefined;
    assert.ok(
      order.indexOf('sync image') >= 0 && order.indexOf('sync image') < order.indexOf('write sums'),
      String(order),
    );
    await h.volume.close();
  });

  it('makes a write durable that kept a fill from its block, before it says that the block is here', async () => {
    const { h, bucket } = await stage(16);
    await h.write(0, h.random.bytes(BLOCK));
    await hydration(h).fill(bucket.run(0));
    const order: string[] = [];
    h.disk.hook = (operation, path) => order.push(`${operation} ${path}`);
    await hydration(h).advance({ segmentsThrough: 1 });
    h.disk.hook = () => undefined;
    const flushed = order.indexOf('sync log/00000001');
    assert.ok(flushed >= 0 && flushed < order.indexOf('write restore'), String(order));
    await h.volume.close();
  });

  it('brings a block whose place on the disk cannot be read before it is written', async () => {
    const { h, bucket } = await stage(17);
    let readable = false;
    h.disk.hook = (operation, path) => {
      if (path !== 'image') return;
      if (operation === 'write') readable = true;
      if (operation === 'read' && !readable) throw new GatewayError('disk-failed', 'a sector cannot be read');
    };
    assert.deepEqual(await h.read(0, 8 * BLOCK), bucket.content.slice(0, 8 * BLOCK));
    h.disk.hook = () => undefined;
    await h.volume.close();
  });

  it('ends reads that wait for the bucket when it closes', async () => {
    const { h, bucket } = await stage(7);
    bucket.silent = true;
    const waiting = assert.rejects(h.read(0, BLOCK), code('volume-closed'));
    await settle();
    await h.volume.close();
    await waiting;
  });

  it('serves without space for what it fetches', async () => {
    const { h, bucket } = await stage(8);
    h.disk.hook = (operation, path) => {
      if (operation === 'allocate' && path === 'image') throw new GatewayError('disk-full', 'no space');
    };
    assert.deepEqual(await h.read(1000, 50_000), bucket.content.slice(1000, 51_000));
    h.disk.hook = () => undefined;
    assert.deepEqual(await h.read(0, MIB), bucket.content);
    await h.volume.close();
  });

  it('fetches ahead of a sequential reader', async () => {
    const { h, bucket } = await stage(9);
    for (let block = 0; block < 3; block++) await h.read(block * BLOCK, BLOCK);
    await settle();
    const before = bucket.fetches.length;
    assert.ok((bucket.fetches.at(-1)?.count ?? 0) >= 64);
    assert.deepEqual(await h.read(3 * BLOCK, 40 * BLOCK), bucket.content.slice(3 * BLOCK, 43 * BLOCK));
    assert.equal(bucket.fetches.length, before, 'it was there already');
    await h.volume.close();
  });

  it('reads as zero where it has grown, then and later', async () => {
    const { h, bucket } = await stage(10);
    await h.volume.growth.to(2 * MIB);
    assert.equal(plainChecksums.isZero(await h.read(MIB, MIB), 0, MIB), true);
    assert.deepEqual(bucket.fetches, []);
    await fillAll({ h, bucket });
    assert.equal(await hydration(h).complete(), true);
    await h.volume.growth.to(3 * MIB);
    await h.volume.close();
    await h.open();
    assert.equal(plainChecksums.isZero(await h.read(MIB, 2 * MIB), 0, 2 * MIB), true);
    await h.volume.close();
  });

  it('needs the bucket no more once it is complete, which it is when everything is durable', async () => {
    const { h, bucket } = await stage(11);
    bucket.lost.add(8);
    await fillAll({ h, bucket });
    assert.equal(await hydration(h).complete(), true);
    assert.equal(h.volume.status().state, 'online');
    h.disk.crash(h.random);
    h.bootId = h.random.uuid();
    await h.open();
    assert.equal(h.volume.hydration, undefined);
    const found = await h.read(9 * BLOCK, MIB - 9 * BLOCK);
    assert.deepEqual(found, bucket.content.slice(9 * BLOCK));
    await assert.rejects(h.read(8 * BLOCK, BLOCK), code('checksum-mismatch', /block 8 /));
    assert.deepEqual(
      (await h.disk.list('.')).filter((name) => name.startsWith('overwritten')),
      [],
    );
    await h.volume.close();
  });

  it('is not complete while a block is owed, nor by a write that is not in the image', async () => {
    const { h, bucket } = await stage(12);
    for (let block = 1; block < 256; block++) await hydration(h).fill(bucket.run(block));
    assert.equal(await hydration(h).complete(), false);
    await h.write(0, h.random.bytes(BLOCK));
    assert.equal(await hydration(h).complete(), true);
    h.disk.crash(h.random);
    h.bootId = h.random.uuid();
    await h.open();
    assert.deepEqual(await h.read(0, MIB), h.expected(1));
    await h.volume.close();
  });

  it('is refused without its record, and with a damaged one', async () => {
    const { h } = await stage(13);
    await h.volume.close();
    h.disk.bytesOf('restore')[100]! ^= 1;
    await assert.rejects(h.open(), code('format-unknown', /restore/));
    await h.disk.remove('restore');
    await assert.rejects(h.open(), code('volume-incomplete', /restore/));
  });

  it('equals the recovery point with a prefix of the writes after every crash', async () => {
    for (let seed = 100; seed < 110; seed++) await crashes(await stage(seed));
  });
});

/** The state of each block from the first on, as far as one answer goes. */
async function statesOf(h: VolumeHarness, first = 0, count = 256 - first, extentsMax = 1000): Promise<string[]> {
  const extents = await h.volume.blockStatus(first * BLOCK, count * BLOCK, extentsMax);
  return extents.flatMap(({ lengthBytes, state }) => new Array<string>(lengthBytes / BLOCK).fill(state));
}

const everyFourth = (count: number): string[] =>
  Array.from({ length: count }, (_, block) => (block % 4 === 3 ? 'hole' : 'data'));

describe('what is said of blocks that only the bucket has', () => {
  it('is what its map says: no content is fetched for it', async () => {
    const { h, bucket } = await stage(20);
    assert.deepEqual(await statesOf(h), everyFourth(256));
    assert.deepEqual(bucket.maps, [{ first: 0, count: 256 }]);
    assert.deepEqual(bucket.fetches, []);
    await h.volume.close();
  });

  it('counts for what is owed alone: not for what was written, trimmed or filled since, in the log or in the image', async () => {
    const { h, bucket } = await stage(21);
    const expected = everyFourth(256);
    await h.write(3 * BLOCK, h.random.bytes(BLOCK));
    await h.zero(8 * BLOCK, 2 * BLOCK, true);
    expected[3] = 'data';
    expected[8] = expected[9] = 'hole';
    assert.deepEqual(await statesOf(h), expected, 'in the log');
    await destaged(h);
    assert.deepEqual(await statesOf(h), expected, 'in the image');
    for (const block of [3, 4, 7, 8]) await hydration(h).fill(bucket.run(block));
    bucket.maps.length = 0;
    assert.deepEqual(await statesOf(h, 3, 7), expected.slice(3, 10));
    assert.deepEqual(bucket.maps, [{ first: 5, count: 2 }], 'what is known here is not asked about');
    await fillAll({ h, bucket });
    bucket.maps.length = 0;
    assert.deepEqual(await statesOf(h), expected);
    assert.deepEqual(bucket.maps, []);
    await h.volume.close();
  });

  it('is told as far as the map goes, and no further than an answer has room for', async () => {
    const { h, bucket } = await stage(22);
    bucket.mappedMax = 10;
    assert.deepEqual(await statesOf(h, 2), everyFourth(12).slice(2));
    assert.deepEqual(await statesOf(h, 12, 100, 1), ['data', 'data', 'data']);
    for (let block = 20; block < 256; block++) await hydration(h).fill(bucket.run(block));
    assert.deepEqual(await statesOf(h, 11), everyFourth(256).slice(11), 'behind it nothing is owed');
    await h.volume.close();
  });

  it('is data where the map does not come, which nobody waits for long, nor again and again', async () => {
    const { h, bucket } = await stage(23);
    const allData = new Array<string>(256).fill('data');
    bucket.silent = true;
    const late = statesOf(h);
    await settle();
    h.clock.advance(limits.statusMapMsMax);
    assert.deepEqual(await late, allData);
    assert.equal(bucket.maps.length, 1);
    assert.deepEqual(await statesOf(h), allData);
    assert.equal(bucket.maps.length, 1, 'not asked again at once');
    bucket.silent = false;
    h.clock.advance(10_000);
    assert.deepEqual(await statesOf(h), everyFourth(256));
    bucket.failure = new GatewayError('object-damaged', 'shards/1-7 was changed');
    assert.deepEqual(await statesOf(h), allData);
    bucket.failure = undefined;
    assert.deepEqual(await statesOf(h), everyFourth(256), 'one damaged object says nothing about the others');
    hydration(h).connect(new GatewayError('store-unreachable', 'no key for it'));
    assert.deepEqual(await statesOf(h), allData);
    hydration(h).connect(bucket);
    assert.deepEqual(await statesOf(h), everyFourth(256));
    await h.volume.close();
  });

  it('is data where a write or a checksum of a write has rotted, whatever the bucket has', async () => {
    const { h, bucket } = await stage(24);
    await h.write(3 * BLOCK, h.random.bytes(BLOCK));
    await destaged(h);
    await h.volume.close();
    h.disk.bytesOf('sums')[40]! ^= 1;
    h.disk.bytesOf('sums.redo')[0]! ^= 1;
    await h.open();
    hydration(h).connect(bucket);
    const expected = everyFourth(256);
    expected[3] = 'data';
    assert.deepEqual(await statesOf(h), expected);
    await h.volume.close();
  });

  it('is no older than the question, whatever happens while the map is looked at', async () => {
    const { h, bucket } = await stage(25);
    bucket.meanwhile = async () => {
      await h.write(7 * BLOCK, h.random.bytes(BLOCK));
      await h.zero(BLOCK, BLOCK, true);
      await hydration(h).fill(bucket.run(3));
      await hydration(h).fill(bucket.run(4));
    };
    const expected = everyFourth(256);
    expected[7] = 'data';
    expected[1] = 'hole';
    assert.deepEqual(await statesOf(h), expected);
    await h.volume.close();
  });

  it('is not asked for by those who want to know what is here', async () => {
    const { h, bucket } = await stage(26);
    assert.deepEqual(await h.volume.localStatus(0, MIB, 9), [{ lengthBytes: MIB, state: 'data' }]);
    assert.deepEqual(bucket.maps, []);
    await h.volume.close();
  });

  it('ends with the volume', async () => {
    const { h, bucket } = await stage(27);
    bucket.silent = true;
    const waiting = assert.rejects(statesOf(h), code('volume-closed'));
    await settle();
    await h.volume.close();
    await waiting;
  });
});

async function crashes({ h, bucket }: Stage): Promise<void> {
  const { random } = h;
  for (let life = 0; life < 6; life++) {
    for (let step = 0; step < 25; step++) {
      const block = random.below(250);
      const choice = random.below(8);
      if (choice < 2) await h.write(block * BLOCK, random.bytes((1 + random.below(4)) * BLOCK));
      else if (choice === 2) await h.write(block * BLOCK + 512 * random.below(8), random.bytes(512));
      else if (choice === 3) await h.zero(block * BLOCK, (1 + random.below(4)) * BLOCK, true);
      else if (choice === 4) await h.flush();
      else if (choice === 5) await hydration(h).fill(bucket.run(block));
      else if (choice === 6) await hydration(h).advance({ segmentsThrough: step });
      else {
        h.clock.advance(3000);
        await settle();
      }
    }
    const power = random.fraction() < 0.6;
    if (power) {
      h.disk.crash(random);
      h.bootId = random.uuid();
    } else h.disk.kill();
    const files = h.disk.snapshot();
    await h.open();
    hydration(h).connect(bucket);
    await h.expectPrefix(power ? h.flushed : h.acknowledged);
    if (random.fraction() < 0.3) continue;
    // Reading has brought everything here: go on as empty as it was.
    await h.volume.close();
    h.disk.restore(files);
    await h.open();
    hydration(h).connect(bucket);
  }
  await fillAll({ h, bucket });
  assert.equal(await hydration(h).complete(), true);
  await h.volume.close();
  h.disk.crash(random);
  await h.open();
  await h.expectPrefix(h.acknowledged);
  await h.volume.close();
}
