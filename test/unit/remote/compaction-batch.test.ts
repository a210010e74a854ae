import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CompactionBatch } from '../../../src/remote/compaction-batch.js';
import type { LocalCopy } from '../../../src/remote/compaction-batch.js';
import type { ObjectSealer } from '../../../src/remote/seal.js';
import type { OpenedSegment } from '../../../src/remote/segment-reader.js';
import { plainChecksums } from '../../fake/checksums.js';
import { FakeLog } from '../../fake/fake-log.js';
import { MemoryStore } from '../../fake/memory-store.js';

const BLOCK = 4096;

/** Block 5 lives in a segment whose group ended at LSN 3; whatever the image holds has the right sum: clients may see to that. */
async function takes(log: FakeLog, local: Partial<LocalCopy>): Promise<boolean> {
  const batch = new CompactionBatch(
    {
      store: new MemoryStore(),
      sealer: undefined as unknown as ObjectSealer,
      checksums: { ...plainChecksums, verifyBlocks: () => -1 },
      image: { read: () => Promise.resolve(true) },
    },
    4,
  );
  const source = { key: { epoch: 1, number: 1 }, index: { lastLsn: 3, sums: Uint32Array.of(77) } };
  batch.add(source as unknown as OpenedSegment, 5, 0);
  await batch.fillLocal({ source: log, cursor: log.start, destagedLsn: () => 3, durableLsn: () => 0, ...local });
  return batch.complete;
}

function written(...blocks: number[]): FakeLog {
  const log = new FakeLog(64 * BLOCK);
  for (const firstBlock of blocks) log.append([{ kind: 'write', firstBlock, data: new Uint8Array(BLOCK) }]);
  return log;
}

describe('the local copy of a block that moves', () => {
  it('is taken where it is certain to be what the bucket holds', async () => {
    assert.equal(await takes(written(4, 6), {}), true);
  });

  it('is not taken where the image may still hold an older version', async () => {
    assert.equal(await takes(written(4, 6), { destagedLsn: () => 2 }), false);
  });

  it('is not taken where the log has a newer one, durable or not', async () => {
    assert.equal(await takes(written(4, 5), {}), false);
    const trimmed = new FakeLog(64 * BLOCK);
    trimmed.append([{ kind: 'trim', firstBlock: 0, blockCount: 64 }]);
    assert.equal(await takes(trimmed, {}), false);
  });

  it('is not taken where the log cannot be read to its end', async () => {
    assert.equal(await takes(written(4, 6), { durableLsn: () => 3 }), false);
  });
});
