/** Each deliberate fault makes the simulation fail within 200 seeds: where one does not, the simulation is blind. */
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { attempt } from '../tool/process.js';
import { patchArguments, patchEnvironment } from '../tool/source-patch.js';
import { mutations } from './mutations.js';

const program = resolve(import.meta.dirname, 'sim.js');
const seedsMax = 200;

describe('the simulation finds each deliberate fault', { concurrency: availableParallelism() }, () => {
  for (const { name, patches, kinds } of mutations) {
    it(name, { timeout: 900_000 }, async () => {
      const args = ['--seed', '1', '--seeds', String(seedsMax), '--kinds', kinds.join(',')];
      const run = await attempt(process.execPath, [...patchArguments, program, ...args], {
        env: patchEnvironment(patches),
        timeoutMs: 900_000,
      });
      assert.match(run.stderr, /^FAILED {2}seed \d+/m, `not found:\n${run.stdout}${run.stderr}`);
    });
  }
});
