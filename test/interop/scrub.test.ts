/** `keepgate scrub` on a real gateway: what rots in the image or in the bucket is found, named, and healed from the other. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { NbdClient } from '../crash/nbd-client.js';
import { eventually } from '../tool/process.js';
import { TestGateway } from '../tool/gateway.js';

const MIB = 1024 * 1024;
const volumes = [
  { name: 'disk0', size: '32MiB', buffer: { size: '64MiB' }, replicate: { segmentSize: '1MiB', interval: '100ms' } },
];

describe('scrub', () => {
  let gateway: TestGateway;
  const contents = randomBytes(6 * MIB);

  before(async () => {
    gateway = await TestGateway.start({ volumes });
    const nbd = await NbdClient.connect(gateway.nbdPort, 'disk0');
    for (let at = 0; at < 6; at++) await nbd.write(at * MIB, contents.subarray(at * MIB, (at + 1) * MIB));
    await nbd.close();
    await gateway.drain('disk0');
  });

  after(() => gateway.dispose());

  async function segments(): Promise<string[]> {
    const files = await readdir(gateway.storeDirectory, { recursive: true });
    const paths = files.filter((path) => path.includes('/segments/')).map((path) => join(gateway.storeDirectory, path));
    const large = await Promise.all(paths.map(async (path) => ((await stat(path)).size > 100_000 ? [path] : [])));
    return large.flat().sort();
  }

  const scrub = (...flags: string[]) => gateway.command(['scrub', 'disk0', ...flags]);

  async function isWhole(): Promise<void> {
    const clean = await scrub();
    assert.equal(clean.status, 0, clean.stderr);
    const name = `copy-${randomBytes(4).toString('hex')}`;
    const elsewhere = join(gateway.folder, name);
    const from = ['--from', `file://${gateway.storeDirectory}`, '--full', '--as', name, '--data-dir', elsewhere];
    const restored = await gateway.command(['restore', 'disk0', ...from]);
    assert.equal(restored.status, 0, restored.stderr);
    const image = await readFile(join(elsewhere, 'volumes', name, 'image'));
    assert.ok(image.subarray(0, contents.length).equals(contents), 'the bucket gives back what was written');
  }

  it('finds nothing where nothing is wrong', async () => {
    await isWhole();
    assert.ok((await gateway.metric('keepgate_scrub_blocks_total')) >= 2 * 6 * 256);
    assert.equal(await gateway.metric('keepgate_scrub_errors_total'), 0);
  });

  for (const [what, damage] of [
    ['a flipped bit in its payload', (bytes: Buffer) => flip(bytes, bytes.length - 100)],
    ['a flipped bit in its index', (bytes: Buffer) => flip(bytes, 150)],
    ['a flipped bit in its format version', (bytes: Buffer) => flip(bytes, 9)],
    ['a cut', (bytes: Buffer) => bytes.subarray(0, bytes.length - 5000)],
    ['its loss', () => undefined],
  ] as const) {
    it(`replaces a segment in the bucket after ${what}`, async () => {
      const [path] = await segments();
      assert.ok(path !== undefined);
      const damaged = damage(await readFile(path));
      if (damaged === undefined) await rm(path);
      else await writeFile(path, damaged);
      const name = path.slice(path.indexOf('segments/'));
      const found = await scrub();
      assert.equal(found.status, 1);
      assert.ok(found.stderr.includes(name), found.stderr);
      const healed = await scrub('--heal');
      assert.equal(healed.status, 1, 'something was found');
      assert.match(healed.stderr, /256 blocks were sent again from the local copy/);
      await eventually('a scrub finds nothing any more', async () => (await scrub()).status === 0);
      await isWhole();
      assert.ok((await gateway.metric('keepgate_healed_blocks_total')) >= 256);
      assert.ok((await gateway.metric('keepgate_scrub_errors_total', 'place="remote"')) >= 256);
      // The dead object is in nobody's way.
      await rm(path, { force: true });
    });
  }

  it('heals the image from the bucket', async () => {
    await eventually('all is in the image', async () => (await gateway.metric('keepgate_overlay_blocks')) === 0);
    const file = await open(join(gateway.dataDir, 'volumes/disk0/image'), 'r+');
    await file.write(Buffer.alloc(5000, 1), 0, 5000, 3 * MIB + 77);
    await file.close();
    const found = await scrub();
    assert.equal(found.status, 1);
    assert.match(found.stderr, /2 blocks of the image had rotted, and were healed from the bucket/);
    await isWhole();
  });

  it('finds a write of checksums that the disk lost, by the bucket’s copy, and heals the image', async () => {
    await eventually('all is in the image', async () => (await gateway.metric('keepgate_overlay_blocks')) === 0);
    await gateway.stop();
    // Blocks 381 to 507: as if never written, which nothing here contradicts.
    const file = await open(join(gateway.dataDir, 'volumes/disk0/sums'), 'r+');
    await file.write(Buffer.alloc(512), 0, 512, 3 * 512);
    await file.close();
    await gateway.startAgain();
    const found = await scrub();
    assert.equal(found.status, 1);
    assert.match(found.stderr, /127 blocks, the first is 381: the image is older than the bucket’s copy/);
    const healed = await scrub('--heal');
    assert.match(healed.stderr, /127 blocks.*; healed/);
    await isWhole();
    const nbd = await gateway.command(['drain', 'disk0']);
    assert.equal(nbd.status, 0);
    await gateway.stop();
    const image = await readFile(join(gateway.dataDir, 'volumes/disk0/image'));
    assert.ok(image.subarray(0, contents.length).equals(contents), 'the image holds what was written');
    await gateway.startAgain();
  });
});

describe('scrub of what leads to the blocks', () => {
  let gateway: TestGateway;
  /** Written once: the first segments stay, and with them a table. */
  const still = randomBytes(18 * MIB);
  const busyBytes = 14 * MIB;
  let busy = Buffer.alloc(0);

  before(async () => {
    gateway = await TestGateway.start({
      volumes: [
        {
          name: 'disk0',
          size: '32MiB',
          buffer: { size: '64MiB' },
          compaction: 'off',
          replicate: { segmentSize: '256KiB', interval: '100ms' },
        },
      ],
    });
    const nbd = await NbdClient.connect(gateway.nbdPort, 'disk0');
    const write = async (from: number, bytes: Buffer): Promise<void> => {
      for (let at = 0; at < bytes.length; at += MIB) await nbd.write(from + at, bytes.subarray(at, at + MIB));
      await gateway.drain('disk0');
    };
    await write(0, still);
    // 1024 segments make a table.
    for (let segments = 72; segments < 1100; segments += 56) {
      busy = randomBytes(busyBytes);
      await write(still.length, busy);
    }
    await nbd.close();
  });

  after(() => gateway.dispose());

  const scrub = (...flags: string[]) => gateway.command(['scrub', 'disk0', ...flags]);

  /** Of the newest number. */
  async function newest(kind: 'map shard' | 'table shard' | 'checkpoint'): Promise<string> {
    const files = await readdir(gateway.storeDirectory, { recursive: true });
    const folder = kind === 'checkpoint' ? '/checkpoints/' : '/shards/';
    const found: { readonly path: string; readonly number: number }[] = [];
    for (const file of files.filter((name) => name.includes(folder))) {
      const path = join(gateway.storeDirectory, file);
      const isMap = (await stat(path)).size > 200_000;
      if (kind !== 'checkpoint' && isMap !== (kind === 'map shard')) continue;
      found.push({ path, number: Number(file.split('/').at(-1)?.split('-')[1]) });
    }
    const [first] = found.sort((left, right) => right.number - left.number);
    assert.ok(first !== undefined, `there is a ${kind}`);
    return first.path;
  }

  for (const kind of ['map shard', 'table shard', 'checkpoint'] as const)
    for (const how of ['a flipped bit', 'its loss'] as const)
      it(`replaces what leads to the blocks, and a restore is equal at once: a ${kind}, ${how}`, async () => {
        const path = await newest(kind);
        const name = path.slice(path.indexOf(kind === 'checkpoint' ? 'checkpoints/' : 'shards/'));
        const bytes = await readFile(path);
        if (how === 'its loss') await rm(path);
        else await writeFile(path, flip(bytes, bytes.length - 100));
        const found = await scrub();
        assert.equal(found.status, 1);
        assert.ok(found.stderr.includes(name), found.stderr);
        const healed = await scrub('--heal');
        assert.match(healed.stderr, /objects? (was|were) replaced by a new checkpoint/);
        const copy = `copy-${randomBytes(4).toString('hex')}`;
        const elsewhere = join(gateway.folder, copy);
        const from = ['--from', `file://${gateway.storeDirectory}`, '--full', '--as', copy, '--data-dir', elsewhere];
        const restored = await gateway.command(['restore', 'disk0', ...from]);
        assert.equal(restored.status, 0, restored.stderr);
        const image = await readFile(join(elsewhere, 'volumes', copy, 'image'));
        assert.ok(image.subarray(0, still.length).equals(still), 'what was written first is there');
        assert.ok(image.subarray(still.length, still.length + busyBytes).equals(busy), 'and what was written last');
        const clean = await scrub();
        assert.equal(clean.status, 0, clean.stderr);
        // The dead object is in nobody's way.
        await rm(path, { force: true });
        await rm(elsewhere, { recursive: true });
      });
});

function flip(bytes: Buffer, at: number): Buffer {
  const changed = Buffer.from(bytes);
  changed[at] = (changed[at] ?? 0) ^ 1;
  return changed;
}
