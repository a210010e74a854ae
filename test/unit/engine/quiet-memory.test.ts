import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { GatewayError } from '../../../src/base/errors.js';
import { KIB } from '../../../src/base/units.js';
import { BufferPool } from '../../../src/engine/buffer-pool.js';
import { KeptMemory } from '../../fake/kept-memory.js';
import { MIB, settle, VolumeHarness } from './volume-harness.js';

describe('memory that a volume gives back when it is quiet', () => {
  it('is not that of writes that are staged at that moment', async () => {
    const memory = new KeptMemory();
    const harness = new VolumeHarness(1, 4 * MIB);
    harness.overrides = { checksums: memory.checksums };
    await harness.create();
    const { volume } = harness;
    await harness.write(0, new Uint8Array(MIB).fill(1), true);
    const before = memory.bytes;
    const content = harness.expected(1);
    let written = 0;
    let over = false;
    const failures: (GatewayError | undefined)[] = [];
    // Whoever waits is woken from within a cycle, also right before its end, and what it writes is committed after that.
    const write = (): void => {
      if (over) return;
      const [offset, bytes] = [MIB + ((4096 * written) % (2 * MIB)), new Uint8Array(4096).fill(++written)];
      content.set(bytes, offset);
      volume.write(offset, 4096, bytes, 0, false, { done: (error) => failures.push(error) });
      volume.onceWritable(write);
    };
    volume.onceWritable(write);
    harness.clock.advance(5000);
    await settle();
    assert.ok(written > 1);
    // That of the destager's step is not there any more.
    assert.ok(memory.bytes < before + MIB, `${memory.bytes} bytes are kept, ${before} before the step`);
    assert.deepEqual(failures, Array(written).fill(undefined));
    assert.deepEqual(await harness.read(0, 4 * MIB), content);
    over = true;
    await volume.close();
  });

  it('goes when the last cycle is over that is due', async () => {
    const memory = new KeptMemory();
    const harness = new VolumeHarness(2);
    harness.overrides = { checksums: memory.checksums, replicated: true };
    await harness.create();
    const { volume } = harness;
    await harness.write(0, new Uint8Array(MIB).fill(1), true);
    await settle();
    // The age comes up while a cycle goes on that destages nothing.
    volume.replication.heard({ ...volume.replication.state, replicatedLsn: 1 });
    harness.clock.advance(5000);
    await settle();
    assert.equal(volume.status().lsn.destaged, volume.status().lsn.durable);
    assert.ok(memory.bytes <= 64 * KIB, `${memory.bytes} bytes are kept`);
    await volume.close();
  });

  it('is that of the free buffers of a pool alone', () => {
    const memory = new KeptMemory();
    const pool = new BufferPool(memory.checksums);
    const [free, used] = [pool.take(MIB).fill(1), pool.take(MIB).fill(2)];
    pool.give(free);
    assert.equal(memory.bytes, 2 * MIB);
    pool.releaseMemory();
    assert.equal(memory.bytes, MIB);
    assert.ok(used.every((byte) => byte === 2));
    assert.equal(pool.take(MIB), free);
  });
});
