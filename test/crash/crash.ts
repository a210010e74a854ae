/**
 * `npm run crash -- [--rounds N] [--seed S]`: kills the gateway under load, again and again; see rounds.ts. Each run has
 * a fresh seed; a failure prints it, and the commit. The moments of the kills also depend on the machine: a seed repeats
 * the writes, not the instant.
 */
import { parseArgs } from 'node:util';
import { crashRounds } from './rounds.js';
import { chosenSeed, withSeed } from './seed.js';

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '20' }, seed: { type: 'string', default: String(chosenSeed()) } },
});
await withSeed(Number(values.seed), (seed) =>
  crashRounds({ rounds: Number(values.rounds), seed, say: (line) => console.log(line) }),
);
