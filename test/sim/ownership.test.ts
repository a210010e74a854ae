/**
 * The ownership protocol, explored exhaustively (docs/testing.md, "Ownership model"): the original directory, a copy of it,
 * and a `restore --take-over` on another machine, all on one remote volume.
 */
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { describe, it } from 'node:test';
import { exploreApart } from './ownership-apart.js';
import type { Bounds } from './ownership-steps.js';

/** Writes and lives are those of the original, the clone and the takeover. */
interface Exploring {
  readonly what: string;
  readonly bounds: Pick<Bounds, 'writes' | 'lives' | 'groupSegmentsMax'> & Partial<Bounds>;
  /** What must have happened somewhere, so that a model that does nothing is noticed. */
  readonly marks: readonly string[];
}

const short: readonly Exploring[] = [
  {
    what: 'three lives of one directory',
    bounds: { writes: [2, 0, 0], lives: [3, 0, 0], groupSegmentsMax: 2 },
    marks: ['a late claim', 'a late fence', 'a late segment', 'claim taken', 'fencePut exists', '0 committed'],
  },
  {
    what: 'a directory with two lives, and its clone',
    bounds: { writes: [1, 1, 0], lives: [2, 1, 0], groupSegmentsMax: 2 },
    marks: ['0 fenced', '0 remote-forked', '1 fenced', '1 owned', '1 remote-forked', '1 committed'],
  },
  {
    what: 'an original, its clone and a takeover, with groups of two segments',
    bounds: { writes: [1, 1, 1], lives: [1, 1, 1], groupSegmentsMax: 2 },
    marks: ['0 fenced', '1 fenced', '2 fenced', '2 owned', '2 committed'],
  },
  {
    what: 'an original with two lives, its clone and a takeover',
    bounds: { writes: [1, 1, 1], lives: [2, 1, 1], groupSegmentsMax: 1 },
    marks: ['0 fenced', '0 remote-forked', '1 remote-forked', '2 remote-forked', 'a late segment', 'a late fence'],
  },
  {
    what: 'replies that come any time after their PUT',
    bounds: { writes: [2, 0, 1], lives: [1, 0, 1], groupSegmentsMax: 2, lateReplies: true },
    marks: ['0 fenced', '2 fenced', '2 remote-ahead', '2 committed'],
  },
  {
    what: 'a restore that reads while an original and its takeover go on',
    bounds: { writes: [2, 0, 1], lives: [1, 0, 1], groupSegmentsMax: 1, reader: true },
    marks: ['0 fenced', '2 fenced', 'the reader looked again', 'the reader is done'],
  },
  {
    what: 'a directory whose owner deletes what lies behind it, and its clone',
    bounds: { writes: [3, 1, 0], lives: [1, 1, 0], groupSegmentsMax: 1, deletes: true },
    marks: ['segments are deleted', '1 remote-ahead', '1 owned', '0 fenced'],
  },
  {
    what: 'two lives of a directory that deletes, and a takeover',
    bounds: { writes: [3, 0, 1], lives: [2, 0, 1], groupSegmentsMax: 1, deletes: true },
    marks: ['segments are deleted', '0 remote-ahead', '2 owned', '0 fenced', 'a late segment', 'a late fence'],
  },
];

const long: readonly Exploring[] = [
  {
    what: 'more writes of the original, groups of two segments',
    bounds: { writes: [2, 1, 1], lives: [1, 1, 1], groupSegmentsMax: 2 },
    marks: [],
  },
  {
    what: 'more writes and lives of the original',
    bounds: { writes: [2, 1, 1], lives: [2, 1, 1], groupSegmentsMax: 1 },
    marks: [],
  },
  {
    what: 'two lives each',
    bounds: { writes: [1, 1, 1], lives: [2, 2, 2], groupSegmentsMax: 1 },
    marks: [],
  },
  {
    what: 'two lives of a directory and of its clone, groups of two segments, replies at any time',
    bounds: { writes: [1, 1, 0], lives: [2, 2, 0], groupSegmentsMax: 2, lateReplies: true },
    marks: [],
  },
  {
    what: 'two lives of a directory that deletes, and its clone',
    bounds: { writes: [3, 1, 0], lives: [2, 1, 0], groupSegmentsMax: 1, deletes: true },
    marks: [],
  },
  {
    what: 'a directory that deletes, its clone and a takeover',
    bounds: { writes: [3, 1, 1], lives: [1, 1, 1], groupSegmentsMax: 1, deletes: true },
    marks: [],
  },
];

const statesMax = 8_000_000;

describe('ownership, every interleaving', { concurrency: availableParallelism() }, () => {
  for (const { what, bounds, marks } of [...short, ...(process.env['KEEPGATE_TEST_LONG'] === '1' ? long : [])]) {
    it(`of ${what}`, async (test) => {
      const usual = { slots: 2, lateReplies: false, reader: false, deletes: false };
      const explored = await exploreApart({ ...usual, ...bounds }, statesMax);
      const { states, steps, depth, counterexample } = explored;
      test.diagnostic(`${states} states, ${steps} steps, depth ${depth}`);
      assert.equal(counterexample, undefined, [...(counterexample?.trace ?? []), counterexample?.problem].join('\n'));
      assert.ok(explored.complete, `more than ${statesMax} states`);
      const missing = marks.filter((mark) => !explored.marks.includes(mark));
      assert.deepEqual(missing, [], `reached: ${explored.marks.join(', ')}`);
    });
  }
});
