import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { openVolumeSealer } from '../../../src/remote/key.js';
import { issueReceipt } from '../../../src/remote/receipt.js';
import { listRemoteVolumes } from '../../../src/remote/remote-list.js';
import { restoreFull } from '../../../src/remote/restore.js';
import type { Restored, RestoreOptions } from '../../../src/remote/restore.js';
import type { RestoreProgress } from '../../../src/remote/restore-fetch.js';
import { plainChecksums } from '../../fake/checksums.js';
import { RecordedLog } from '../../fake/log.js';
import { SeededRandom } from '../../fake/random.js';
import { restoreRequest } from '../../fake/restored-image.js';
import { BLOCK, remoteImage, Rig, testMaster, writtenRig } from '../../fake/replication-rig.js';

interface Outcome extends Restored {
  readonly image: Uint8Array;
  readonly progress: readonly RestoreProgress[];
  readonly finished: { lsn: number; remoteEpoch: number; segmentNumber: number; detached: boolean } | undefined;
  readonly log: RecordedLog;
}

async function restore(rig: Rig, options: Partial<RestoreOptions> = {}): Promise<Outcome> {
  let image = new Uint8Array(0);
  let finished: Outcome['finished'];
  const progress: RestoreProgress[] = [];
  const log = new RecordedLog();
  const restored = await restoreFull({
    ...restoreRequest(rig),
    log,
    progress: (step) => progress.push(step),
    openTarget: ({ sizeBytes }) => {
      image = new Uint8Array(sizeBytes);
      return Promise.resolve({
        sink: {
          write: (first, bytes, start, count, sums, sumsStart) => {
            const copy = bytes.slice(start, start + count * BLOCK);
            assert.equal(plainChecksums.verifyBlocks(copy, 0, count, first, sums, sumsStart), -1);
            image.set(copy, first * BLOCK);
            return Promise.resolve();
          },
          finish: (state) => {
            finished = state;
            return Promise.resolve();
          },
        },
      });
    },
    ...options,
  });
  return { ...restored, image, progress, finished, log };
}

const code =
  (expected: string) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof GatewayError, String(error));
    assert.equal(error.code, expected, error.message);
    return true;
  };

function flip(rig: Rig, key: string, at: number): void {
  const bytes = rig.store.peek(key)!.slice();
  bytes[at < 0 ? bytes.length + at : at]! ^= 1;
  rig.store.poke(key, bytes);
}

describe('restore --full', () => {
  it('gives back exactly what was replicated', async () => {
    for (const seed of [1, 2, 3]) {
      const rig = await writtenRig(seed, 30);
      rig.write([{ kind: 'resize', sizeBytes: rig.log.createdSizeBytes + 128 * BLOCK }]);
      rig.write([{ kind: 'write', firstBlock: 300, data: new Uint8Array(2 * BLOCK).fill(3) }]);
      await rig.drain();
      await rig.kill();
      const restored = await restore(rig);
      assert.equal(restored.sizeBytes, rig.log.createdSizeBytes + 128 * BLOCK);
      assert.equal(Buffer.compare(restored.image, rig.log.imageAt(rig.log.lastLsn)), 0);
      assert.equal(restored.recoveryPoint.lsn, rig.log.lastLsn);
      assert.deepEqual(restored.progress.at(-1)!.doneBytes, restored.progress.at(-1)!.totalBytes);
    }
  });

  it('makes a detached copy that leaves nothing in the bucket', async () => {
    const rig = await writtenRig(5, 30);
    await rig.kill();
    const before = rig.store.keys();
    const restored = await restore(rig, { as: 'copy' });
    assert.notEqual(restored.uuid, rig.config.uuid);
    assert.equal(restored.name, 'copy');
    assert.deepEqual(restored.finished && [restored.finished.detached, restored.finished.segmentNumber], [true, 0]);
    assert.deepEqual(rig.store.keys(), before);
    const pins = rig.store.calls.filter(({ key }) => key.includes('/pins/')).map(({ operation }) => operation);
    assert.deepEqual(pins, ['put', 'put', 'delete', 'delete']);
  });

  it('works with credentials that may only read', async () => {
    const rig = await writtenRig(5, 30);
    await rig.kill();
    rig.store.fault = ({ operation }) =>
      operation === 'put' || operation === 'delete' ? { failBefore: 'store-forbidden' } : undefined;
    const restored = await restore(rig);
    assert.equal(Buffer.compare(restored.image, rig.log.imageAt(rig.log.lastLsn)), 0);
  });

  it('lets the new machine go on as the volume when it takes over', async () => {
    const rig = await writtenRig(5, 30);
    const restored = await restore(rig, { takeOver: true });
    assert.equal(restored.uuid, rig.config.uuid);
    const heir = new Rig({
      store: rig.store,
      log: rig.log.clone(restored.recoveryPoint.lsn),
      clock: rig.clock,
      config: rig.config,
      seed: 9,
      state: {
        ...rig.state,
        replicatedLsn: restored.finished!.lsn,
        remoteEpoch: restored.finished!.remoteEpoch,
        segmentNumber: restored.finished!.segmentNumber,
      },
    });
    heir.start();
    const random = new SeededRandom(77);
    heir.writeRandom(random);
    await heir.drain();
    rig.writeRandom(random);
    await rig.until(() => rig.ended() !== undefined);
    assert.equal(rig.ended()?.type, 'fenced');
    const again = await restore(heir);
    assert.equal(Buffer.compare(again.image, heir.log.imageAt(heir.log.lastLsn)), 0);
    await rig.kill();
    await heir.kill();
  });

  it('finds a change of any byte of any object that it needs', async () => {
    const rig = await writtenRig(8, 8);
    await rig.kill();
    const random = new SeededRandom(3);
    const keys = rig.store
      .keys()
      .filter((key) => !key.includes('/epochs/') && !key.includes('/checkpoints/') && !key.includes('/shards/'));
    assert.ok(keys.length >= 4);
    const bucket = rig.store.snapshot();
    const expected = rig.log.imageAt(rig.log.lastLsn);
    for (const key of keys) {
      for (let round = 0; round < 12; round++) {
        rig.store.restore(bucket);
        flip(rig, key, random.below(bucket.get(key)!.length));
        // Damage in a block that is superseded need not be seen; wrong data must never be.
        const outcome = await restore(rig).catch((error: unknown) => error);
        if (outcome instanceof GatewayError) continue;
        if (outcome instanceof Error) throw outcome;
        assert.equal(Buffer.compare((outcome as Outcome).image, expected), 0, key);
      }
    }
  });

  it('refuses a swap of two objects that it needs', async () => {
    const rig = await writtenRig(5, 30);
    await rig.kill();
    for (const key of rig.store.keys(`${rig.config.uuid}/checkpoints/`)) rig.store.poke(key, undefined);
    const [first, second] = rig.store.keys(`${rig.config.uuid}/segments/`);
    const bucket = rig.store.snapshot();
    rig.store.poke(first!, bucket.get(second!));
    rig.store.poke(second!, bucket.get(first!));
    await assert.rejects(restore(rig), code('object-damaged'));
  });

  it('passes over checkpoints that are damaged, gone, or miss a shard', async () => {
    const rig = await writtenRig(6, 60);
    await rig.kill();
    const checkpoints = rig.store.keys(`${rig.config.uuid}/checkpoints/`);
    const shards = rig.store.keys(`${rig.config.uuid}/shards/`);
    assert.ok(checkpoints.length >= 2, 'there is an older one to fall back to');
    const bucket = rig.store.snapshot();
    const expected = rig.log.imageAt(rig.log.lastLsn);
    const damages: (() => void)[] = [
      () => flip(rig, checkpoints.at(-1)!, -20),
      () => rig.store.poke(checkpoints.at(-1)!, undefined),
      () => checkpoints.forEach((key) => flip(rig, key, 100)),
      () => rig.store.poke(checkpoints.at(-1)!, bucket.get(checkpoints[0]!)),
      () => shards.forEach((key) => rig.store.poke(key, undefined)),
    ];
    const gets = async (): Promise<number> => {
      const before = rig.store.calls.length;
      const restored = await restore(rig);
      assert.equal(Buffer.compare(restored.image, expected), 0);
      return rig.store.calls.length - before;
    };
    const sound = await gets();
    for (const damage of damages) {
      rig.store.restore(bucket);
      damage();
      await gets();
    }
    checkpoints.forEach((key) => rig.store.poke(key, undefined));
    assert.ok(sound < (await gets()), 'a checkpoint saves requests');
  });

  it('takes a checkpoint beyond the end of the chain for proof of loss', async () => {
    const rig = await writtenRig(6, 60);
    await rig.kill();
    const last = rig.store.keys(`${rig.config.uuid}/checkpoints/`).at(-1)!;
    const number = Number(last.split('-').at(-1));
    for (const key of rig.store.keys(`${rig.config.uuid}/segments/`)) {
      if (Number(key.split('-').at(-1)) >= number - 1) rig.store.poke(key, undefined);
    }
    // Its shards are gone too, so it cannot be restored from; yet it proves what there was.
    for (const key of rig.store.keys(`${rig.config.uuid}/shards/`)) rig.store.poke(key, undefined);
    await assert.rejects(restore(rig), code('remote-gap'));
  });

  it('tells a gap from flight: what a later segment knew to be committed is loss', async () => {
    const rig = await writtenRig(5, 30, { compaction: false });
    await rig.kill();
    for (const key of rig.store.keys(`${rig.config.uuid}/checkpoints/`)) rig.store.poke(key, undefined);
    const bucket = rig.store.snapshot();
    const { groups, segments } = await remoteImage(rig.store, rig.config.uuid, rig.log.createdSizeBytes);
    assert.ok(segments.length > 4);
    let known = 0;
    for (const { key } of segments.slice(0, -1)) {
      rig.store.restore(bucket);
      const sealer = await openVolumeSealer(rig.store, {
        uuid: rig.config.uuid,
        masters: [testMaster()],
        random: new SeededRandom(1),
      });
      rig.store.poke(sealer.names.segment(key), undefined);
      const outcome = await restore(rig).catch((error: unknown) => error);
      const lost = segments.find((segment) => segment.key.number === key.number)!.index.lastLsn;
      // Of the newest groups no segment could know yet that they were committed.
      if (segments.every(({ index }) => index.committed.number < key.number)) continue;
      known++;
      assert.ok(
        outcome instanceof GatewayError && outcome.code === 'remote-gap',
        `segment ${key.number}: ${String(outcome)}`,
      );
      const accepted = await restore(rig, { acceptLoss: true });
      assert.ok(accepted.loss !== undefined);
      assert.ok(
        accepted.recoveryPoint.lsn < lost &&
          (groups.includes(accepted.recoveryPoint.lsn) || accepted.recoveryPoint.lsn === 0),
      );
      assert.equal(Buffer.compare(accepted.image, rig.log.imageAt(accepted.recoveryPoint.lsn)), 0);
    }
    assert.ok(known > 2, `${known} segments`);
  });

  it('takes segments behind an unacknowledged one for flight', async () => {
    const rig = await writtenRig(5, 30);
    rig.store.fault = ({ operation, key }) =>
      operation === 'put' && key.endsWith(String(rig.state.segmentNumber + 2))
        ? { failBefore: 'store-unreachable' }
        : undefined;
    const random = new SeededRandom(70);
    for (let batch = 0; batch < 20; batch++) rig.writeRandom(random);
    const { lastLsn } = rig.log;
    await rig.until(() => rig.store.keys(`${rig.config.uuid}/segments/`).length > rig.state.segmentNumber + 2);
    await rig.kill();
    rig.store.fault = () => undefined;
    const restored = await restore(rig);
    assert.ok(restored.recoveryPoint.lsn < lastLsn);
    assert.equal(Buffer.compare(restored.image, rig.log.imageAt(restored.recoveryPoint.lsn)), 0);
  });

  it('notices a fence that was taken away, with what lies behind it', async () => {
    const rig = await writtenRig(5, 30);
    await rig.kill();
    rig.start();
    const random = new SeededRandom(71);
    for (let batch = 0; batch < 8; batch++) {
      rig.writeRandom(random);
      await rig.drain();
    }
    await rig.kill();
    for (const key of rig.store.keys(`${rig.config.uuid}/checkpoints/`)) rig.store.poke(key, undefined);
    const { segments } = await remoteImage(rig.store, rig.config.uuid, rig.log.createdSizeBytes);
    const fenced = segments.filter(({ key }) => key.epoch === 1).at(-1)!.key.number + 1;
    const sealer = await openVolumeSealer(rig.store, {
      uuid: rig.config.uuid,
      masters: [testMaster()],
      random: new SeededRandom(1),
    });
    rig.store.poke(sealer.names.segment({ epoch: 1, number: fenced }), undefined);
    await assert.rejects(restore(rig), code('remote-gap'));
  });

  it('holds the bucket to a receipt', async () => {
    const rig = await writtenRig(5, 30);
    const old = rig.store.snapshot();
    const first = (await restore(rig)).recoveryPoint;
    rig.writeRandom(new SeededRandom(9));
    await rig.drain();
    const newest = (await restore(rig)).recoveryPoint;
    await rig.kill();
    const sealer = await rig.sealer();
    await restore(rig, { receipt: issueReceipt(sealer, first) });
    const receipt = issueReceipt(sealer, newest);
    await restore(rig, { receipt });
    const other = issueReceipt(sealer, { ...first, link: new Uint8Array(32).fill(1) });
    await assert.rejects(restore(rig, { receipt: other }), code('receipt-unmet'));
    await assert.rejects(restore(rig, { receipt: other, acceptLoss: true }), code('receipt-unmet'));
    await assert.rejects(restore(rig, { receipt: { ...receipt, volume: newVolume } }), code('receipt-unmet'));
    await assert.rejects(restore(rig, { receipt: { ...receipt, lsn: receipt.lsn - 1 } }), code('receipt-invalid'));
    rig.store.restore(old);
    await assert.rejects(restore(rig, { receipt }), (error) => {
      assert.ok(error instanceof GatewayError && error.code === 'receipt-unmet');
      assert.match(error.message, /at least 1 segment \(\d+ LSNs, \d+ s\) are missing/);
      return true;
    });
    const { loss } = await restore(rig, { receipt, acceptLoss: true });
    assert.match(loss ?? '', /older than the receipt/);
  });

  it('says which key or name is wrong', async () => {
    const rig = await writtenRig(5, 30);
    await rig.kill();
    await assert.rejects(restore(rig, { masters: [testMaster(1)] }), code('key-mismatch'));
    await assert.rejects(restore(rig, { volume: rig.config.uuid, masters: [testMaster(1)] }), code('key-mismatch'));
    await assert.rejects(restore(rig, { volume: 'other' }), code('not-found'));
    await assert.rejects(restore(rig, { volume: newVolume }), code('object-missing'));
  });
});

const newVolume = '01234567-89ab-4cde-8f01-23456789abcd';

describe('remote ls', () => {
  it('shows names only to the key that opens them', async () => {
    const rig = await writtenRig(5, 30);
    await rig.kill();
    const list = async (fill: number): Promise<unknown[]> => {
      const listed = [];
      for await (const { name, recoveryPoint, segments } of listRemoteVolumes(rig.store, {
        masters: [testMaster(fill)],
        random: new SeededRandom(1),
        request: {},
      })) {
        listed.push({ name, lsn: recoveryPoint?.lsn, segments });
      }
      return listed;
    };
    const segments = rig.store.keys(`${rig.config.uuid}/segments/`).length;
    assert.deepEqual(await list(7), [{ name: 'disk0', lsn: rig.log.lastLsn, segments }]);
    assert.deepEqual(await list(1), [{ name: undefined, lsn: undefined, segments: 0 }]);
  });
});
