/** Load with every fault of a store mixed, restores meanwhile and at the end; half an hour in the long test. */
import { describe, it } from 'node:test';
import { faultRun } from './fault-run.js';
import { chosenSeed, withSeed } from './seed.js';

const long = process.env['KEEPGATE_TEST_LONG'] === '1';

describe('a store that does everything wrong', () => {
  it('gives a prefix with every restore during the load, and everything after a drain', async (t) => {
    await withSeed(chosenSeed(), async (seed) => {
      await faultRun({
        seconds: long ? 1800 : 30,
        seed,
        store: 'disk',
        writesPerSecondMax: 300,
        say: (line) => t.diagnostic(line),
      });
    });
  });
});
