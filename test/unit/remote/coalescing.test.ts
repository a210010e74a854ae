/** What replication sends, against what it has to send. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { FakeOp } from '../../fake/fake-log.js';
import { EngineRig } from '../../fake/engine-rig.js';
import { SeededRandom } from '../../fake/random.js';
import { BLOCK, randomOp, remoteImage, Rig } from '../../fake/replication-rig.js';
import { ObjectNames } from '../../../src/remote/name.js';
import { HEADER_BYTES } from '../../../src/remote/seal-header.js';
import type { OpenedSegment } from '../../../src/remote/segment-reader.js';

interface Sent {
  readonly objectBytes: number;
  /** Header and sealed index. */
  readonly indexBytes: number;
  readonly payloadBlocks: number;
}

function sentOf(store: Rig['store'], uuid: string, segments: readonly OpenedSegment[]): Sent {
  const names = new ObjectNames(uuid);
  const sum = { objectBytes: 0, indexBytes: 0, payloadBlocks: 0 };
  for (const { key, header, index } of segments) {
    sum.objectBytes += store.peek(names.segment(key))!.length;
    sum.indexBytes += HEADER_BYTES + header.indexSealedBytes;
    sum.payloadBlocks += index.payloadBlocks;
  }
  return sum;
}

/** Blocks that these operations leave with content, and those that they leave zero. */
function newest(ops: readonly FakeOp[]): { written: Set<number>; zeros: Set<number> } {
  const [written, zeros] = [new Set<number>(), new Set<number>()];
  for (const op of ops) {
    const count = op.kind === 'write' ? op.data.length / BLOCK : 'blockCount' in op ? op.blockCount : 0;
    for (let at = 0; at < count && 'firstBlock' in op; at++) {
      const block = op.firstBlock + at;
      const content = op.kind === 'write' && op.data.subarray(at * BLOCK, (at + 1) * BLOCK).some((byte) => byte !== 0);
      (content ? written : zeros).add(block);
      (content ? zeros : written).delete(block);
    }
  }
  return { written, zeros };
}

const write = (firstBlock: number, fill: number): FakeOp => ({
  kind: 'write',
  firstBlock,
  data: new Uint8Array(BLOCK).fill(fill),
});

/** Blocks of extents or zero extents, each as often as it stands there. */
function blocksOf({
  count,
  firstBlock,
  blockCount,
}: {
  readonly count: number;
  readonly firstBlock: Float64Array;
  readonly blockCount: ArrayLike<number>;
}): number[] {
  return Array.from({ length: count }, (_, at) =>
    Array.from({ length: blockCount[at]! }, (_, next) => firstBlock[at]! + next),
  ).flat();
}

describe('what a group sends', () => {
  for (let seed = 1; seed <= 12; seed++) {
    it(`is each block that it leaves with content once, within 2 % and its index (seed ${seed})`, async () => {
      const random = new SeededRandom(seed);
      const rig = new Rig({
        seed,
        blocks: 400,
        config: { compaction: false, segmentBytes: (1 + random.below(40)) * BLOCK },
      });
      rig.start();
      const ops: FakeOp[] = [];
      for (let round = 0; round < 12; round++) {
        for (let batch = random.below(40); batch >= 0; batch--) {
          const batchOps = Array.from({ length: 1 + random.below(5) }, () => randomOp(random, 400));
          rig.write(batchOps);
          ops.push(...batchOps);
        }
        await rig.drain();
      }
      const { segments } = await remoteImage(rig.store, rig.config.uuid, rig.log.createdSizeBytes);
      const groups = new Map<number, OpenedSegment[]>();
      for (const segment of segments) {
        const { groupId } = segment.index;
        groups.set(groupId, [...(groups.get(groupId) ?? []), segment]);
      }
      assert.ok(groups.size >= 8);
      for (const group of groups.values()) {
        const { firstLsn, lastLsn } = group[0]!.index;
        const { written, zeros } = newest(ops.slice(firstLsn - 1, lastLsn));
        const sent = group.flatMap(({ index }) => blocksOf(index.extents));
        assert.deepEqual(
          sent.sort((a, b) => a - b),
          [...written].sort((a, b) => a - b),
        );
        const sentZeros = group.flatMap(({ index }) => blocksOf(index.zeros));
        assert.deepEqual(
          sentZeros.sort((a, b) => a - b),
          [...zeros].sort((a, b) => a - b),
        );
        const { objectBytes, indexBytes, payloadBlocks } = sentOf(rig.store, rig.config.uuid, group);
        assert.equal(payloadBlocks, written.size);
        assert.ok(objectBytes <= 1.02 * written.size * BLOCK + indexBytes, `${objectBytes} for ${written.size} blocks`);
      }
      await rig.kill();
    });
  }

  it('is within 2 % with its index too where every write is 4 KiB at random', async () => {
    const random = new SeededRandom(99);
    const rig = new Rig({ blocks: 100_000, config: { compaction: false, segmentBytes: 256 * BLOCK } });
    const blocks = new Set<number>();
    while (blocks.size < 1024) blocks.add(random.below(100_000));
    for (const block of blocks) rig.write([write(block, 1 + (block % 255))]);
    rig.start();
    await rig.drain();
    const { segments } = await remoteImage(rig.store, rig.config.uuid, rig.log.createdSizeBytes);
    const { objectBytes, payloadBlocks } = sentOf(rig.store, rig.config.uuid, segments);
    assert.equal(payloadBlocks, 1024);
    assert.ok(objectBytes <= 1.02 * 1024 * BLOCK, `${objectBytes / (1024 * BLOCK)} bytes per byte`);
    await rig.kill();
  });

  it('is less per write the farther it is behind', async () => {
    /** Payload bytes per byte written, of 2048 writes to 512 blocks that are drained every `lag` of them. */
    const perWrite = async (lag: number, segmentBlocks: number): Promise<number> => {
      const random = new SeededRandom(7);
      const rig = new Rig({ blocks: 512, config: { compaction: false, segmentBytes: segmentBlocks * BLOCK } });
      rig.start();
      for (let count = 1; count <= 2048; count++) {
        rig.write([write(random.below(512), 1 + random.below(255))]);
        if (count % lag === 0) await rig.drain();
      }
      const { segments } = await remoteImage(rig.store, rig.config.uuid, rig.log.createdSizeBytes);
      const { payloadBlocks } = sentOf(rig.store, rig.config.uuid, segments);
      await rig.kill();
      return payloadBlocks / 2048;
    };
    const lags = [1, 16, 64, 256, 1024, 2048];
    // Everything that waits fits into one group.
    const whole: number[] = [];
    for (const lag of lags) whole.push(await perWrite(lag, 256));
    for (let at = 1; at < lags.length; at++) assert.ok(whole[at]! < whole[at - 1]!, whole.join(' '));
    assert.equal(whole[0], 1);
    assert.ok(whole.at(-1)! <= 512 / 2048, whole.join(' '));
    // A group that is full is cut: from there on it is no more, and no less.
    const cut: number[] = [];
    for (const lag of lags.slice(1)) cut.push(await perWrite(lag, 32)); // One write is the same group.
    for (let at = 1; at < cut.length; at++) assert.ok(cut[at]! <= cut[at - 1]! * 1.01, cut.join(' '));
    assert.ok((cut[0] ?? 1) < 1, cut.join(' '));
  });
});

describe('what a round sends', () => {
  /** Of an outage with so many writes of 4 KiB, far more than the buffer holds. */
  async function outage(writes: number): Promise<Sent & { readonly distinct: number }> {
    const rig = new EngineRig(5);
    rig.track();
    await rig.harness.create();
    await rig.replicate();
    await rig.harness.write(0, new Uint8Array(BLOCK).fill(9));
    await rig.drain();
    rig.store.fault = () => ({ failBefore: 'store-unreachable' });
    const random = new SeededRandom(5);
    const blocks = new Set<number>();
    for (let count = 0; count < writes; count++) {
      const block = random.below(rig.harness.sizeBytes / BLOCK);
      blocks.add(block);
      await rig.harness.write(block * BLOCK, new Uint8Array(BLOCK).fill(1 + random.below(255)));
    }
    assert.equal(rig.harness.volume.replication.state.keeping, 'tracking');
    rig.store.fault = () => undefined;
    await rig.drain();
    const { segments } = await remoteImage(rig.store, rig.uuid, rig.harness.sizeBytes);
    const round = segments.filter(({ index }) => index.role === 'staged' || index.role === 'apply');
    assert.ok(round.some(({ index }) => index.role === 'staged'));
    assert.equal(new Set(round.map(({ index }) => index.round)).size, 1);
    const listed = round.flatMap(({ index }) => blocksOf(index.extents));
    assert.equal(new Set(listed).size, listed.length, 'no block twice');
    const sent = sentOf(rig.store, rig.uuid, round);
    rig.core!.receive({ type: 'stop' });
    await rig.harness.volume.close();
    return { ...sent, distinct: blocks.size };
  }

  it('is each block that differs once, however often it was written, so less per write the longer the outage', async () => {
    const perWrite: number[] = [];
    for (const writes of [700, 1400, 2800]) {
      const { objectBytes, indexBytes, payloadBlocks, distinct } = await outage(writes);
      assert.ok(payloadBlocks <= distinct, `${payloadBlocks} blocks of ${distinct}`);
      assert.ok(objectBytes <= 1.02 * payloadBlocks * BLOCK + indexBytes);
      perWrite.push(objectBytes / writes);
    }
    assert.ok(perWrite[1]! < perWrite[0]! && perWrite[2]! < perWrite[1]!, perWrite.join(' '));
  });
});
