/**
 * `npm run sim -- [--minutes N | --seeds N] [--seed S] [--kinds 0,1,…] [--story NAME] [--operations N] [--keep-going]`:
 * fresh seeds, until one fails, or with --keep-going all of them. A failure prints the commit, and how its seed is played again.
 */
import { execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { simulate } from './simulation.js';
import { stories, type StoryName } from './story.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string' },
    seeds: { type: 'string' },
    seed: { type: 'string' },
    operations: { type: 'string', default: '500' },
    /** Of story.ts; default: none. */
    story: { type: 'string' },
    verbose: { type: 'boolean', default: false },
    /** Kinds of history: seed % 20 (profile.ts); default: all, or the story's. */
    kinds: { type: 'string' },
    'keep-going': { type: 'boolean', default: false },
  },
});

function commit(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim();
  } catch {
    return 'unknown';
  }
}

const { story } = values;
if (story !== undefined && !isStory(story))
  throw new Error(`there is no story ${story}, but ${Object.keys(stories).join(', ')}`);

function isStory(name: string): name is StoryName {
  return Object.hasOwn(stories, name);
}

const first = Number(values.seed ?? randomInt(2 ** 31));
const untilMs = values.minutes === undefined ? Infinity : performance.now() + Number(values.minutes) * 60_000;
const count = Number(values.seeds ?? (values.minutes === undefined ? '200' : 'Infinity'));
const again = `${values.operations === '500' ? '' : ` --operations ${values.operations}`}${story === undefined ? '' : ` --story ${story}`}`;
let operations = 0;
let crashes = 0;
let restores = 0;
let takeOvers = 0;
let played = 0;
let failed = 0;
const kindsTold = story === undefined ? undefined : new Set(stories[story].kinds);
const kinds = values.kinds === undefined ? kindsTold : new Set(values.kinds.split(',').map(Number));
for (let seed = first; played < count && performance.now() < untilMs; seed++) {
  if (kinds?.has(seed % 20) === false) continue;
  played++;
  process.once('unhandledRejection', fail);
  try {
    const result = await simulate(seed, Number(values.operations), story);
    operations += result.operations;
    crashes += result.crashes;
    restores += result.restores;
    takeOvers += result.takeOvers;
    if (values.verbose) console.log(JSON.stringify(result));
  } catch (error) {
    fail(error);
  }
  process.off('unhandledRejection', fail);
  if (played % 50 === 0)
    console.log(`${played} seeds from ${first}: ${operations} operations, ${crashes} crashes, ${restores} restores`);

  function fail(error: unknown): void {
    console.error(`FAILED  seed ${seed}, commit ${commit()}: npm run sim -- --seed ${seed} --seeds 1${again}`);
    console.error(error);
    failed++;
    if (!values['keep-going']) process.exit(1);
  }
}
console.log(
  `${failed === 0 ? 'ok     ' : `FAILED  ${failed} of`} ${played} seeds from ${first}: ${operations} operations, ${crashes} crashes, ${restores} restores, ${takeOvers} take-overs`,
);
process.exitCode = failed === 0 ? 0 : 1;
