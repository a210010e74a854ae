import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { OperationList } from '../../../src/gateway/operation-list.js';
import { ManualClock } from '../../fake/clock.js';
import { SeededRandom } from '../../fake/random.js';

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('the operations of a gateway', () => {
  it('are found by their id, in the order in which they began, and say what runs on a volume', async () => {
    const list = new OperationList({ clock: new ManualClock(), random: new SeededRandom(1) });
    let end: () => void = () => undefined;
    const scrub = list.begin({
      kind: 'scrub',
      volume: 'a',
      work: () => new Promise((resolve) => (end = () => resolve('nothing was found'))),
    });
    const failed = list.begin({ kind: 'revert', volume: 'b', work: () => Promise.reject(new Error('in use')) });
    assert.equal(list.runningOn('a'), 'scrub');
    assert.equal(list.runningOn('c'), undefined);
    end();
    await settle();
    assert.deepEqual([list.runningOn('a'), list.runningOn('b')], [undefined, undefined]);
    assert.deepEqual(
      list.all().map(({ id, state, reason }) => [id, state, reason]),
      [
        [scrub.id, 'done', 'nothing was found'],
        [failed.id, 'failed', 'in use'],
      ],
    );
    assert.equal(list.find(failed.id)?.reason, 'in use');
    assert.equal(list.find('of another process'), undefined);
  });

  it('are the newest hundred', () => {
    const list = new OperationList({ clock: new ManualClock(), random: new SeededRandom(2) });
    const work = (): Promise<undefined> => Promise.resolve(undefined);
    const begun = Array.from({ length: 101 }, () => list.begin({ kind: 'scrub', volume: 'a', work }));
    assert.equal(list.all().length, 100);
    assert.equal(list.find(begun[0]?.id ?? ''), undefined);
    assert.equal(list.all()[0]?.id, begun[1]?.id);
  });
});
