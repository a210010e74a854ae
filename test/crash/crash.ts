/** `npm run crash -- [--rounds N] [--seed S]`: kills the gateway under load, again and again; see rounds.ts. */
import { parseArgs } from 'node:util';
import { crashRounds } from './rounds.js';

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '20' }, seed: { type: 'string', default: String(process.pid) } },
});
await crashRounds({ rounds: Number(values.rounds), seed: Number(values.seed), say: (line) => console.log(line) });
