/** What a provider may do that is no failure of Keepgate's: replies that are lost, and a bill for every request. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SeededRandom } from '../../fake/random.js';
import { Rig, ticks } from '../../fake/replication-rig.js';

const hourMs = 3_600_000;

describe('a store with quirks', () => {
  it('bills an idle volume for no more than one request an hour, over a week', async () => {
    const rig = new Rig();
    rig.start();
    await rig.until(() => rig.messages.some(({ type }) => type === 'attached'));
    rig.writeRandom(new SeededRandom(5));
    await rig.drain();
    // What follows a write belongs to it: a checkpoint and what goes with it.
    rig.clock.advance(hourMs);
    await ticks(20);
    const before = rig.store.calls.length;
    const hours = 7 * 24;
    for (let minute = 0; minute < hours * 60; minute += 10) {
      rig.clock.advance(hourMs / 6);
      await ticks(2);
    }
    const sent = rig.store.calls.slice(before);
    assert.ok(
      sent.length <= hours,
      `${sent.length}: ${sent
        .slice(0, 5)
        .map(({ key }) => key)
        .join(' ')}`,
    );
    assert.equal(rig.messages.filter(({ type }) => type === 'fatal').length, 0);
    await rig.kill();
  });

  it('loses the reply to every PUT once, and each is known again for one’s own', async () => {
    const rig = new Rig();
    const lost = new Set<string>();
    rig.store.fault = ({ operation, key }) => {
      if (operation !== 'put' || lost.has(key)) return undefined;
      lost.add(key);
      return { failAfter: 'store-unreachable' };
    };
    rig.start();
    const random = new SeededRandom(6);
    for (let round = 0; round < 20; round++) rig.writeRandom(random);
    await rig.drain();
    assert.equal(rig.state.replicatedLsn, rig.log.lastLsn);
    assert.equal(rig.state.fenced, false);
    assert.ok([...lost].some((key) => key.includes('/segments/')) && [...lost].some((key) => key.includes('/epochs/')));
    assert.equal(rig.messages.filter(({ type }) => type === 'fatal').length, 0);
    await rig.kill();
  });
});
