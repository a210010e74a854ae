/**
 * `npm run fuzz -- [nbd|iscsi] [--minutes 10] [--cases N] [--seed N] [--corpus FILE] [--keep]`: clients that do what comes
 * to their mind, against the NBD server and the iSCSI target over volumes in memory; without a name both in turn. --keep
 * adds to the corpus what showed something new, and `npm test` plays that again. A case that fails is printed as it would
 * be kept.
 *
 * What counts: no exception, no hang, no answer that the state forbids (*-judge.ts), nothing kept of what is over, and a
 * well-behaved client served. Memory is read after a collection of all garbage, every thousand cases, and may not grow.
 */
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { SeededRandom } from '../fake/random.js';
import { Campaign, CaseError, protocols } from './campaign.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: 'string', default: '10' },
    cases: { type: 'string', default: 'Infinity' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    corpus: { type: 'string' },
    keep: { type: 'boolean', default: false },
  },
});

const CASES_BETWEEN_LOOKS = 1000;
const MEBIBYTE = 1024 * 1024;
/** Beside what is kept of cases that showed something new. */
const GROWTH_BYTES_MAX = 48 * MEBIBYTE;
const say = (line: string): boolean => process.stdout.write(`${line}\n`);

async function main(): Promise<void> {
  const random = new SeededRandom(Number(values.seed));
  const wanted = protocols.filter((name) => positionals.length === 0 || positionals.includes(name));
  if (wanted.length === 0 || positionals.some((name) => !wanted.some((each) => each === name)))
    throw new Error(`there is ${protocols.join(' and ')}`);
  const { corpus: file, keep } = values;
  const campaigns = await Promise.all(wanted.map((name) => Campaign.start(name, { file, keep })));
  say(`seed ${values.seed}, ${campaigns.map(({ name, known }) => `${name}: ${known} cases kept`).join(', ')}`);
  const endMs = performance.now() + Number(values.minutes) * 60_000;
  const memory: number[] = [];
  let cases = 0;
  for (; ; cases++) {
    const campaign = campaigns.find((each) => each.cases < each.known) ?? campaigns[cases % campaigns.length];
    if (campaign === undefined) break;
    const isOver = performance.now() >= endMs || cases >= Number(values.cases);
    if (campaign.cases >= campaign.known && isOver) break;
    await campaign.next(random);
    if (cases % CASES_BETWEEN_LOOKS !== 0) continue;
    memory.push(usedBytes());
    say(`${counts(campaigns)}, ${((memory.at(-1) ?? 0) / MEBIBYTE).toFixed(1)} MiB`);
  }
  const grown = usedBytes() - (memory[1] ?? Infinity);
  if (grown > GROWTH_BYTES_MAX) throw new CaseError(`memory grew by ${(grown / MEBIBYTE).toFixed(1)} MiB`);
  say(`ok: ${counts(campaigns)}${memory.length > 1 ? `, memory ${(grown / MEBIBYTE).toFixed(1)} MiB more` : ''}`);
}

function counts(campaigns: readonly Campaign[]): string {
  return campaigns.map(({ name, cases, seen }) => `${name}: ${cases} cases, ${seen.size} things seen`).join(', ');
}

function usedBytes(): number {
  (globalThis as { gc?: () => void }).gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

try {
  await main();
} catch (error) {
  if (!(error instanceof CaseError)) throw error;
  say(`FAILED, seed ${values.seed}: ${error.message}`);
  // What the case left open need not come to its end.
  process.exit(1);
}
