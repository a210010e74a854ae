import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { GatewayError } from '../../../src/base/errors.js';
import { EngineRig } from '../../fake/engine-rig.js';
import { SeededRandom } from '../../fake/random.js';
import { settle } from '../engine/volume-harness.js';

const BLOCK = 4096;

function filled(value: number, blocks = 1): Uint8Array {
  return new Uint8Array(blocks * BLOCK).fill(value);
}

/** A volume whose first 300 blocks are written (value: block + 1), in the image, and in the bucket. */
async function settledRig(seed: number): Promise<EngineRig> {
  const rig = new EngineRig(seed);
  await rig.harness.create();
  await rig.replicate();
  const content = new Uint8Array(300 * BLOCK);
  for (let block = 0; block < 300; block++) content.fill((block % 255) + 1, block * BLOCK, (block + 1) * BLOCK);
  await rig.harness.write(0, content);
  await rig.drain();
  await destage(rig);
  return rig;
}

/** A restart with something done to the directory in between. */
async function restart(rig: EngineRig, meanwhile: () => void): Promise<void> {
  rig.core?.receive({ type: 'stop' });
  rig.harness.disk.kill();
  meanwhile();
  await rig.harness.open();
  await rig.replicate();
}

async function destage(rig: EngineRig): Promise<void> {
  const { volume, clock } = rig.harness;
  const lsn = await volume.forceFlush();
  clock.advance(6000);
  await rig.until(() => volume.status().lsn.destaged >= lsn);
}

/** The read's result, or its error; time moves on while it waits. */
async function read(rig: EngineRig, block: number, blocks = 1): Promise<Uint8Array | GatewayError> {
  let outcome: Uint8Array | GatewayError | undefined;
  rig.harness.read(block * BLOCK, blocks * BLOCK).then(
    (bytes) => (outcome = bytes),
    (error: unknown) => (outcome = error as GatewayError),
  );
  await rig.until(() => outcome !== undefined);
  return outcome!;
}

async function assertReads(rig: EngineRig, block: number, value: number): Promise<void> {
  const found = await read(rig, block);
  assert.ok(found instanceof Uint8Array, `block ${block}: ${String(found)}`);
  assert.deepEqual(found, filled(value));
}

async function assertLost(rig: EngineRig, block: number, why: RegExp): Promise<void> {
  const found = await read(rig, block);
  assert.ok(found instanceof Error, `block ${block} was read`);
  assert.equal(found.code, 'checksum-mismatch');
  assert.match(found.message, why);
}

/** In the file of checksums, whose copies of the last flush are gone. */
function flipSums(rig: EngineRig, at: number): void {
  flip(rig, 'sums', at);
  rig.harness.disk.bytesOf('sums.redo').fill(0);
}

function flip(rig: EngineRig, path: string, at: number): void {
  rig.harness.disk.bytesOf(path)[at]! ^= 0x10;
}

/** Where in which log file a block of this content stands; the newest one. */
function inLog(rig: EngineRig, content: Uint8Array): { path: string; at: number } {
  for (const name of ['log/00000002', 'log/00000001']) {
    const at = Buffer.from(rig.harness.disk.bytesOf(name)).lastIndexOf(content);
    if (at >= 0) return { path: name, at };
  }
  return assert.fail('the log does not hold it');
}

describe('healing the image from the bucket', () => {
  it('gives a rotten block back to all who wait for it by one fetch, and makes it durable', async () => {
    const rig = await settledRig(1);
    const { harness, store } = rig;
    flip(rig, 'image', 70 * BLOCK + 9);
    const gets = store.calls.filter(({ operation }) => operation === 'get').length;
    const found = await Promise.all([read(rig, 70), read(rig, 70), read(rig, 60, 20)]);
    assert.deepEqual(found.slice(0, 2), [filled(71), filled(71)]);
    assert.deepEqual(
      found[2],
      Uint8Array.from({ length: 20 * BLOCK }, (_, at) => 61 + Math.floor(at / BLOCK)),
    );
    const segment = store.calls
      .slice(gets)
      .filter(({ key, operation }) => operation === 'get' && key.includes('/segments/'));
    assert.ok(segment.filter(({ key }) => key === segment.at(-1)!.key).length <= 3, 'one index, one frame');
    assert.equal(harness.volume.status().healedBlocks, 1);
    assert.ok(harness.log.lines.some((line) => line.includes('block 70 of volume disk0 was healed')));
    harness.clock.advance(6000);
    await settle();
    await rig.die('power loss', new SeededRandom(1));
    await assertReads(rig, 70, 71);
    assert.equal(harness.volume.status().checksumErrors, 0);
  });

  it('fetches a frame once for several rotten blocks of it that are read at the same time', async () => {
    const rig = await settledRig(1);
    const { harness, store } = rig;
    for (const block of [66, 70, 75]) flip(rig, 'image', block * BLOCK + 9);
    const before = store.calls.length;
    const found = await Promise.all([read(rig, 66), read(rig, 70), read(rig, 75)]);
    assert.deepEqual(found, [filled(67), filled(71), filled(76)]);
    const gets = store.calls
      .slice(before)
      .filter(({ key, operation }) => operation === 'get' && key.includes('/segments/'));
    assert.equal(gets.length, 2, 'one index, one frame');
    assert.equal(harness.volume.status().healedBlocks, 3);
  });

  it('gives back every block whose checksums rotted, zero blocks too', async () => {
    const rig = await settledRig(2);
    // Blocks 254 to 380, of which 300 and above were never written.
    await restart(rig, () => flipSums(rig, 2 * 512 + 40));
    for (let block = 250; block < 385; block++) await assertReads(rig, block, block < 300 ? (block % 255) + 1 : 0);
    assert.equal(rig.harness.volume.status().healedBlocks, 381 - 254);
    rig.harness.clock.advance(6000);
    await settle();
    await rig.die('power loss', new SeededRandom(2));
    const healed = await read(rig, 250, 140);
    assert.ok(healed instanceof Uint8Array);
    assert.equal(rig.harness.volume.status().checksumErrors, 0);
  });

  it('takes no epoch for it', async () => {
    const rig = await settledRig(3);
    await restart(rig, () => undefined);
    const epochs = rig.store.keys(`${rig.uuid}/epochs/`);
    flip(rig, 'image', 5 * BLOCK);
    await assertReads(rig, 5, 6);
    assert.deepEqual(rig.store.keys(`${rig.uuid}/epochs/`), epochs);
  });

  it('makes the map again when that has rotted as well', async () => {
    const rig = await settledRig(4);
    await restart(rig, () => {
      for (let at = 8192; at < rig.harness.disk.bytesOf('map').length; at += BLOCK) flip(rig, 'map', at);
    });
    flip(rig, 'image', 6 * BLOCK);
    await assertReads(rig, 6, 7);
  });

  it('merges a sub-block write into what it healed', async () => {
    const rig = await settledRig(5);
    flip(rig, 'image', 8 * BLOCK);
    let written = false;
    void rig.harness.write(8 * BLOCK + 100, filled(200).slice(0, 50)).then(() => (written = true));
    await rig.until(() => written);
    const expected = filled(9);
    expected.fill(200, 100, 150);
    assert.deepEqual(await read(rig, 8), expected);
  });

  it('waits no longer than its bound for a store that hangs, and fails at once for one that is fenced', async () => {
    const rig = await settledRig(6);
    const { clock } = rig.harness;
    flip(rig, 'image', 9 * BLOCK);
    flip(rig, 'image', 10 * BLOCK);
    const hanging = new Promise<void>(() => undefined);
    rig.store.fault = () => ({ delay: hanging });
    const before = clock.nowMs();
    const found = await read(rig, 9, 2);
    assert.ok(found instanceof Error);
    assert.match(
      found.message,
      /block 9 of the image .* cannot be healed: the bucket did not give it back within 10 s/,
    );
    assert.ok(clock.nowMs() - before < 11_000);
    rig.store.fault = () => undefined;
    rig.remoteCopy.refuse(Object.assign(found, { message: 'it was fenced' }));
    const then = clock.nowMs();
    await assertLost(rig, 9, /it was fenced/);
    assert.ok(clock.nowMs() - then < 1000);
    // What is written whole needs no healing.
    await rig.harness.write(9 * BLOCK, filled(77));
    await assertReads(rig, 9, 77);
  });

  it('does not keep the volume from closing', async () => {
    const rig = await settledRig(7);
    flip(rig, 'image', 9 * BLOCK);
    rig.store.fault = () => ({ delay: new Promise<void>(() => undefined) });
    const failed = assert.rejects(rig.harness.read(9 * BLOCK, BLOCK), /the volume is closing/);
    await settle();
    await rig.harness.volume.close();
    await failed;
  });

  it('answers with an error when the bucket’s copy is damaged as well', async () => {
    const rig = await settledRig(8);
    for (const key of rig.store.keys(`${rig.uuid}/segments/`)) {
      const body = rig.store.peek(key)!.slice();
      body[body.length - 100]! ^= 1;
      rig.store.poke(key, body);
    }
    flip(rig, 'image', 15 * BLOCK);
    await assertLost(rig, 15, /cannot be healed: .*segments/);
    assert.equal(rig.harness.volume.status().healedBlocks, 0);
  });

  it('never takes an older version where a newer one is on its way, whether the sum is known or lost', async () => {
    for (const lost of [false, true]) {
      const rig = await settledRig(9);
      const { harness, store } = rig;
      // Destaged, and the bucket does not have it yet: nothing that the bucket has may be given back.
      store.fault = ({ operation }) => (operation === 'put' ? { failBefore: 'store-unreachable' } : undefined);
      await harness.write(20 * BLOCK, filled(222));
      await destage(rig);
      if (lost) await restart(rig, () => flipSums(rig, 100));
      else flip(rig, 'image', 20 * BLOCK);
      await assertLost(rig, 20, /cannot be healed/);
      store.fault = () => undefined;
      await assertReads(rig, 20, 222);
    }
  });

  it('drops what it fetched when the block is written and destaged meanwhile', async () => {
    for (const lost of [false, true]) {
      const rig = await settledRig(10);
      const { harness, store } = rig;
      if (lost) await restart(rig, () => flipSums(rig, 100));
      else flip(rig, 'image', 20 * BLOCK);
      let release: () => void = () => undefined;
      let asked = false;
      const delay = new Promise<void>((resolve) => (release = resolve));
      store.fault = ({ operation, key }) => {
        if (operation !== 'get' || !key.includes('/segments/')) return undefined;
        asked = true;
        return { delay };
      };
      let found: Uint8Array | undefined;
      void harness.read(20 * BLOCK, BLOCK).then((bytes) => (found = bytes));
      await rig.until(() => asked);
      await harness.write(20 * BLOCK, filled(222));
      await harness.volume.forceFlush();
      harness.clock.advance(5500);
      await settle();
      await settle();
      assert.equal(harness.volume.status().overlayBlocks, 0, 'it is in the image');
      release();
      await rig.until(() => found !== undefined);
      await assertReads(rig, 20, 222);
      assert.deepEqual(harness.disk.bytesOf('image').slice(20 * BLOCK, 21 * BLOCK), filled(222));
      assert.equal(harness.volume.status().healedBlocks, 0);
    }
  });
});

describe('rot in the log', () => {
  it('of a block that the bucket has is healed, before it reaches the image and after', async () => {
    const rig = await settledRig(20);
    const { harness } = rig;
    await harness.write(30 * BLOCK, filled(111));
    await rig.drain();
    const { path, at } = inLog(rig, filled(111));
    harness.disk.bytesOf(path)[at + 5]! ^= 1;
    assert.equal(harness.volume.status().overlayBlocks, 1);
    await assertReads(rig, 30, 111);
    await destage(rig);
    await assertReads(rig, 30, 111);
    assert.equal(harness.volume.status().healedBlocks, 1);
    await rig.assertRemoteIsPrefix(2);
  });

  it('of a block that is nowhere else reads as an error until it is written, and everything else goes on', async () => {
    const rig = await settledRig(21);
    const { harness } = rig;
    await harness.write(30 * BLOCK, filled(111));
    const { path, at } = inLog(rig, filled(111));
    harness.disk.bytesOf(path)[at + 5]! ^= 1;
    await assertLost(rig, 30, /cannot be healed/);
    await harness.write(31 * BLOCK, filled(112));
    await destage(rig);
    await rig.drain();
    // Neither from the image nor from the bucket comes what the block held before.
    await assertLost(rig, 30, /had rotted before it was sent/);
    await assertReads(rig, 31, 112);
    assert.equal(harness.volume.status().state, 'online');
    await restart(rig, () => undefined);
    await assertLost(rig, 30, /had rotted before it was sent/);
    await harness.write(30 * BLOCK, filled(113));
    await destage(rig);
    await assertReads(rig, 30, 113);
    await rig.drain();
    assert.ok(!rig.messages.some(({ type }) => type === 'fatal' || type === 'fenced'));
  });
});
