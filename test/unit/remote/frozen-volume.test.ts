/** A volume at a recovery point, read from the bucket. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import type { FrozenRun } from '../../../src/ports/hydration.js';
import { openNewest, openRecorded } from '../../../src/remote/frozen-open.js';
import type { OpenNewestOptions } from '../../../src/remote/frozen-open.js';
import { BucketVolume } from '../../../src/remote/frozen-volume.js';
import { findRemoteVolume } from '../../../src/remote/remote-list.js';
import { RetryingStore } from '../../../src/remote/store-retry.js';
import { ShardCache } from '../../../src/remote/shard-cache.js';
import { plainChecksums } from '../../fake/checksums.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { SeededRandom } from '../../fake/random.js';
import { BLOCK, Rig, testMaster, writtenRig } from '../../fake/replication-rig.js';
import { begin, checkpointWithShards } from './hydration-rig.js';

async function open(
  rig: Rig,
  options: Partial<OpenNewestOptions> = {},
  disk = new MemoryDisk(),
): Promise<{ readonly bucket: BucketVolume; readonly sources: OpenNewestOptions }> {
  const random = new SeededRandom(31);
  const found = await findRemoteVolume(rig.store, { volume: 'disk0', masters: [testMaster()], random, request: {} });
  const sources = {
    store: rig.store,
    found,
    request: {},
    cache: await ShardCache.open(disk, plainChecksums),
    checksums: plainChecksums,
    random,
    log: new RecordedLog(),
    receipt: undefined,
    acceptLoss: false,
    snapshot: undefined,
    ...options,
  };
  const { book } = await openNewest(sources);
  return { bucket: bucketOf(rig, sources, book), sources };
}

function bucketOf(rig: Rig, sources: OpenNewestOptions, book: BucketVolume['book']): BucketVolume {
  return new BucketVolume({ book, sealer: sources.found.sealer, checksums: plainChecksums, store: rig.store });
}

/** Checks every block that came, and that all that were asked for did. */
function check(runs: readonly FrozenRun[], expected: Uint8Array, first: number, count: number): void {
  const seen = new Set<number>();
  for (const { firstBlock, blockCount, payload } of runs) {
    for (let at = 0; at < blockCount; at++) {
      const block = firstBlock + at;
      const wanted = expected.subarray(block * BLOCK, (block + 1) * BLOCK);
      const start = (payload?.start ?? 0) + at * BLOCK;
      const got = payload === undefined ? new Uint8Array(BLOCK) : payload.bytes.subarray(start, start + BLOCK);
      assert.equal(Buffer.compare(got, wanted), 0, `block ${block}`);
      if (payload !== undefined) {
        const sums = payload.sums.slice(payload.sumsStart + at, payload.sumsStart + at + 1);
        assert.equal(plainChecksums.verifyBlocks(new Uint8Array(got), 0, 1, block, sums, 0), -1);
      }
      seen.add(block);
    }
  }
  for (let block = first; block < first + count; block++) assert.ok(seen.has(block), `block ${block} came`);
}

async function readsAs(bucket: BucketVolume, expected: Uint8Array, random: SeededRandom): Promise<void> {
  const blocks = expected.length / BLOCK;
  for (let round = 0; round < 40; round++) {
    const first = random.below(blocks);
    const count = 1 + random.below(Math.min(64, blocks - first));
    check(await bucket.fetch(first, count, {}), expected, first, count);
  }
  check(await bucket.fetch(0, blocks, {}), expected, 0, blocks);
}

const gets = (rig: Rig, part: string): number =>
  rig.store.calls.filter(({ operation, key }) => operation === 'get' && key.includes(part)).length;

describe('frozen volume', () => {
  it('reads as the newest recovery point, with checkpoints and without', async () => {
    for (const seed of [1, 2, 3]) {
      const rig = await writtenRig(seed);
      rig.write([{ kind: 'resize', sizeBytes: rig.log.createdSizeBytes + 128 * BLOCK }]);
      rig.write([{ kind: 'write', firstBlock: 300, data: new Uint8Array(2 * BLOCK).fill(3) }]);
      await rig.drain();
      await rig.kill();
      const expected = rig.log.imageAt(rig.log.lastLsn);
      const { bucket } = await open(rig);
      assert.ok(bucket.book.floor > 0);
      assert.equal(bucket.book.sizeBytes, expected.length);
      await readsAs(bucket, expected, new SeededRandom(seed));
      for (const key of rig.store.keys(`${rig.config.uuid}/checkpoints/`)) rig.store.poke(key, undefined);
      const { bucket: slow } = await open(rig);
      assert.equal(slow.book.floor, 0);
      await readsAs(slow, expected, new SeededRandom(seed));
    }
  });

  it('knows from its map alone which blocks read as zero', async () => {
    for (const seed of [1, 2, 3]) {
      const rig = await writtenRig(seed);
      await rig.kill();
      const expected = rig.log.imageAt(rig.log.lastLsn);
      const blocks = expected.length / BLOCK;
      const { map } = await checkpointWithShards(rig);
      const { bucket } = await open(rig);
      const before = gets(rig, '/segments/');
      const mapped = await bucket.mapped(0, blocks, {});
      assert.equal(mapped.length, blocks);
      for (let block = 0; block < blocks; block++) {
        const isZero = plainChecksums.isZero(expected, block * BLOCK, (block + 1) * BLOCK);
        // A block of zeros may have a copy; none has all else.
        if (mapped[block] === 0) assert.ok(isZero, `block ${block}`);
      }
      assert.ok(mapped.includes(0) && mapped.includes(1));
      const part = await bucket.mapped(5, 20, {});
      assert.deepEqual(part, mapped.slice(5, 25));
      assert.equal(gets(rig, map), 1, 'the shard came once');
      assert.equal(gets(rig, '/segments/'), before);
    }
  });

  it('says no more of its map at a time than one shard of it tells', async () => {
    const rig = new Rig({ seed: 8 });
    rig.start();
    rig.write([{ kind: 'resize', sizeBytes: 80_000 * BLOCK }]);
    rig.write([{ kind: 'write', firstBlock: 32_767, data: new Uint8Array(2 * BLOCK).fill(3) }]);
    await rig.drain();
    await rig.kill();
    const { bucket } = await open(rig);
    const first = await bucket.mapped(32_760, 50_000, {});
    assert.deepEqual([...first], [0, 0, 0, 0, 0, 0, 0, 1]);
    const second = await bucket.mapped(32_768, 50_000, {});
    assert.equal(second.length, 32_768);
    assert.deepEqual([second[0], second.indexOf(1, 1)], [1, -1]);
  });

  it('reads as a snapshot, with its root and without', async () => {
    const rig = new Rig({ seed: 6 });
    const random = new SeededRandom(6);
    rig.start();
    const taken: [string, number][] = [];
    for (let batch = 0; batch < 40; batch++) {
      rig.writeRandom(random);
      if (batch % 7 === 3)
        taken.push([`s${batch}`, rig.write([{ kind: 'snapshot', name: `s${batch}`, snapshotLsn: 0 }])]);
      if (batch % 11 === 5) await rig.drain();
    }
    await rig.drain();
    await rig.kill();
    for (const [snapshot, lsn] of taken) {
      const { bucket } = await open(rig, { snapshot });
      assert.equal(bucket.book.floor, bucket.book.position.number);
      await readsAs(bucket, rig.log.imageAt(lsn), random);
    }
    for (const key of rig.store.keys(`${rig.config.uuid}/checkpoints/`)) rig.store.poke(key, undefined);
    for (const [snapshot, lsn] of taken) {
      const { bucket } = await open(rig, { snapshot });
      await readsAs(bucket, rig.log.imageAt(lsn), random);
    }
    await assert.rejects(open(rig, { snapshot: 'never' }), { code: 'not-found' });
  });

  it('is found again at exactly its recovery point, whatever was written since', async () => {
    const rig = await writtenRig(7);
    const expected = rig.log.imageAt(rig.log.lastLsn);
    const { made } = await begin(rig);
    const random = new SeededRandom(70);
    for (let round = 0; round < 4; round++) {
      for (let batch = 0; batch < 8; batch++) rig.writeRandom(random);
      await rig.drain();
      const { sources } = await open(rig);
      const book = await openRecorded(made.source, sources);
      assert.equal(book.position.lsn, made.source.recoveryPoint.lsn);
      await readsAs(bucketOf(rig, sources, book), expected, random);
    }
    const link = '11'.repeat(32);
    const other = { ...made.source, recoveryPoint: { ...made.source.recoveryPoint, link } };
    const { sources } = await open(rig);
    await assert.rejects(openRecorded(other, sources), { code: 'remote-gap' });
    await rig.kill();
  });

  it('fetches no shard and no segment before something of it is read, and each shard once, over restarts', async () => {
    const rig = await writtenRig(8, 60);
    await rig.kill();
    await checkpointWithShards(rig);
    const disk = new MemoryDisk();
    rig.store.calls.length = 0;
    const { bucket } = await open(rig, {}, disk);
    assert.equal(gets(rig, '/shards/'), 0);
    assert.ok(gets(rig, '/segments/') <= 1, 'only the end of the chain is looked at');
    const expected = rig.log.imageAt(rig.log.lastLsn);
    await readsAs(bucket, expected, new SeededRandom(1));
    assert.equal(gets(rig, '/shards/'), 2);
    const { bucket: again } = await open(rig, {}, disk);
    await readsAs(again, expected, new SeededRandom(2));
    assert.equal(gets(rig, '/shards/'), 3, 'the table alone comes again');
  });

  it('fetches a frame once for all who want it at the same time, neighbours by one request', async () => {
    const rig = new Rig({ seed: 9, blocks: 1024, config: { segmentBytes: 256 * BLOCK } });
    rig.start();
    const content = new SeededRandom(9).bytes(256 * BLOCK);
    rig.write([{ kind: 'write', firstBlock: 100, data: content }]);
    await rig.drain();
    await rig.kill();
    const expected = rig.log.imageAt(rig.log.lastLsn);
    const { bucket } = await open(rig);
    rig.store.calls.length = 0;
    const reads = Array.from({ length: 8 }, (_, at) => bucket.fetch(100 + 8 * at, 8, {}));
    for (const [at, runs] of (await Promise.all(reads)).entries()) check(runs, expected, 100 + 8 * at, 8);
    assert.equal(gets(rig, '/segments/'), 2, 'the index, and the frame');
    check(await bucket.fetch(100, 64, {}), expected, 100, 64);
    assert.equal(gets(rig, '/segments/'), 2, 'it is kept for whoever comes right after');
    check(await bucket.fetch(164, 192, {}), expected, 164, 192);
    assert.equal(gets(rig, '/segments/'), 3);
  });

  it('takes nothing from others when one reader gives up', async () => {
    const rig = await writtenRig(10);
    await rig.kill();
    const expected = rig.log.imageAt(rig.log.lastLsn);
    const { bucket } = await open(rig);
    let release = (): void => undefined;
    const delay = new Promise<void>((resolve) => (release = resolve));
    rig.store.fault = ({ key }) => (key.includes('/segments/') ? { delay } : undefined);
    const impatient = new AbortController();
    const given = bucket.fetch(0, 64, { signal: impatient.signal });
    const kept = bucket.fetch(0, 64, {});
    await new Promise((resolve) => setImmediate(resolve));
    impatient.abort();
    await assert.rejects(given, GatewayError);
    release();
    check(await kept, expected, 0, 64);
  });

  it('folds what it cannot hold in memory into the shards, and reads the same', async () => {
    const rig = await writtenRig(11, 30);
    await checkpointWithShards(rig);
    const random = new SeededRandom(111);
    for (let batch = 0; batch < 8; batch++) rig.writeRandom(random);
    await rig.drain();
    await rig.kill();
    const expected = rig.log.imageAt(rig.log.lastLsn);
    const { bucket, sources } = await open(rig);
    await bucket.book.map.fold();
    await readsAs(bucket, expected, new SeededRandom(11));
    const { bucket: rotten, sources: other } = await open(rig);
    await rotten.book.map.fold();
    await other.cache.close();
    await assert.rejects(rotten.fetch(0, 256, {}), { code: 'checksum-mismatch' });
    await sources.cache.close();
  });
});

describe('a way that memory does not hold', () => {
  it('reads the same at every recovery point, whatever was folded on the way, in a next life too', async () => {
    for (const seed of [13, 14]) {
      const rig = new Rig({ seed });
      const random = new SeededRandom(seed);
      rig.start();
      for (let batch = 0; batch < 10; batch++) rig.writeRandom(random);
      await rig.drain();
      const base = seed === 13 ? await onlyWithShards(rig) : undefined;
      const taken: [string, number][] = [];
      for (let batch = 0; batch < 25; batch++) {
        rig.writeRandom(random);
        if (batch % 8 === 3)
          taken.push([`s${batch}`, rig.write([{ kind: 'snapshot', name: `s${batch}`, snapshotLsn: 0 }])]);
        if (batch % 5 === 4) await rig.drain();
      }
      await rig.drain();
      await rig.kill();
      dropCheckpoints(rig, base);
      const disk = new MemoryDisk();
      for (const foldEntries of [1, 20, 100, 1]) {
        const { bucket, sources } = await open(rig, { foldEntries }, disk);
        await readsAs(bucket, rig.log.imageAt(rig.log.lastLsn), random);
        await sources.cache.close();
        for (const [snapshot, lsn] of taken) {
          const { bucket: past, sources: others } = await open(rig, { foldEntries, snapshot }, disk);
          await readsAs(past, rig.log.imageAt(lsn), random);
          await others.cache.close();
        }
      }
    }
  });

  it('is given up with the request, though the store is away', async () => {
    const rig = await writtenRig(15);
    const base = await onlyWithShards(rig);
    const random = new SeededRandom(15);
    for (let batch = 0; batch < 4; batch++) rig.writeRandom(random);
    await rig.drain();
    await rig.kill();
    dropCheckpoints(rig, base);
    const ended = new AbortController();
    rig.store.fault = ({ key }) => (key.includes('/shards/') ? { failBefore: 'store-unreachable' } : undefined);
    const store = new RetryingStore(rig.store, { clock: rig.clock, random });
    const opening = open(rig, { foldEntries: 1, store, request: { signal: ended.signal } });
    await rig.until(() => rig.store.calls.some(({ key }) => key.includes('/shards/')));
    ended.abort();
    await assert.rejects(opening);
  });
});

describe('tampering with what a frozen volume reads', () => {
  it('names what the bucket lacks when it was rolled back behind the recovery point', async () => {
    const rig = await writtenRig(16, 20);
    const older = rig.store.snapshot();
    const random = new SeededRandom(16);
    for (let batch = 0; batch < 10; batch++) rig.writeRandom(random);
    await rig.drain();
    await rig.kill();
    const { made } = await begin(rig);
    rig.store.restore(older);
    const { sources } = await open(rig);
    await assert.rejects(openRecorded(made.source, sources), {
      code: 'remote-gap',
      message: /the recovery point lies at segment .*; the bucket can be read up to/,
    });
  });

  it('is an error that names the object, and never a wrong block: flipped, truncated, removed, swapped, older', async () => {
    const rig = new Rig({ seed: 12 });
    const random = new SeededRandom(12);
    rig.start();
    for (let batch = 0; batch < 30; batch++) rig.writeRandom(random);
    await rig.drain();
    await checkpointWithShards(rig);
    const older = rig.store.snapshot();
    for (let batch = 0; batch < 50; batch++) {
      rig.writeRandom(random);
      if (batch % 6 === 5) await rig.drain();
    }
    await rig.drain();
    await rig.kill();
    await checkpointWithShards(rig);
    const expected = rig.log.imageAt(rig.log.lastLsn);
    const blocks = expected.length / BLOCK;
    const bucketNow = rig.store.snapshot();
    const { made } = await begin(rig);
    const read = [...new Set(await keysRead(rig, blocks))];
    const shards = read.filter((key) => key.includes('/shards/'));
    assert.ok(shards.length > 0 && read.some((key) => key.includes('/segments/')));
    let found = 0;
    for (const key of read) {
      const body = bucketNow.get(key)!;
      const other = read.find((candidate) => candidate !== key && candidate.split('/')[1] === key.split('/')[1]);
      const damages: (Uint8Array | undefined)[] = [
        ...Array.from({ length: 4 }, () => flipped(body, random.below(body.length))),
        flipped(body, body.length - 1),
        body.slice(0, body.length - 1),
        body.slice(0, 200),
        undefined,
        ...(other === undefined ? [] : [bucketNow.get(other)]),
        ...[...older]
          .filter(([name]) => name !== key && name.split('/')[1] === key.split('/')[1])
          .slice(-1)
          .map(([, old]) => old),
      ];
      for (const damage of damages) {
        rig.store.restore(bucketNow);
        const { sources } = await open(rig);
        const book = await openRecorded(made.source, sources);
        rig.store.poke(key, damage);
        const bucket = bucketOf(rig, sources, book);
        for (let first = 0; first < blocks; first += 16) {
          const outcome = await bucket.fetch(first, 16, {}).catch((error: unknown) => error);
          if (Array.isArray(outcome)) {
            check(outcome as FrozenRun[], expected, first, 16);
            continue;
          }
          assert.ok(outcome instanceof GatewayError, String(outcome));
          assert.ok(['object-damaged', 'object-missing', 'remote-gap', 'format-newer'].includes(outcome.code));
          const names = [key, key.split('/')[2]!.replace(/^0*(\d+)-0*(\d+).*$/, '$1-$2')];
          assert.ok(
            names.some((name) => outcome.message.includes(name)),
            `${outcome.message} names ${key}`,
          );
          found++;
        }
      }
    }
    assert.ok(found > (20 * read.length) / 10, `${found} reads found damage`);
  });
});

/** The key of a checkpoint with shards, which is the newest. */
async function onlyWithShards(rig: Rig): Promise<string> {
  await checkpointWithShards(rig);
  return rig.store.keys(`${rig.config.uuid}/checkpoints/`).at(-1)!;
}

/** All but one. */
function dropCheckpoints(rig: Rig, kept: string | undefined): void {
  for (const key of rig.store.keys(`${rig.config.uuid}/checkpoints/`)) if (key !== kept) rig.store.poke(key, undefined);
}

async function keysRead(rig: Rig, blocks: number): Promise<string[]> {
  const { bucket } = await open(rig);
  rig.store.calls.length = 0;
  await bucket.fetch(0, blocks, {});
  return rig.store.calls.filter(({ operation }) => operation === 'get').map(({ key }) => key);
}

function flipped(body: Uint8Array, at: number): Uint8Array {
  const changed = body.slice();
  changed[at]! ^= 1;
  return changed;
}
