/** An outage that is too long for the buffer; 2 GiB of overwrites in the long test. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { longOutage } from './long-outage.js';
import { chosenSeed, withSeed } from './seed.js';

const long = process.env['KEEPGATE_TEST_LONG'] === '1';

describe('a store that is down for longer than the buffer lasts', () => {
  it(
    'costs no client an error, and comes to its moments by rounds, over a kill in one',
    { timeout: 1_800_000 },
    async (t) => {
      await withSeed(chosenSeed(), async (seed) => {
        const { recoveryPoints } = await longOutage({
          seed,
          mebibytes: long ? 2048 : 160,
          say: (line) => t.diagnostic(line),
        });
        assert.ok(recoveryPoints >= 3);
      });
    },
  );
});
