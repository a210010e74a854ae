/**
 * A process that dies between two steps whose order a promise hangs on (failpoint.ts), each by itself: then every
 * acknowledged write is there (P1), in the bucket as well (P2); a restore that died is refused and can be repeated (P9).
 *
 * What a start costs is most of these tests' time: the process that proves what one death left is the one that dies
 * next, at a failpoint that is armed only once the proof is over.
 */
import assert from 'node:assert/strict';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import {
  dieAt,
  failpointAfterRestore,
  failpointsInOrderlyEnd,
  failpointsInOwnership,
  failpointsInRecovery,
  failpointsInRestore,
  failpointsUnderLoad,
  type Failpoint,
} from './failpoint.js';
import { CrashRig, type Protocol } from './rig.js';
import { chosenSeed, withSeed } from './seed.js';

/** A load that has not led to a failpoint by then never will. */
const writesMax = 60_000;
const sizeMiB = 16;

function protocolOf(index: number): Protocol {
  return index % 2 === 0 ? 'nbd' : 'iscsi';
}

describe('a process that dies at a failpoint', () => {
  const seed = chosenSeed();
  let rig: CrashRig;
  let armFile: string;
  before(async () => {
    rig = await CrashRig.start({ seed, sizeMiB, whenFull: 'throttle' });
    armFile = join(rig.gateway.folder, 'armed');
  });
  after(async () => {
    await rig.gateway.dispose();
  });

  /** A process that will die at the failpoint once it is armed; until then it is as any other. */
  const startMortal = async (failpoint: Failpoint): Promise<void> => {
    await rm(armFile, { force: true });
    await rig.gateway.startAgain({ patches: dieAt(failpoint, { random: rig.random, armedBy: armFile }) });
  };
  const arm = (): Promise<void> => writeFile(armFile, '');
  const assertDied = async (): Promise<void> => {
    assert.equal(await rig.gateway.died(), 'SIGKILL', rig.explain());
  };

  for (const [index, failpoint] of failpointsUnderLoad.entries()) {
    it(`under load: ${failpoint.name}`, () =>
      withSeed(seed, async () => {
        const before = index === 0 ? 'the first start' : (failpointsUnderLoad[index - 1]?.name ?? '');
        await rig.gateway.kill();
        await startMortal(failpoint);
        await rig.verify(protocolOf(index), `died before: ${before}`);
        await arm();
        // Rejected: dead before the first connection was up.
        const end = await rig.load(protocolOf(index), (count) => count < writesMax).catch(() => undefined);
        const count = end?.acknowledged ?? 0;
        assert(count < writesMax, `${count} writes did not lead there\n${rig.explain()}`);
        await assertDied();
      }));
  }

  for (const failpoint of failpointsInOwnership) {
    it(`with the first upload: ${failpoint.name}`, () =>
      withSeed(seed, async () => {
        const patches = dieAt(failpoint, { random: rig.random });
        const opened = rig.gateway.startAgain({ patches }).then(() => rig.load('nbd', (count) => count < writesMax));
        // Rejected: dead before the volume was open, or before the first connection.
        const end = await opened.catch(() => undefined);
        assert(end === undefined || end.acknowledged < writesMax, `not reached\n${rig.explain()}`);
        await assertDied();
      }));
  }

  for (const failpoint of failpointsInOrderlyEnd) {
    it(`after SIGTERM: ${failpoint.name}`, () =>
      withSeed(seed, async () => {
        await startMortal(failpoint);
        await rig.verify('nbd', 'died before, with the first upload');
        const enough = rig.draw(2000);
        await rig.load('iscsi', (count) => count < enough);
        await arm();
        await rig.gateway.stop();
        await assertDied();
      }));
  }

  it('in recovery, one opening after the other, each of which goes on with what the last one left', () =>
    withSeed(seed, async () => {
      await rig.gateway.startAgain({ patches: [] });
      await rig.verify('iscsi', 'died before, after SIGTERM');
      await rig.loadAndKill('nbd', rig.draw(2000));
      for (const failpoint of failpointsInRecovery) {
        const patches = dieAt(failpoint, { random: rig.random });
        // Where the last sync had covered everything, there is nothing to write again, and it serves: once more.
        for (let tries = 1; ; tries++) {
          const end = await rig.gateway.startAgain({ patches }).then(
            () => undefined,
            (error: unknown) => String(error),
          );
          if (end !== undefined) {
            assert.match(end, /the gateway ended/, failpoint.name);
            break;
          }
          assert(tries < 20, `${failpoint.name}: not reached\n${rig.explain()}`);
          await rig.loadAndKill('nbd', rig.draw(2000));
        }
        assert.equal(await rig.gateway.died(), 'SIGKILL', `${failpoint.name}\n${rig.explain()}`);
      }
      await rig.gateway.startAgain({ patches: [] });
      await rig.verify('nbd', 'died before, in recovery');
    }));

  it('the bucket gives all of it back', () =>
    withSeed(seed, async () => {
      await rig.loseDataDirectory();
      const restored = await rig.restore();
      assert.equal(restored.status, 0, `${restored.stdout}${restored.stderr}`);
      await rig.gateway.startAgain();
      await rig.verify('nbd', 'restored');
    }));
});

describe('a restore that dies at a failpoint', () => {
  const seed = chosenSeed();
  let rig: CrashRig;
  let directory: string;
  before(async () => {
    rig = await CrashRig.start({ seed, sizeMiB, whenFull: 'throttle' });
    directory = join(rig.gateway.dataDir, 'volumes', rig.volume);
    await rig.load('nbd', (count) => count < 1500);
    await rig.loseDataDirectory();
  });
  after(async () => {
    await rig.gateway.dispose();
  });

  const restoreAgain = async (): Promise<void> => {
    const restored = await rig.restore();
    assert.equal(restored.status, 0, `${restored.stdout}${restored.stderr}`);
    await rig.verifyImage(join(directory, 'image'), 'restored again');
  };

  const pins = async (): Promise<string[]> =>
    (await readdir(rig.gateway.storeDirectory, { recursive: true })).filter((name) => /\/pins\/./.test(name));

  for (const [index, failpoint] of failpointsInRestore.entries()) {
    it(`${failpoint.name}: refused, and restored again`, () =>
      withSeed(seed, async () => {
        const { gateway } = rig;
        await rm(gateway.dataDir, { recursive: true, force: true });
        const died = await rig.restore({ patches: dieAt(failpoint, { random: rig.random }) });
        assert.equal(died.signal, 'SIGKILL', `${died.stdout}${died.stderr}`);
        // Nothing of it is taken for a volume, nor in the way of one.
        if (index % 2 === 1) {
          await assert.rejects(gateway.startAgain(), /already holds a volume/);
          await gateway.died();
          assert.ok(!(await readdir(join(gateway.dataDir, 'volumes'))).includes(rig.volume));
        }
        // The last one needs nothing of the bucket any more.
        assert.equal((await pins()).length > 0, failpoint !== failpointsInRestore.at(-1));
        await restoreAgain();
        assert.deepEqual(await pins(), [], 'the pin of a restore that died is taken back by the next');
      }));
  }

  it('a directory that a restore has begun is in the way of the next one, which overwrites nothing', () =>
    withSeed(seed, async () => {
      await rm(join(directory, 'volume.json'));
      const refused = await rig.restore();
      assert.notEqual(refused.status, 0);
      assert.match(refused.stderr, /nothing was overwritten/);
      await rm(directory, { recursive: true });
    }));

  it('volume.json is there, and the restore has not said so: served', () =>
    withSeed(seed, async () => {
      const died = await rig.restore({ patches: dieAt(failpointAfterRestore, { random: rig.random }) });
      assert.equal(died.signal, 'SIGKILL', `${died.stdout}${died.stderr}`);
      await rig.gateway.startAgain();
      await rig.verify('iscsi', 'after a restore that did not say that it was over');
    }));
});
