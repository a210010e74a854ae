/**
 * Whether the model would notice: each rule of the protocol is broken in turn, in the compiled program of a child
 * process, and the checker must find a counterexample. KEEPGATE_TEST_TRACES=1 prints the traces.
 */
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { describe, it } from 'node:test';
import type { SourcePatch } from '../tool/source-patch.js';
import type { Exploration } from './explorer.js';
import { exploreApart } from './ownership-apart.js';
import type { Bounds } from './ownership-steps.js';

interface Mutation {
  readonly name: string;
  readonly patches: readonly SourcePatch[];
  readonly bounds?: Partial<Bounds>;
  /** Of the counterexample; undefined: there must be none, for the reason that the name gives. */
  readonly finds: RegExp | undefined;
}

const ownership = 'src/remote/ownership.js';
const chain = 'src/remote/chain.js';
const rules = 'src/remote/upload-rules.js';

const reusedEpoch: SourcePatch = { file: ownership, find: "if (event.outcome === 'taken')", replace: 'if (false)' };
const ignoredLink: SourcePatch = {
  file: chain,
  find: 'if (!equalBytes(facts.previousLink, chain.previousLink))',
  replace: 'if (false)',
};

const mutations: readonly Mutation[] = [
  {
    name: 'takes whatever a refused PUT met for its own object',
    patches: [{ file: rules, find: 'equalBytes(found.salt, own.salt)', replace: 'true' }],
    finds: /commits 1-1, which no reader finds/,
  },
  {
    name: 'goes on in the next epoch without a fence',
    patches: [
      {
        file: ownership,
        find: "return isEnd ? { phase: 'fencing', epoch, local, chain }",
        replace: 'return isEnd ? owned(epoch, followFence(chain, fenceOf({ epoch, chain })))',
      },
    ],
    finds: /uploads where no reader comes/,
  },
  {
    name: 'fences without comparing with its own log',
    patches: [
      {
        file: ownership,
        find: "return { ...state, phase: 'comparing', chain };",
        replace: 'return { ...state, chain };',
      },
    ],
    bounds: { writes: [1, 2, 0], lives: [1, 1, 0] },
    finds: /is nobody’s/,
  },
  {
    name: 'follows the fence that ends its own epoch',
    patches: [{ file: ownership, find: "return refused('fenced',", replace: "void refused('fenced'," }],
    finds: /a reader goes in a circle/,
  },
  {
    name: 'commits a group before all keys before it are acknowledged',
    patches: [
      {
        file: rules,
        find: 'return waiting < 0 ? groups.length : waiting;',
        replace: 'return Math.max(waiting, 1 + groups.findLastIndex(({ ended, pending }) => ended && pending === 0));',
      },
    ],
    bounds: { writes: [2, 1, 1] },
    finds: /commits 1-2, which no reader finds/,
  },
  {
    name: 'uses an epoch that somebody has claimed',
    patches: [reusedEpoch],
    finds: /epoch 1 has 2 owners/,
  },
  {
    name: 'ignores links alone, which only guard against a second fault',
    patches: [ignoredLink],
    bounds: { writes: [1, 1, 0], lives: [2, 1, 0] },
    finds: undefined,
  },
  {
    name: 'fences the key behind the first absent one',
    patches: [
      {
        file: ownership,
        find: 'key: state.chain.nextKey,\n',
        replace: 'key: { ...state.chain.nextKey, number: state.chain.nextKey.number + 1 },\n',
      },
    ],
    finds: /go on taking ownership for ever/,
  },
  {
    name: 'takes another’s fence for its own',
    patches: [{ file: ownership, find: "if (event.outcome === 'exists')", replace: 'if (false)' }],
    finds: /uploads where no reader comes/,
  },
  {
    name: 'numbers segments behind what is void',
    patches: [{ file: chain, find: 'number: lastGroup.number + 1 }', replace: 'number: chain.nextKey.number }' }],
    bounds: { writes: [1, 0, 0], lives: [2, 0, 0], groupSegmentsMax: 2 },
    finds: /commits 2-1, which no reader finds/,
  },
  {
    name: 'says that what it has sent is committed',
    patches: [
      {
        file: 'test/sim/ownership-steps.js',
        find: 'committed: { epoch, number }',
        replace: 'committed: { epoch: life.epoch, number: life.tail.number }',
      },
    ],
    bounds: { writes: [2, 0, 0], lives: [1, 0, 0] },
    finds: /a reader finds a gap/,
  },
  {
    name: 'reads from a checkpoint and not through fences',
    patches: [
      {
        file: 'test/sim/ownership-reader.js',
        find: "if (found.kind === 'fence') {",
        replace: "if (found.kind === 'fence' && knownEpochs.length > 0) return end();\nif (found.kind === 'fence') {",
      },
    ],
    finds: /leads elsewhere/,
  },
  {
    name: 'believes in a gap without a second look',
    patches: [
      {
        file: 'test/sim/ownership-reader-steps.js',
        find: "if (found !== undefined)\n                return [{ what, to: become({ at: 'walking' }), mark: 'the reader looked again' }];",
        replace: '',
      },
    ],
    bounds: { writes: [2, 0, 0], lives: [1, 0, 0], reader: true },
    finds: /believes that 1-1 was lost/,
  },
  {
    name: 'takes the place of a deleted segment for the end of the history',
    patches: [{ file: ownership, find: 'const isEnd = ahead < chain.nextKey.number;', replace: 'const isEnd = true;' }],
    bounds: { writes: [3, 1, 0], lives: [1, 1, 0], deletes: true },
    finds: /uploads where no reader comes/,
  },
  {
    name: 'does not look again behind its fence for what was written and deleted meanwhile',
    patches: [
      {
        file: ownership,
        find: 'return isEnd ? owned(epoch, following)',
        replace: 'return true ? owned(epoch, following)',
      },
    ],
    bounds: { writes: [3, 1, 0], lives: [1, 1, 0], deletes: true },
    finds: /uploads where no reader comes/,
  },
];

const usual: Bounds = {
  writes: [1, 1, 1],
  lives: [2, 1, 1],
  slots: 2,
  groupSegmentsMax: 1,
  lateReplies: false,
  reader: false,
  deletes: false,
};

describe('the ownership model notices a gateway that', { concurrency: availableParallelism() }, () => {
  for (const mutation of mutations) {
    it(mutation.name, async () => {
      const bounds = { ...usual, ...mutation.bounds };
      const { counterexample, states, complete } = await exploreApart(bounds, 400_000, mutation.patches);
      if (mutation.finds === undefined) {
        assert.equal(counterexample, undefined);
        assert.equal(complete, true);
        return;
      }
      assert.ok(counterexample !== undefined, `no counterexample in ${states} states`);
      if (process.env['KEEPGATE_TEST_TRACES'] === '1') console.log(traceText(counterexample));
      assert.match(counterexample.problem, mutation.finds);
    });
  }
});

function traceText({ trace, problem }: NonNullable<Exploration['counterexample']>): string {
  return [...trace.map((step, at) => `${at + 1}. ${step}`), `=> ${problem}`].join('\n');
}
