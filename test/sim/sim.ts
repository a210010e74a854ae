/**
 * `npm run sim -- [--minutes N | --seeds N] [--seed S] [--operations N]`: fresh seeds, until one fails. A failure prints
 * its seed and the commit; `--seed S --seeds 1` plays it again.
 */
import { execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { simulate } from './simulation.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string' },
    seeds: { type: 'string' },
    seed: { type: 'string' },
    operations: { type: 'string', default: '500' },
    verbose: { type: 'boolean', default: false },
  },
});

function commit(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim();
  } catch {
    return 'unknown';
  }
}

const first = Number(values.seed ?? randomInt(2 ** 31));
const untilMs = values.minutes === undefined ? Infinity : performance.now() + Number(values.minutes) * 60_000;
const count = Number(values.seeds ?? (values.minutes === undefined ? '200' : 'Infinity'));
let operations = 0;
let crashes = 0;
let restores = 0;
let played = 0;
for (; played < count && performance.now() < untilMs; played++) {
  const seed = first + played;
  const current = { seed };
  process.once('unhandledRejection', fail);
  try {
    const result = await simulate(seed, Number(values.operations));
    operations += result.operations;
    crashes += result.crashes;
    restores += result.restores;
    if (values.verbose) console.log(JSON.stringify(result));
  } catch (error) {
    fail(error);
  }
  process.off('unhandledRejection', fail);
  if (played % 50 === 49)
    console.log(
      `${played + 1} seeds from ${first}: ${operations} operations, ${crashes} crashes, ${restores} restores`,
    );

  function fail(error: unknown): never {
    console.error(`FAILED  seed ${current.seed}, commit ${commit()}: npm run sim -- --seed ${current.seed} --seeds 1`);
    console.error(error);
    process.exit(1);
  }
}
console.log(
  `ok      ${played} seeds from ${first}: ${operations} operations, ${crashes} crashes, ${restores} restores`,
);
