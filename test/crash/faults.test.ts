/**
 * Load with every fault of a store mixed, restores meanwhile and at the end. In the long test half an hour against the
 * objects of a directory and half an hour against Ceph; KEEPGATE_TEST_FAULT_MINUTES says otherwise.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { cephTools } from '../tool/ceph.js';
import { suite } from '../tool/suite.js';
import { faultRun, type FaultRunOptions } from './fault-run.js';
import { chosenSeed, withSeed } from './seed.js';

const long = process.env['KEEPGATE_TEST_LONG'] === '1';
const minutes = Number(process.env['KEEPGATE_TEST_FAULT_MINUTES'] ?? (long ? 30 : 0.5));

function everythingWrong(store: FaultRunOptions['store']): void {
  it('gives a prefix with every restore during the load, and everything after a drain', async (t) => {
    await withSeed(chosenSeed(), async (seed) => {
      const { acknowledged, restores } = await faultRun({
        seconds: minutes * 60,
        seed,
        store,
        writesPerSecondMax: 300,
        say: (line) => t.diagnostic(line),
      });
      assert.ok(acknowledged > 0 && restores > 0, 'something was written, and something judged');
    });
  });
}

describe('a store that does everything wrong, its objects in a directory', () => everythingWrong('disk'));

const onCeph = 'a store that does everything wrong, Ceph';
if (long) suite(onCeph, cephTools, () => everythingWrong('ceph'));
else describe(onCeph, { skip: 'in npm run test:long' }, () => undefined);
