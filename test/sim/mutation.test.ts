/**
 * Each deliberate fault makes the simulation fail within 400 seeds, told the story that leads to it where there is one:
 * where one does not, the simulation is blind. A seed that once showed it is played first. The long test looks for all of
 * them without stories as well.
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

/** What the histories from a seed on say of the fault. */
async function play(patches: readonly SourcePatch[], first: number, count: number, args: readonly string[]) {
  const seeds = ['--seed', String(first), '--seeds', String(count)];
  const run = await attempt(process.execPath, [...patchArguments, ...simulationArguments, program, ...seeds, ...args], {
    env: patchEnvironment(patches),
    timeoutMs,
  });
  // A change that makes no sense as a program any more is no fault that was found.
  assert.doesNotMatch(run.stderr, /^(Type|Reference|Syntax|Range)Error/m);
  const found = /^FAILED {2}seed (\d+)/m.exec(run.stderr)?.[1];
  return { found, said: `${run.stdout}${run.stderr}` };
}

async function mustFind(patches: readonly SourcePatch[], count: number, args: readonly string[]): Promise<string> {
  const { found, said } = await play(patches, 1, count, args);
  return found ?? assert.fail(`not found:\n${said}`);
}

describe('the simulation finds each deliberate fault', { concurrency: availableParallelism() }, () => {
  for (const { name, patches, kinds, story, seed } of mutations) {
    it(name, { timeout: timeoutMs }, async (t) => {
      const byChance = ['--kinds', kinds.join(',')];
      const args = story === undefined ? byChance : storyArguments(story);
      const known = seed === undefined ? undefined : (await play(patches, seed, 1, args)).found;
      if (known === undefined) {
        const found = await mustFind(patches, seedsMax, args);
        if (seed !== undefined) t.diagnostic(`seed ${seed} shows it no more, seed ${found} does`);
      }
      if (long && story !== undefined) await mustFind(patches, seedsByChanceMax, byChance);
    });
  }
});
