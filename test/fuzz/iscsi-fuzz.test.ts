/** What the fuzzer keeps, and a while of it; and that it finds what is wrong. `npm run fuzz` goes on for as long as one likes. */
import assert from 'node:assert/strict';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { SeededRandom } from '../fake/random.js';
import { attempt } from '../tool/process.js';
import { patchArguments, patchEnvironment, type SourcePatch } from '../tool/source-patch.js';
import { corpusFileOf, readCorpus } from './corpus.js';
import { makeCase, mutateCase, type Case } from './iscsi-case.js';
import { runIscsiCase } from './iscsi-run.js';

const cases = process.env['KEEPGATE_TEST_LONG'] === '1' ? 50_000 : 1000;
const fuzzer = join(resolve(import.meta.dirname), 'fuzz.js');

interface Fault {
  readonly name: string;
  readonly patch: SourcePatch;
}
const scsi = (file: string, find: string, replace: string): SourcePatch => ({
  file: `src/scsi/${file}.js`,
  find,
  replace,
});
const iscsi = (file: string, find: string, replace: string): SourcePatch => ({
  file: `src/frontends/iscsi/${file}.js`,
  find,
  replace,
});

/** Each breaks one rule; the fuzzer must see it. */
const faults: readonly Fault[] = [
  {
    name: 'a write of a connection that dies stays open',
    patch: iscsi('data-out', 'task.write.abandon();', ''),
  },
  {
    name: 'data are asked for behind the end of what the initiator has',
    patch: iscsi(
      'data-out',
      'const lengthBytes = this.#burstEnd(task, task.r2tSent) - offset;',
      'const lengthBytes = this.#burstEnd(task, task.r2tSent) - offset + 4096;',
    ),
  },
  {
    name: 'an aborted command is answered',
    patch: iscsi('command-flow', 'if (task.aborted || this.#closed) {', 'if (this.#closed) {'),
  },
  {
    name: 'a session that is over keeps the volume',
    patch: iscsi('volume-claim', 'this.#attachment?.release();', ''),
  },
  {
    name: 'a unit attention is told again and again',
    patch: scsi('nexus', 'this.#attentions.shift()', 'this.#attentions[0]'),
  },
  {
    name: 'a RESERVE(6) outlives its session',
    patch: scsi('reservations', 'if (this.#legacyHolder === nexus)\n            this.reset();', ''),
  },
  {
    name: 'a rejected request uses up no number',
    patch: iscsi(
      'full-feature',
      'this.#inOrder(header, at, NO_BYTES, (request, requestAt) => this.responder.reject(reason, request, requestAt))',
      'this.responder.reject(reason, header, at)',
    ),
  },
];

describe('an initiator that does what comes to its mind', () => {
  it('meets no answer that is wrong in the cases that are kept', async () => {
    const corpus = await readCorpus<Case>(corpusFileOf('iscsi'));
    assert(corpus.length > 50, 'there is a corpus');
    for (const kept of corpus) await runIscsiCase(kept);
  });

  const seed = Math.floor(Math.random() * 2 ** 31);
  it(`nor in ${cases} more`, async (t) => {
    t.diagnostic(`npm run fuzz -- iscsi --seed ${seed}`);
    const corpus = await readCorpus<Case>(corpusFileOf('iscsi'));
    const random = new SeededRandom(seed);
    for (let count = 0; count < cases; count++) {
      const kept = corpus[random.below(2 * corpus.length)];
      const made = kept === undefined ? makeCase(random) : mutateCase(kept, random);
      await runIscsiCase(made).catch((error: unknown) => {
        throw new Error(`seed ${seed}: ${JSON.stringify(made)}`, { cause: error });
      });
    }
  });

  for (const { name, patch } of faults) {
    it(`is seen when ${name}`, async () => {
      const args = [...patchArguments, fuzzer, 'iscsi', '--seed', '1', '--cases', '4000', '--minutes', '10'];
      const ended = await attempt(process.execPath, args, {
        env: patchEnvironment([patch]),
        timeoutMs: 600_000,
      });
      assert.match(ended.stdout, /^FAILED/m);
      assert.equal(ended.status, 1);
    });
  }
});
