import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CompactionBatch } from '../../../src/remote/compaction-batch.js';
import type { LogCursor } from '../../../src/ports/replication.js';
import { PendingLog } from '../../../src/remote/pending-log.js';
import type { LocalCopy } from '../../../src/remote/pending-log.js';
import type { ObjectSealer } from '../../../src/remote/seal.js';
import type { OpenedSegment } from '../../../src/remote/segment-reader.js';
import { plainChecksums } from '../../fake/checksums.js';
import { FakeLog } from '../../fake/fake-log.js';
import { MemoryStore } from '../../fake/memory-store.js';

const BLOCK = 4096;

/** Block 5 lives in a segment whose group ended at LSN 3; whatever the image holds has the right sum: clients may see to that. */
async function takes(log: FakeLog, local: Partial<LocalCopy>, pending = new PendingLog()): Promise<boolean> {
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
  await batch.fillLocal(
    { source: log, cursor: log.start, destagedLsn: () => 3, durableLsn: () => 0, ...local },
    pending,
  );
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

  it('is not asked for as long as the log is too long to be walked, which is tried once', async () => {
    const log = written(4, 6);
    let walked = 0;
    const endless: LocalCopy['source'] = Object.assign(Object.create(log) as FakeLog, {
      next: async (at: LogCursor) => {
        walked += 1;
        const batch = await log.next(log.start);
        return batch && { ...batch, next: { ...at, lsn: at.lsn + 1 } };
      },
    });
    const pending = new PendingLog();
    const behind = { source: endless, durableLsn: () => 100_000 };
    assert.equal(await takes(log, behind, pending), false);
    const once = walked;
    assert.equal(await takes(log, behind, pending), false);
    assert.equal(walked, once);
    assert.equal(await takes(log, {}, pending), true, 'a shorter one is walked');
    assert.equal(await takes(log, behind, pending), false);
    assert(walked > once, 'and then a long one again');
  });

  it('is not taken where the log cannot be read to its end', async () => {
    assert.equal(await takes(written(4, 6), { durableLsn: () => 3 }), false);
  });
});
