import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import type { ObjectStore } from '../../../src/ports/object-store.js';
import { Incarnation } from '../../../src/remote/replicator-incarnation.js';
import { StoreRetry } from '../../../src/remote/replicator-retry.js';
import { SealedBuffers } from '../../../src/remote/sealed-buffers.js';
import type { SegmentFacts } from '../../../src/remote/segment-index.js';
import { chainOrigin } from '../../../src/remote/segment-point.js';
import type { SentGroups } from '../../../src/remote/sent-groups.js';
import { SegmentWriter } from '../../../src/remote/segment-writer.js';
import { UploadPipeline } from '../../../src/remote/upload-pipeline.js';
import type { KeyedSegment } from '../../../src/remote/group-sealer.js';
import { plainChecksums } from '../../fake/checksums.js';
import { ManualClock } from '../../fake/clock.js';
import { MemoryStore } from '../../fake/memory-store.js';
import { fixedRandom, link, testSealer } from './sealed-fixture.js';

describe('buffers of sealed segments', () => {
  const make = (freeMax = 2): SealedBuffers => new SealedBuffers({ checksums: plainChecksums, freeMax });

  it('are used again only once they were given back', () => {
    const buffers = make();
    const [first, second] = [buffers.take(1000), buffers.take(1000)];
    assert.notEqual(first.buffer, second.buffer);
    assert.equal(first.length, 1000);
    buffers.giveBack(first);
    const third = buffers.take(1001);
    assert.equal(third.buffer, first.buffer);
    assert.equal(third.length, 1001);
  });

  it('are given back once', () => {
    const buffers = make();
    const first = buffers.take(10);
    buffers.giveBack(first);
    buffers.giveBack(first);
    assert.notEqual(buffers.take(10).buffer, buffers.take(10).buffer);
  });

  it('are as large as what is sealed, and no more of them are kept than are free at most', () => {
    const buffers = make(1);
    const [small, other] = [buffers.take(10), buffers.take(20)];
    buffers.giveBack(small);
    buffers.giveBack(other);
    const large = buffers.take(3_000_000);
    assert.equal(large.length, 3_000_000);
    buffers.giveBack(new Uint8Array(10));
    assert.notEqual(buffers.take(10).buffer, small.buffer);
  });
});

describe('a segment that was uploaded', () => {
  const sealer = testSealer();

  /** Sends one segment, and says whether its memory was taken for the next. */
  async function isUsedAgain(store: ObjectStore): Promise<boolean> {
    const clock = new ManualClock();
    const buffers = new SealedBuffers({ checksums: plainChecksums, freeMax: 2 });
    const writer = new SegmentWriter({ payloadBlocksMax: 1 });
    writer.reserve(5, 1);
    const key = { epoch: 1, number: 1 };
    const facts: SegmentFacts = {
      role: 'data',
      ...{ groupId: 1, groupFirstNumber: 1, groupEnd: true, firstLsn: 1, lastLsn: 1, wallMs: 0 },
      ...{ sizeBytes: 1 << 20, previousLink: link(0), committed: { epoch: 0, number: 0 } },
    };
    const segment: KeyedSegment = { ...writer.seal(sealer, key, facts, { buffers }), key };
    const incarnation = new Incarnation();
    const observer = { failed: () => void setImmediate(() => clock.advance(60_000)), recovered: () => undefined };
    const retry = new StoreRetry({ clock, random: fixedRandom, incarnation, observer });
    const sent = { add: () => Promise.resolve() } as unknown as SentGroups;
    await new Promise<void>((resolve, reject) => {
      const pipeline = new UploadPipeline({
        ...{ store, sealer, retry, incarnation, sent, buffers, slots: 2, from: chainOrigin, failed: reject },
        fencing: 'conditional',
        committed: () => resolve(),
      });
      const group = pipeline.begin();
      pipeline.send(group, segment);
      const end = { sizeBytes: 1 << 20, cursor: undefined, lastLsn: 1 };
      pipeline.finish(group, { ...end, point: { ...key, link: segment.link, lsn: 1, wallMs: 0 } });
    });
    return buffers.take(segment.bytes.length).buffer === segment.bytes.buffer;
  }

  it('leaves its memory to the next', async () => {
    assert.equal(await isUsedAgain(new MemoryStore()), true);
  });

  it('keeps its memory where a request was given up that may still read it', async () => {
    const store = new MemoryStore();
    let failures = 1;
    const put = store.put.bind(store);
    store.put = (...args) =>
      failures-- > 0 ? Promise.reject(new GatewayError('store-failed', 'no answer in time')) : put(...args);
    assert.equal(await isUsedAgain(store), false);
  });

  it('keeps its memory where it was there already, and was perhaps refused before it was sent', async () => {
    const store = new MemoryStore();
    const put = store.put.bind(store);
    store.put = async (...args) => {
      await put(...args);
      return put(...args);
    };
    assert.equal(await isUsedAgain(store), false);
  });
});
