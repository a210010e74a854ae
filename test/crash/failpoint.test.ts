/**
 * A process that dies between two steps whose order a promise hangs on (failpoint.ts), each by itself: then every
 * acknowledged write is there (P1), in the bucket as well (P2); a restore that died is refused and can be repeated (P9).
 */
import assert from 'node:assert/strict';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import {
  dieAt,
  failpointsInOrderlyEnd,
  failpointsInRecovery,
  failpointsInRestore,
  failpointsUnderLoad,
  type Failpoint,
} from './failpoint.js';
import { CrashRig, type Protocol } from './rig.js';
import { chosenSeed, withSeed } from './seed.js';

/** A load that has not led to a failpoint by then never will. */
const writesMax = 60_000;
const unchanged = { patches: [] };

function protocolOf(index: number): Protocol {
  return index % 2 === 0 ? 'nbd' : 'iscsi';
}

describe('a process that dies at a failpoint', () => {
  const seed = chosenSeed();
  let rig: CrashRig;
  before(async () => {
    rig = await CrashRig.start({ seed });
  });
  after(async () => {
    await rig.gateway.dispose();
  });

  const patchesOf = ({ passagesMax = 1, ...failpoint }: Failpoint) => ({
    patches: dieAt(failpoint, rig.draw(passagesMax)),
  });

  /** The process must be dead by its own hand, and what it leaves behind must be right. */
  const verifyAfterDeath = async (protocol: Protocol): Promise<void> => {
    assert.equal(await rig.gateway.died(), 'SIGKILL', rig.explain());
    await rig.gateway.startAgain(unchanged);
    await rig.verify(protocol, 'after the restart');
  };

  for (const [index, failpoint] of failpointsUnderLoad.entries()) {
    it(`under load: ${failpoint.name}`, () =>
      withSeed(seed, async () => {
        const protocol = protocolOf(index);
        await rig.gateway.stop();
        await rig.gateway.startAgain(patchesOf(failpoint));
        const end = await rig.load(protocol, (count) => count < writesMax);
        assert(end.acknowledged < writesMax, `${end.acknowledged} writes did not lead there\n${rig.explain()}`);
        await verifyAfterDeath(protocol);
      }));
  }

  for (const [index, failpoint] of failpointsInRecovery.entries()) {
    it(`in recovery: ${failpoint.name}`, () =>
      withSeed(seed, async () => {
        const protocol = protocolOf(index);
        await rig.loadAndKill(protocol, rig.draw(2000));
        await assert.rejects(rig.gateway.startAgain(patchesOf(failpoint)), /the gateway ended/);
        await verifyAfterDeath(protocol);
      }));
  }

  for (const [index, failpoint] of failpointsInOrderlyEnd.entries()) {
    it(`after SIGTERM: ${failpoint.name}`, () =>
      withSeed(seed, async () => {
        const protocol = protocolOf(index);
        await rig.gateway.stop();
        await rig.gateway.startAgain(patchesOf(failpoint));
        const enough = rig.draw(2000);
        await rig.load(protocol, (count) => count < enough);
        await rig.gateway.stop();
        await verifyAfterDeath(protocol);
      }));
  }

  it('the bucket gives all of it back', () =>
    withSeed(seed, async () => {
      await rig.loseDataDirectory();
      const restored = await rig.restore();
      assert.equal(restored.status, 0, `${restored.stdout}${restored.stderr}`);
      await rig.gateway.startAgain(unchanged);
      await rig.verify('nbd', 'restored');
    }));
});

describe('a restore that dies at a failpoint', () => {
  const seed = chosenSeed();
  let rig: CrashRig;
  let directory: string;
  before(async () => {
    rig = await CrashRig.start({ seed });
    directory = join(rig.gateway.dataDir, 'volumes', rig.volume);
    await rig.load('nbd', (count) => count < 3000);
    await rig.loseDataDirectory();
  });
  after(async () => {
    await rig.gateway.dispose();
  });

  for (const { directory: left, passagesMax = 1, ...failpoint } of failpointsInRestore) {
    it(`${failpoint.name}: what is left is ${left === 'whole' ? 'served' : 'refused'}, and restored again`, () =>
      withSeed(seed, async () => {
        const { gateway } = rig;
        await rm(gateway.dataDir, { recursive: true, force: true });
        const died = await rig.restore({ patches: dieAt(failpoint, rig.draw(passagesMax)) });
        assert.equal(died.signal, 'SIGKILL', `${died.stdout}${died.stderr}`);
        if (left === 'whole') {
          await gateway.startAgain();
          await rig.verify('nbd', 'after a restore that was not told to be over');
          await gateway.stop();
          await rm(gateway.dataDir, { recursive: true });
        } else {
          await assert.rejects(
            gateway.startAgain(),
            left === 'none' ? /already holds a volume/ : /volume\.json is missing/,
          );
          await gateway.died();
        }
        if (left === 'begun') {
          const refused = await rig.restore();
          assert.notEqual(refused.status, 0);
          assert.match(refused.stderr, /nothing was overwritten/);
          await rm(directory, { recursive: true });
        }
        const restored = await rig.restore();
        assert.equal(restored.status, 0, `${restored.stdout}${restored.stderr}`);
        assert.deepEqual((await readdir(gateway.dataDir)).includes('restoring'), false);
        await gateway.startAgain();
        await rig.verify('iscsi', 'restored again');
        await gateway.stop();
      }));
  }
});
