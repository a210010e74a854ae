/**
 * Every operation of the replicator on the local disk fails in turn, while it keeps the map for checkpoints: a failure
 * costs a checkpoint, or a start that says why, and never what the bucket gives back.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError, type ErrorCode } from '../../../src/base/errors.js';
import { SeededRandom } from '../../fake/random.js';
import { BLOCK, remoteImage, Rig } from '../../fake/replication-rig.js';

interface FaultRun {
  readonly operations: number;
  readonly failed: string;
  readonly fatal: ErrorCode | undefined;
  readonly checkpoints: number;
}

const blocks = 256;
const long = process.env['KEEPGATE_TEST_LONG'] === '1';
/** The short run tries some: every fourth operation, and less of want of space, which is treated as any other failure here. */
const strides = { 'disk-full': long ? 1 : 16, 'disk-failed': long ? 1 : 4 };

/** Two lives, each with enough groups for a checkpoint or two. The operation with that ordinal (from 1) fails. */
async function run(ordinal: number, code: ErrorCode): Promise<FaultRun> {
  const rig = new Rig({ seed: 5, blocks });
  const random = new SeededRandom(6);
  let operations = 0;
  let failed = '';
  let fatal: ErrorCode | undefined;
  let lastPath = '';
  rig.disk.hook = (operation, path) => {
    operations += 1;
    // A directory is synced for the file that was changed before.
    if (path !== '.') lastPath = path;
    if (operations !== ordinal) return;
    failed = `${operation} ${lastPath}`;
    throw new GatewayError(code, `${failed}: made to fail`);
  };
  for (let life = 0; life < 2; life += 1) {
    rig.start();
    for (let round = 0; round < 20 && fatal === undefined; round += 1) {
      rig.writeRandom(random);
      const drained = rig.drain();
      await drained.catch((error: unknown) => {
        const end = rig.ended();
        if (end?.type !== 'fatal') throw error;
        fatal = end.code;
      });
    }
    await rig.kill();
  }
  rig.disk.hook = () => undefined;
  rig.start();
  await rig.drain();
  const { image } = await remoteImage(rig.store, rig.config.uuid, blocks * BLOCK);
  assert.deepEqual(image, rig.log.imageAt(rig.log.lastLsn), `${failed}: the bucket gives back what was written`);
  const checkpoints = rig.store.keys(rig.config.uuid).filter((key) => key.includes('/checkpoints/')).length;
  await rig.kill();
  return { operations, failed, fatal, checkpoints };
}

describe('replicator on a failing disk', () => {
  for (const code of ['disk-full', 'disk-failed'] as const) {
    it(`operations end with ${code} in turn`, { timeout: 600_000 }, async (t) => {
      const { operations, checkpoints } = await run(0, code);
      assert.ok(checkpoints > 0);
      for (let ordinal = 1; ordinal <= operations; ordinal += strides[code]) {
        const { failed, fatal } = await run(ordinal, code);
        if (/ map(\.redo)?$/.test(failed)) assert.equal(fatal, undefined, `${failed} ended the replicator`);
        else t.diagnostic(`operation ${ordinal}, ${failed}: ${fatal ?? 'goes on'}`);
      }
    });
  }
});
