/**
 * Deliberate faults in what docs/threat-model.md rests on: each one is made in the compiled program of a child process,
 * and the test that is named for it must fail. Faults of replication that the simulation finds are in mutations.ts.
 */
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { attempt } from '../tool/process.js';
import { patchArguments, patchEnvironment, type SourcePatch } from '../tool/source-patch.js';

interface TrustMutation {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** Below test/unit, and the title of the test that must fail. */
  readonly test: string;
  readonly title: string;
}

const start = 'remote/receipt-start';
const takeover = 'remote/takeover';

const mutations: readonly TrustMutation[] = [
  {
    name: 'ignore the receipt that was kept elsewhere',
    file: 'remote/replicator-attach',
    find: 'if (receipts.has(receipt) && receipt.number <= state.segmentNumber)',
    replace: 'if (true)',
    test: start,
    title: 'refuses a bucket and a directory that were rolled back together',
  },
  {
    name: 'accept a bucket that is older than the receipt',
    file: 'remote/receipt-proof',
    find: 'if (met && headMet)',
    replace: 'if (true)',
    test: start,
    title: 'refuses a history that does not descend from it',
  },
  {
    name: 'take a directory that is older than the receipt for good',
    file: 'remote/replicator-attach',
    find: 'if (receipt.lsn <= durable.durableLsn)',
    replace: 'if (true)',
    test: start,
    title: 'refuses a directory that is older than it',
  },
  {
    name: 'take a receipt that nobody signed',
    file: 'remote/receipt',
    find: 'if (timingSafeEqual(macOf(sealer, receipt), receipt.mac))',
    replace: 'if (true)',
    test: 'remote/receipt',
    title: 'is refused when it is something else, or was made without the volume’s key',
  },
  {
    name: 'restore in spite of a receipt',
    file: 'remote/restore-history',
    find: 'if (!met && receipt !== undefined)',
    replace: 'if (false)',
    test: 'remote/restore',
    title: 'holds the bucket to a receipt',
  },
  {
    name: 'show a receipt before it is durable',
    file: 'remote/receipt-keeper',
    find: "await this.#disk.writeSmall(RECEIPTS_FILE, Buffer.from(kept.map(formatReceipt).join('')));",
    replace: '',
    test: start,
    title: 'are kept durably before anybody sees them, and are not made twice of one point',
  },
  {
    name: 'leave receipts out of checkpoints',
    file: 'remote/checkpoint-writer',
    find: 'receipts: this.#options.receipts.upTo(position, book.receipts)',
    replace: 'receipts: []',
    test: start,
    title: 'stand in every later checkpoint',
  },
  {
    name: 'never look after the bucket while running',
    file: 'remote/receipt-desk',
    find: 'await watch(newest);',
    replace: '',
    test: start,
    title: 'let a running owner notice that its bucket was rolled back',
  },
  {
    name: 'take over a directory that diverged',
    file: 'remote/ownership',
    find: 'if (event.same)',
    replace: 'if (true)',
    test: takeover,
    title: 'is refused where both went on, changes nothing, and says what each side would lose',
  },
  {
    name: 'forget that it was fenced before it owns again',
    file: 'remote/replicator',
    find: 'this.#owned = await this.#takeOwnership(remote);\n        }\n        catch',
    replace: 'this.#progress.tookOver();\nthis.#owned = await this.#takeOwnership(remote);\n        }\n        catch',
    test: takeover,
    title: 'is refused where both went on, changes nothing, and says what each side would lose',
  },
  {
    name: 'take over while a life goes on',
    file: 'remote/replication-worker-core',
    find: 'before === undefined || !this.#over',
    replace: 'before === undefined',
    test: takeover,
    title: 'is nothing that an owner does',
  },
  {
    name: 'remove the last key that opens',
    file: 'remote/key-ring',
    find: 'const kept = await this.#firstThatOpens(stay);',
    replace: 'const kept = await this.#firstThatOpens(masters);',
    test: 'remote/key-ring',
    title: 'are never removed when no other given key opens',
  },
  {
    name: 'verify segments by their indexes alone',
    file: 'remote/remote-verify',
    find: 'head.frames.open(frame, bytes.subarray(start, start + lengthBytes));',
    replace: '',
    test: 'remote/tamper',
    title: 'is named when anything of it changed, and never restored',
  },
  {
    name: 'remove a volume whose owner may live',
    file: 'remote/remote-remove',
    find: 'if (idleMs < OWNED_MS && !force)',
    replace: 'if (false)',
    test: 'remote/remote-remove',
    title: 'leaves alone what was written a moment ago, what was not confirmed, and what the key does not open',
  },
  {
    name: 'write a block again without its lock',
    file: 'engine/block-lock',
    find: 'if (firstBlock < end && first < endBlock)',
    replace: 'if (false)',
    test: 'engine/rewrite',
    title: 'never takes the place of a client’s write, however they meet',
  },
];

/** Titles of one file's tests that failed. */
async function failures(test: string, titles: readonly string[], patches: readonly SourcePatch[]): Promise<string[]> {
  const program = resolve(import.meta.dirname, `../unit/${test}.test.js`);
  const only = titles.flatMap((title) => ['--test-name-pattern', `^${title}$`]);
  const run = await attempt(process.execPath, [...patchArguments, '--test-reporter=tap', ...only, program], {
    env: { ...patchEnvironment(patches), NODE_TEST_CONTEXT: '' },
    timeoutMs: 240_000,
  });
  const said = `${run.stdout}${run.stderr}`;
  for (const title of titles) assert.match(run.stdout, new RegExp(`ok \\d+ - ${title}`), said);
  const failed = titles.filter((title) => new RegExp(`not ok \\d+ - ${title}`).test(run.stdout));
  assert.equal(run.status === 0, failed.length === 0, said);
  return failed;
}

// They work unchanged, and fail changed: otherwise the failure would say nothing.
describe('the tests of the threat model find each deliberate fault', { concurrency: availableParallelism() }, () => {
  for (const test of new Set(mutations.map((mutation) => mutation.test))) {
    const titles = new Set(mutations.filter((mutation) => mutation.test === test).map(({ title }) => title));
    it(`and none in ${test} as it is`, { timeout: 300_000 }, async () => {
      assert.deepEqual(await failures(test, [...titles], []), []);
    });
  }

  for (const { name, file, find, replace, test, title } of mutations) {
    it(name, { timeout: 300_000 }, async () => {
      assert.deepEqual(await failures(test, [title], [{ file: `src/${file}.js`, find, replace }]), [title]);
    });
  }
});
