/** No moment of a short workload is a bad one to crash (P1, P2). */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { subsetsOf, tryCrashPoint, type CrashPoint } from './crash-point.js';

const long = process.env['KEEPGATE_TEST_LONG'] === '1';

async function attempt(point: CrashPoint): Promise<Awaited<ReturnType<typeof tryCrashPoint>>> {
  try {
    return await tryCrashPoint(point);
  } catch (error) {
    throw new Error(`crash point ${JSON.stringify(point)}`, { cause: error });
  }
}

it('every operation of a short workload may be the last one', { timeout: 3_600_000 }, async (t) => {
  let crashes = 0;
  let operation = 0;
  for (; ; operation++) {
    const killed = await attempt({ operation, how: 'kill' });
    if (killed === undefined) break;
    crashes++;
    const subsets = subsetsOf(killed.unsynced);
    for (let how = 0; how < subsets; how++) {
      // Now and then, or always in the long test, the recovery is crashed as well.
      const again = (7 * operation + how) % 60;
      await attempt(long || how % 3 === 0 ? { operation, how, again } : { operation, how });
      crashes++;
    }
  }
  assert.ok(operation > 60, `the workload has ${operation} operations only`);
  t.diagnostic(`${operation} operations, ${crashes} crashes`);
});
