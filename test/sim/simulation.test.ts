/** A fixed set of seeds, with every change; `npm run sim` plays fresh ones. Each processor plays a part of them. */
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { run } from '../tool/process.js';
import { simulationArguments, storyArguments } from './run-arguments.js';
import { simulate } from './simulation.js';

const long = process.env['KEEPGATE_TEST_LONG'] === '1';
const seeds = long ? 2000 : 60;
const seedsOfPart = seeds / 2;
const operationsMin = 500;
const told = { rounds: long ? 600 : 10, damage: long ? 300 : 6 };
const program = resolve(import.meta.dirname, 'sim.js');
const timeoutMs = 7_200_000;

describe(`the simulation, ${seeds} seeds`, { concurrency: availableParallelism() }, () => {
  for (let first = 1; first <= seeds; first += seedsOfPart) {
    it(`finds no state that must not be, from seed ${first}`, { timeout: timeoutMs }, async (t) => {
      const args = ['--seed', first, '--seeds', seedsOfPart, '--operations', operationsMin].map(String);
      const output = await run(process.execPath, [...simulationArguments, program, ...args], { timeoutMs });
      const played = /^ok +(\d+) seeds from \d+: (\d+) operations/m.exec(output);
      assert.ok(Number(played?.[1]) === seedsOfPart, output);
      assert.ok(Number(played?.[2]) >= seedsOfPart * operationsMin, output);
      t.diagnostic(`${played?.[2]} operations`);
    });
  }

  for (const story of ['rounds', 'damage'] as const) {
    const count = told[story];
    it(`finds none where the story “${story}” is told, ${count} seeds`, { timeout: timeoutMs }, async () => {
      const args = ['--seed', '1', '--seeds', String(count), ...storyArguments(story)];
      const output = await run(process.execPath, [...simulationArguments, program, ...args], { timeoutMs });
      assert.match(output, new RegExp(`^ok +${count} seeds`, 'm'));
    });
  }

  it('plays a seed twice in the same way', async () => {
    // One of each kind of history.
    for (let seed = 31; seed <= 50; seed++) {
      const [first, second] = [await simulate(seed, 100), await simulate(seed, 100)];
      assert.deepEqual(first, second);
    }
  });
});
