/** A fixed set of seeds, with every change; `npm run sim` plays fresh ones. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { simulate } from './simulation.js';

const long = process.env['KEEPGATE_TEST_LONG'] === '1';
const seeds = long ? 2000 : 200;
const operationsMin = 500;

describe(`the simulation, ${seeds} seeds`, { timeout: 7_200_000 }, () => {
  it('finds no state that must not be', async (t) => {
    let operations = 0;
    for (let seed = 1; seed <= seeds; seed++) {
      try {
        operations += (await simulate(seed, operationsMin)).operations;
      } catch (error) {
        throw new Error(`seed ${seed}: npm run sim -- --seed ${seed} --seeds 1`, { cause: error });
      }
    }
    t.diagnostic(`${operations} operations`);
    assert.ok(operations >= seeds * operationsMin);
  });

  it('plays a seed twice in the same way', async () => {
    // One of each kind of history.
    for (let seed = 31; seed <= 50; seed++) {
      const [first, second] = [await simulate(seed, 100), await simulate(seed, 100)];
      assert.deepEqual(first, second);
    }
  });
});
