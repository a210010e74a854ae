/**
 * `npm run fuzz -- [--minutes 10] [--cases N] [--seed N] [--corpus FILE] [--keep]`: an initiator that does what comes to its
 * mind, against the iSCSI target over volumes in memory. Cases are made from nothing, or from those that showed something
 * new; --keep adds these to the corpus, which `npm test` runs again. A case that fails is printed as it would be kept.
 *
 * What counts: no exception, no hang, no answer that the state forbids (iscsi-judge.ts), nothing kept of what is over, and a
 * well-behaved initiator served after each case. Memory is read after a collection of all garbage, every thousand cases.
 */
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { SeededRandom } from '../fake/random.js';
import { corpusFile, keepCase, readCorpus } from './corpus.js';
import { makeCase, mutateCase, type Case } from './iscsi-case.js';
import { runIscsiCase } from './iscsi-run.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    cases: { type: 'string', default: 'Infinity' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    corpus: { type: 'string', default: corpusFile },
    keep: { type: 'boolean', default: false },
  },
});

const CASES_BETWEEN_LOOKS = 1000;
const MEBIBYTE = 1024 * 1024;
const say = (line: string): boolean => process.stdout.write(`${line}\n`);

async function main(): Promise<void> {
  const random = new SeededRandom(Number(values.seed));
  const corpus = await readCorpus(values.corpus);
  const seen = new Set<string>();
  say(`seed ${values.seed}, ${corpus.length} cases kept`);
  const known = corpus.length;
  const endMs = performance.now() + Number(values.minutes) * 60_000;
  const memory: number[] = [];
  let cases = 0;
  for (; cases < known || (performance.now() < endMs && cases < Number(values.cases)); cases++) {
    const next = corpus[cases < known ? cases : -1] ?? choose(corpus, random);
    const words = await attempt(next);
    if (words === undefined) return;
    const isNew = words.some((word) => !seen.has(word));
    for (const word of words) seen.add(word);
    if (isNew && cases >= known) {
      corpus.push(next);
      if (values.keep) await keepCase(values.corpus, next);
    }
    if (cases % CASES_BETWEEN_LOOKS !== 0) continue;
    memory.push(usedBytes());
    say(`${cases} cases, ${seen.size} things seen, ${((memory.at(-1) ?? 0) / MEBIBYTE).toFixed(1)} MiB`);
  }
  const grown = ((memory.at(-1) ?? 0) - (memory[1] ?? 0)) / MEBIBYTE;
  say(`ok: ${cases} cases, ${seen.size} things seen, memory ${grown < 0 ? '' : '+'}${grown.toFixed(1)} MiB`);
}

function choose(corpus: readonly Case[], random: SeededRandom): Case {
  const from = random.fraction() < 0.6 ? corpus[random.below(corpus.length)] : undefined;
  return from === undefined ? makeCase(random) : mutateCase(from, random);
}

async function attempt(next: Case): Promise<readonly string[] | undefined> {
  try {
    return await runIscsiCase(next);
  } catch (error) {
    say(`FAILED, seed ${values.seed}: ${String((error as Error).stack)}\n${JSON.stringify(next)}`);
    process.exitCode = 1;
    return undefined;
  }
}

function usedBytes(): number {
  (globalThis as { gc?: () => void }).gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

await main();
