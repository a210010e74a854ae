import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { KIB, MIB } from '../../../src/base/units.js';
import { BufferPool } from '../../../src/engine/buffer-pool.js';
import { loadAddon } from '../../../src/platform/addon.js';

describe('buffers of payloads', () => {
  const checksums = loadAddon();

  function taken(pool: BufferPool, lengthBytes: number, count: number): Uint8Array[] {
    return Array.from({ length: count }, () => pool.take(lengthBytes));
  }

  it('are used again, as many large ones as a deep queue has under way', () => {
    const pool = new BufferPool(checksums);
    const first = taken(pool, MIB, 16);
    for (const buffer of first) pool.give(buffer);
    assert.deepEqual(new Set(taken(pool, MIB - 1, 16)), new Set(first));
  });

  it('are kept within bounds, the small ones rather than the large ones', () => {
    const pool = new BufferPool(checksums);
    const large = taken(pool, MIB, 20);
    const small = taken(pool, 16 * KIB, 64);
    for (const buffer of [...large, ...small]) pool.give(buffer);
    assert.deepEqual(new Set(taken(pool, 1, 64)), new Set(small));
    const again = taken(pool, MIB, 20).filter((buffer) => large.includes(buffer));
    assert.equal(again.length, 15);
  });
});
