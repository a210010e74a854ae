import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import type { Restored, RestoreOptions } from '../../../src/remote/restore.js';
import { openCheckpoint } from '../../../src/remote/checkpoint.js';
import { SeededRandom } from '../../fake/random.js';
import { BLOCK, Rig } from '../../fake/replication-rig.js';
import { restoredImage } from '../../fake/restored-image.js';

const snapshot = (rig: Rig, name: string): number => rig.write([{ kind: 'snapshot', name, snapshotLsn: 0 }]);

async function restoresExactly(rig: Rig, name: string, lsn: number): Promise<Restored> {
  const restored = await restoredImage(rig, { snapshot: name });
  assert.equal(restored.recoveryPoint.lsn, lsn, name);
  assert.equal(Buffer.compare(restored.image, rig.log.imageAt(lsn)), 0, name);
  return restored;
}

function checkpointNames(rig: Rig): string[] {
  return [...rig.store.snapshot().keys()].filter((key) => key.includes('/checkpoints/')).sort();
}

describe('restore of a snapshot', () => {
  it('gives back exactly what the volume was at its record, whatever was written right before and behind it', async () => {
    for (const seed of [1, 2, 3]) {
      const rig = new Rig({ seed });
      const random = new SeededRandom(seed);
      rig.start();
      const taken: [string, number][] = [];
      for (let batch = 0; batch < 40; batch++) {
        rig.writeRandom(random);
        if (batch % 7 === 3) taken.push([`s${batch}`, snapshot(rig, `s${batch}`)]);
        if (batch % 11 === 5) await rig.drain();
      }
      await rig.drain();
      await rig.kill();
      for (const [name, lsn] of taken) await restoresExactly(rig, name, lsn);
      const newest = await restoredImage(rig, {});
      assert.equal(newest.recoveryPoint.lsn, rig.log.lastLsn);
      assert.deepEqual(
        newest.snapshots.map(({ name, point }) => [name, point.lsn]),
        taken,
      );
    }
  });

  it('writes a checkpoint at each snapshot, which names itself as its root with the blocks that are mapped', async () => {
    const rig = new Rig({ seed: 4 });
    rig.start();
    rig.write([{ kind: 'write', firstBlock: 3, data: new Uint8Array(5 * BLOCK).fill(1) }]);
    snapshot(rig, 'five');
    rig.write([{ kind: 'trim', firstBlock: 3, blockCount: 2 }]);
    snapshot(rig, 'three');
    await rig.drain();
    await rig.until(() => checkpointNames(rig).length === 2);
    await rig.kill();
    const sealer = await rig.sealer();
    const [first = '', second = ''] = checkpointNames(rig);
    const key = sealer.names.parse(second);
    assert.ok(key?.kind === 'checkpoint');
    const { snapshots, recoveryPoint } = openCheckpoint(sealer, key, rig.store.peek(second)!);
    assert.deepEqual(
      snapshots.map(({ name, root }) => [name, root?.mappedBlocks, root?.epoch]),
      [
        ['five', 5, 1],
        ['three', 3, 1],
      ],
    );
    assert.equal(snapshots[1]?.point.number, recoveryPoint.number);
    assert.equal(sealer.names.checkpoint({ epoch: 1, number: snapshots[0]?.point.number ?? 0 }), first);
  });

  it('needs no root, and passes a damaged one over', async () => {
    const rig = new Rig({ seed: 5 });
    rig.start();
    const random = new SeededRandom(5);
    for (let batch = 0; batch < 10; batch++) rig.writeRandom(random);
    const lsn = snapshot(rig, 'kept');
    rig.writeRandom(random);
    await rig.drain();
    await rig.until(() => checkpointNames(rig).length > 0);
    await rig.kill();
    const [root = ''] = checkpointNames(rig);
    const bytes = rig.store.peek(root)!.slice();
    bytes[200]! ^= 1;
    rig.store.poke(root, bytes);
    await restoresExactly(rig, 'kept', lsn);
    await rig.store.delete(root);
    await restoresExactly(rig, 'kept', lsn);
  });

  it('gives the root to a snapshot that an earlier life left without one', async () => {
    const rig = new Rig({ seed: 6 });
    rig.start();
    const random = new SeededRandom(6);
    for (let batch = 0; batch < 6; batch++) rig.writeRandom(random);
    await rig.drain();
    const lsn = snapshot(rig, 'late');
    await rig.drain();
    // Whatever the first life wrote of it is gone; the next one commits further groups and finds it behind itself.
    await rig.kill();
    for (const name of checkpointNames(rig)) await rig.store.delete(name);
    rig.start();
    rig.writeRandom(random);
    await rig.drain();
    const sealer = await rig.sealer();
    await rig.until(() => checkpointNames(rig).some((name) => name.includes('/checkpoints/0000000002-')));
    await rig.kill();
    const names = checkpointNames(rig);
    const key = sealer.names.parse(names[0] ?? '');
    assert.ok(key?.kind === 'checkpoint');
    assert.equal(openCheckpoint(sealer, key, rig.store.peek(names[0]!)!).recoveryPoint.lsn, lsn);
    await restoresExactly(rig, 'late', lsn);
  });

  it('is refused for a name that does not exist, that was deleted, or to go on from', async () => {
    const rig = new Rig({ seed: 7 });
    rig.start();
    rig.write([{ kind: 'write', firstBlock: 3, data: new Uint8Array(BLOCK).fill(1) }]);
    const lsn = snapshot(rig, 'gone');
    snapshot(rig, 'here');
    rig.write([{ kind: 'snapshot', name: 'gone', snapshotLsn: lsn }]);
    await rig.drain();
    await rig.kill();
    const refused = async (options: Partial<RestoreOptions>, code: string, text: RegExp): Promise<void> => {
      await assert.rejects(restoredImage(rig, options), (error: unknown) => {
        assert.ok(error instanceof GatewayError);
        assert.equal(error.code, code);
        assert.match(error.message, text);
        return true;
      });
    };
    await refused({ snapshot: 'gone' }, 'not-found', /no snapshot "gone": it has here$/);
    await refused({ snapshot: 'here', takeOver: true }, 'invalid-request', /newest state only/);
  });

  it('comes back after every crash between its record, its group and its root', async () => {
    for (let seed = 1; seed <= 12; seed++) {
      const rig = new Rig({ seed });
      const random = new SeededRandom(seed);
      const taken: [string, number][] = [];
      for (let life = 0; life < 6; life++) {
        rig.start();
        for (let batch = 0; batch < 5; batch++) {
          rig.writeRandom(random);
          if (random.fraction() < 0.3) taken.push([`l${life}b${batch}`, snapshot(rig, `l${life}b${batch}`)]);
        }
        const until = random.below(40);
        let steps = 0;
        await rig.until(() => steps++ >= until);
        await rig.kill();
      }
      rig.start();
      await rig.drain();
      await rig.kill();
      for (const [name, lsn] of taken) await restoresExactly(rig, name, lsn);
    }
  });
});
