/** A round that was given up does not go on, whenever the machine crashes (P2), and a fault in that is found. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { attempt } from '../tool/process.js';
import { patchArguments, patchEnvironment } from '../tool/source-patch.js';
import { subsetsOf, type CrashPoint } from './crash-point.js';
import { tryGivenUpRound, type GivenUpRound } from './given-up-round.js';

const long = process.env['KEEPGATE_TEST_LONG'] === '1';
const title = 'every operation of the disk since a round began may be the last one before it is given up, or after';

async function play(point: CrashPoint): Promise<GivenUpRound | undefined> {
  try {
    return await tryGivenUpRound(point);
  } catch (error) {
    throw new Error(`crash point ${JSON.stringify(point)}: ${String(error)}`, { cause: error });
  }
}

it(title, { timeout: 3_600_000 }, async (t) => {
  let operation = 0;
  let crashes = 0;
  let wentOn = 0;
  for (; ; operation++) {
    const killed = await play({ operation, how: 'kill' });
    if (killed === undefined) break;
    const subsets = subsetsOf(killed.unsynced);
    const hows = long ? Array.from({ length: subsets }, (_, how) => how) : [operation % subsets];
    const outcomes: (GivenUpRound | undefined)[] = [killed];
    for (const how of hows) {
      // Now and then the recovery is crashed as well.
      const again = (7 * operation + how) % 60;
      outcomes.push(await play((operation + how) % 3 === 0 ? { operation, how, again } : { operation, how }));
    }
    for (const outcome of outcomes) {
      crashes++;
      if (outcome?.wentOn === true) wentOn++;
    }
  }
  t.diagnostic(`${operation} operations, ${crashes} crashes, after ${wentOn} of which the round went on`);
  assert.ok(operation > 50 && wentOn > 30 && wentOn < crashes, `${operation} operations, it went on ${wentOn} times`);
});

it('finds the fault “give a round up and let the next start go on with it”', { timeout: 900_000 }, async () => {
  const removal = 'await removeSpill(this.options.disk);\n        this.round = undefined;';
  const fault = { file: 'src/engine/rounds.js', find: removal, replace: 'this.round = undefined;' };
  const only = ['--test-reporter=tap', '--test-name-pattern', `^${title}$`];
  const run = await attempt(process.execPath, [...patchArguments, ...only, import.meta.filename], {
    env: { ...patchEnvironment([fault]), NODE_TEST_CONTEXT: '' },
    timeoutMs: 900_000,
  });
  assert.match(run.stdout, /crash point .*: Violation: what the bucket gives back .* is no state of the volume/);
});
