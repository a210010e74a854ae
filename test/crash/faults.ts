/** `npm run faults -- [--minutes N] [--seed S] [--store disk|ceph]`: see fault-run.ts. */
import { parseArgs } from 'node:util';
import { faultRun } from './fault-run.js';
import { chosenSeed, withSeed } from './seed.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    seed: { type: 'string', default: String(chosenSeed()) },
    store: { type: 'string', default: 'disk' },
    writes: { type: 'string', default: '300' },
  },
});
const began = performance.now();
const say = (line: string): void => console.log(`${Math.round((performance.now() - began) / 1000)} s  ${line}`);
await withSeed(Number(values.seed), async (seed) => {
  say(`seed ${seed}`);
  await faultRun({
    seconds: Number(values.minutes) * 60,
    seed,
    store: values.store === 'ceph' ? 'ceph' : 'disk',
    writesPerSecondMax: Number(values.writes),
    say,
  });
});
