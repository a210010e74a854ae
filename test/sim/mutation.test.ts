/**
 * Each deliberate fault makes the simulation fail within 400 seeds, told the story that leads to it where there is one: where one
 * does not, the simulation is blind. The long test looks for all of them without stories as well.
 */
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { attempt } from '../tool/process.js';
import { patchArguments, patchEnvironment, type SourcePatch } from '../tool/source-patch.js';
import { mutations } from './mutations.js';
import { simulationArguments, storyArguments } from './run-arguments.js';

const program = resolve(import.meta.dirname, 'sim.js');
const seedsMax = 400;
/** Without the story that leads to it. */
const seedsByChanceMax = 1000;
const long = process.env['KEEPGATE_TEST_LONG'] === '1';
const timeoutMs = long ? 7_200_000 : 900_000;

async function mustFind(patches: readonly SourcePatch[], args: readonly string[]): Promise<void> {
  const run = await attempt(process.execPath, [...patchArguments, ...simulationArguments, program, ...args], {
    env: patchEnvironment(patches),
    timeoutMs,
  });
  assert.match(run.stderr, /^FAILED {2}seed \d+/m, `not found:\n${run.stdout}${run.stderr}`);
  // A change that makes no sense as a program any more is no fault that was found.
  assert.doesNotMatch(run.stderr, /^(Type|Reference|Syntax|Range)Error/m);
}

describe('the simulation finds each deliberate fault', { concurrency: availableParallelism() }, () => {
  for (const { name, patches, kinds, story } of mutations) {
    it(name, { timeout: timeoutMs }, async () => {
      const byChance = ['--seed', '1', '--kinds', kinds.join(',')];
      if (story === undefined) return mustFind(patches, [...byChance, '--seeds', String(seedsMax)]);
      await mustFind(patches, ['--seed', '1', '--seeds', String(seedsMax), ...storyArguments(story)]);
      if (long) await mustFind(patches, [...byChance, '--seeds', String(seedsByChanceMax)]);
    });
  }
});
