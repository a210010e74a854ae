/** A volume whose disk has no space, or whose log cannot be read: what waits, what goes on, and how it ends. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError, type ErrorCode } from '../../../src/base/errors.js';
import { MIB, settle, VolumeHarness } from './volume-harness.js';

const blockBytes = 4096;

async function open(seed: number): Promise<VolumeHarness> {
  const h = new VolumeHarness(seed, 8 * MIB);
  h.overrides = { bufferBytes: 2 * MIB };
  await h.create();
  return h;
}

function failWith(h: VolumeHarness, code: ErrorCode, ...which: readonly string[]): void {
  h.disk.hook = (operation, path) => {
    if (which.includes(`${operation} ${path}`)) throw new GatewayError(code, `${operation} ${path}: made to fail`);
  };
}

async function pass(h: VolumeHarness, ms: number): Promise<void> {
  for (let at = 0; at < ms; at += 500) {
    h.clock.advance(500);
    await settle();
  }
}

/** A disk on which the image can get no further space. */
async function stalled(seed: number): Promise<VolumeHarness> {
  const h = await open(seed);
  await h.write(0, h.random.bytes(16 * blockBytes));
  await h.flush();
  await pass(h, 7000);
  failWith(h, 'disk-full', 'allocate image', 'allocate log/new');
  await h.write(64 * blockBytes, h.random.bytes(16 * blockBytes));
  await pass(h, 7000);
  assert.equal(h.volume.status().state, 'stalled');
  return h;
}

describe('volume on a full disk', () => {
  it('lets writes wait, then refuses them, and takes them again by itself when there is space', async () => {
    const h = await stalled(1);
    const waiting = h.write(128 * blockBytes, h.random.bytes(blockBytes));
    const outcome = waiting.then(
      () => 'acknowledged',
      (error: unknown) => (error as GatewayError).code,
    );
    await settle();
    assert.equal(h.volume.writable, false);
    await pass(h, 31_000);
    assert.equal(await outcome, 'disk-full');
    h.operations.pop();
    await assert.rejects(h.write(0, new Uint8Array(blockBytes)), { code: 'disk-full' });
    h.operations.pop();
    failWith(h, 'disk-full');
    await pass(h, 1500);
    assert.equal(h.volume.status().state, 'online');
    await h.write(0, h.random.bytes(blockBytes));
    await h.flush();
    assert.deepEqual(await h.read(0, h.sizeBytes), h.expected(h.operations.length));
  });

  it('goes on with reads, flushes, trims and zeros, before and after writes are refused', async () => {
    const h = await stalled(2);
    for (const round of [0, 1]) {
      assert.equal(h.volume.zeroable, true);
      await h.zero(round * 4 * blockBytes, 2 * blockBytes, true);
      await h.zero((round * 4 + 2) * blockBytes, blockBytes, false);
      await h.flush();
      assert.deepEqual(await h.read(0, h.sizeBytes), h.expected(h.operations.length));
      const refused = assert.rejects(h.write(0, new Uint8Array(blockBytes)), { code: 'disk-full' });
      await pass(h, 31_000);
      await refused;
      h.operations.pop();
    }
    h.disk.kill();
    h.disk.hook = () => undefined;
    await h.open();
    await h.expectPrefix(h.operations.length);
  });

  it('is freed by trims alone, though writes that need space stand before them in the log', async () => {
    const h = await stalled(3);
    let freed = false;
    h.disk.hook = (operation, path) => {
      if (`${operation} ${path}` === 'punch image') freed = true;
      if (operation === 'allocate' && !freed) throw new GatewayError('disk-full', `${operation} ${path}: made to fail`);
    };
    await h.zero(0, 16 * blockBytes, true);
    await h.flush();
    await pass(h, 2500);
    assert.equal(h.volume.status().state, 'online');
    await pass(h, 6000);
    assert.deepEqual(await h.read(0, h.sizeBytes), h.expected(h.operations.length));
  });

  it('goes on with the log files that it has when there is no space for another', async () => {
    const h = await open(4);
    await pass(h, 1000);
    failWith(h, 'disk-full', 'allocate log/new');
    for (let n = 0; n < 60; n += 1) {
      await h.write((n % 16) * 16 * blockBytes, h.random.bytes(15 * blockBytes));
      await h.flush();
      await pass(h, 500);
    }
    assert.equal(h.volume.status().state, 'online');
  });

  it('is not filled up by marks, however long a client flushes', async () => {
    const h = await stalled(8);
    const before = h.volume.status().bufferUsedBytes;
    for (let n = 0; n < 200; n += 1) {
      await h.flush();
      await pass(h, 1500);
      assert.equal(h.fatal, undefined);
    }
    assert.ok(h.volume.status().bufferUsedBytes - before <= 2 * blockBytes);
  });

  it('opens all the same', async () => {
    const h = await stalled(5);
    h.disk.kill();
    failWith(h, 'disk-full', 'allocate image', 'allocate log/new', 'open log/new', 'allocate log/copy');
    await h.open();
    assert.deepEqual(await h.read(0, h.sizeBytes), h.expected(h.operations.length));
  });
});

describe('the room for what a recovery writes again', () => {
  it('is there before it is needed, and a recovery of any length takes no more', async () => {
    const h = await open(6);
    const reserved = h.disk.bytesOf('log/copy').length;
    h.overrides = { bufferBytes: 64 * MIB };
    h.disk.kill();
    await h.open();
    // Acknowledged and not durable, since no time passes; more than one piece.
    for (let at = 0; at < 7; at += 1) await h.write(at * MIB, h.random.bytes(MIB));
    h.disk.kill();
    failWith(h, 'disk-full', 'allocate image', 'allocate log/new', 'open log/new', 'allocate log/copy');
    await h.open();
    assert.equal(h.disk.bytesOf('log/copy').length, reserved);
    assert.deepEqual(await h.read(0, h.sizeBytes), h.expected(h.operations.length));
  });
});

describe('volume whose log cannot be read', () => {
  it('serves on, refuses writes when the log is full, and goes on by itself when it can be read', async () => {
    const h = await open(6);
    h.disk.hook = (operation, path) => {
      if (operation === 'open' && path.startsWith('log/0')) throw new GatewayError('disk-failed', `${path}: EIO`);
    };
    let refused: unknown;
    for (let n = 0; n < 60 && refused === undefined; n += 1) {
      const write = h.write((n % 16) * 16 * blockBytes, h.random.bytes(15 * blockBytes));
      const ended = write.catch((error: unknown) => {
        refused = error;
        h.operations.pop();
      });
      await pass(h, 500);
      if (!h.volume.writable) await pass(h, 31_000);
      await ended;
    }
    assert.equal((refused as GatewayError | undefined)?.code, 'disk-failed');
    assert.equal(h.volume.status().state, 'failed');
    assert.equal(h.fatal, undefined);
    await h.flush();
    h.disk.hook = () => undefined;
    await pass(h, 7000);
    assert.equal(h.volume.status().state, 'online');
    await h.write(0, h.random.bytes(blockBytes));
    assert.deepEqual(await h.read(0, h.sizeBytes), h.expected(h.operations.length));
  });
});

describe('write of a part of a block', () => {
  it('is acknowledged by itself when the rest of the block had to be waited for', async () => {
    const h = await open(7);
    await settle();
    await h.write(100, h.random.bytes(50));
    assert.deepEqual(await h.read(0, h.sizeBytes), h.expected(1));
  });
});
