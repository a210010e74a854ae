import { beforeEach, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { limits } from '../../../src/base/limits.js';
import { VolumeAccess } from '../../../src/gateway/access.js';
import type { ClientIdentity, SessionControl } from '../../../src/ports/volume-directory.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedLog } from '../../fake/log.js';

/** Lets the promise callbacks that are ready run. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

class FakeControl implements SessionControl {
  evicted: string | undefined;
  probes = 0;
  constructor(readonly answer: boolean | 'never' | 'broken') {}
  probe(): Promise<boolean> {
    this.probes++;
    if (this.answer === 'never') return new Promise(() => undefined);
    if (this.answer === 'broken') return Promise.reject(new Error('gone'));
    return Promise.resolve(this.answer);
  }
  left = false;
  peerHasLeft(): boolean {
    return this.left;
  }
  evict(reason: string): void {
    this.evicted = reason;
  }
}

const nbdA: ClientIdentity = { frontend: 'nbd', key: 'nbd:10.0.0.1', description: 'nbd 10.0.0.1' };
const nbdB: ClientIdentity = { frontend: 'nbd', key: 'nbd:10.0.0.2', description: 'nbd 10.0.0.2' };
const iscsi: ClientIdentity = { frontend: 'iscsi', key: 'iscsi:iqn.x:1', description: 'iscsi iqn.x' };
const inUse = { code: 'volume-in-use', message: 'volume v is in use by nbd 10.0.0.1' };

describe('exclusive access', () => {
  let clock: ManualClock;
  let access: VolumeAccess;
  beforeEach(() => {
    clock = new ManualClock();
    access = new VolumeAccess({ volume: 'v', mode: 'exclusive', clock, log: new RecordedLog() });
  });

  it('takes several connections of one client as one', async () => {
    await access.attach(nbdA, new FakeControl(true));
    await access.attach(nbdA, new FakeControl(true));
    assert.deepEqual(access.clients(), [{ frontend: 'nbd', description: 'nbd 10.0.0.1', connections: 2 }]);
  });

  it('ends the session that is named, with all its connections, and lets the next client in', async () => {
    const held = [new FakeControl(true), new FakeControl(true)] as const;
    const old = await access.attach(nbdA, held[0]);
    await access.attach(nbdA, held[1]);
    assert.deepEqual(
      access.sessions().map(({ id, connections }) => [id, connections]),
      [['v.1', 2]],
    );
    assert.equal(access.end('v.2', 'why'), false);
    assert.equal(access.end('v.1', 'why'), true);
    assert.deepEqual(
      held.map(({ evicted }) => evicted),
      ['why', 'why'],
    );
    await access.attach(nbdB, new FakeControl(true));
    // What is left of an old connection takes nothing away from the one that came after it.
    old.release();
    assert.deepEqual(
      access.sessions().map(({ id, description }) => [id, description]),
      [['v.2', 'nbd 10.0.0.2']],
    );
  });

  it('refuses another client, over the other protocol too, while the holder answers', async () => {
    const holder = new FakeControl(true);
    await access.attach(nbdA, holder);
    await assert.rejects(access.attach(nbdB, new FakeControl(true)), inUse);
    await assert.rejects(access.attach(iscsi, new FakeControl(true)), inUse);
    assert.equal(holder.evicted, undefined);
  });

  it('ends what a client gave up before it has another connection, and nothing else', async () => {
    const [given, kept, others] = [new FakeControl(true), new FakeControl(true), new FakeControl(true)];
    const shared = new VolumeAccess({ volume: 'v', mode: 'shared', clock, log: new RecordedLog() });
    await shared.attach(nbdA, given);
    await shared.attach(nbdA, kept);
    await shared.attach(nbdB, others);
    for (const control of [given, others]) control.left = true;
    await shared.attach(nbdA, new FakeControl(true));
    assert.match(given.evicted ?? '', /comes again/);
    assert.equal(kept.evicted, undefined);
    assert.equal(others.evicted, undefined);
    assert.deepEqual(
      shared.clients().map(({ connections }) => connections),
      [2, 1],
    );
  });

  it('lets the next client in once every connection of the holder is released', async () => {
    const first = await access.attach(nbdA, new FakeControl(true));
    const second = await access.attach(nbdA, new FakeControl(true));
    first.release();
    first.release();
    await assert.rejects(access.attach(nbdB, new FakeControl(true)), inUse);
    second.release();
    await access.attach(nbdB, new FakeControl(true));
    assert.equal(access.clients()[0]?.description, 'nbd 10.0.0.2');
  });

  it('evicts a holder that never answers after the probe time, within 15 s', async () => {
    const dead = [new FakeControl('never'), new FakeControl('broken')];
    for (const control of dead) await access.attach(nbdA, control);
    const waiting = access.attach(iscsi, new FakeControl(true));
    await settled();
    clock.advance(limits.holderProbeMsMax - 1);
    await settled();
    assert.equal(dead[0]?.evicted, undefined);
    clock.advance(1);
    await settled();
    await waiting;
    assert.ok(clock.nowMs() <= limits.holderEvictMsMax);
    for (const control of dead) assert.match(control.evicted ?? '', /does not answer/);
    assert.deepEqual(
      access.clients().map(({ description }) => description),
      ['iscsi iqn.x'],
    );
  });

  it('keeps a holder of which one connection answers', async () => {
    const dead = new FakeControl(false);
    await access.attach(nbdA, dead);
    await access.attach(nbdA, new FakeControl(true));
    await assert.rejects(access.attach(nbdB, new FakeControl(true)), inUse);
    assert.equal(dead.evicted, undefined);
  });

  it('lets the holder reconnect while a contender waits, and then refuses the contender', async () => {
    const dead = new FakeControl('never');
    await access.attach(nbdA, dead);
    const contender = assert.rejects(access.attach(nbdB, new FakeControl(true)), inUse);
    await settled();
    const again = new FakeControl(true);
    await access.attach(nbdA, again);
    clock.advance(limits.holderProbeMsMax);
    await settled();
    await contender;
    assert.equal(again.evicted, undefined);
    assert.ok(dead.evicted);
  });

  it('gives a dead holder’s volume to exactly one of two contenders', async () => {
    await access.attach(nbdA, new FakeControl('never'));
    const first = access.attach(nbdB, new FakeControl(true));
    const second = assert.rejects(access.attach(iscsi, new FakeControl(true)), { code: 'volume-in-use' });
    await settled();
    clock.advance(limits.holderProbeMsMax);
    await settled();
    await first;
    await second;
    assert.deepEqual(
      access.clients().map(({ description }) => description),
      ['nbd 10.0.0.2'],
    );
  });

  it('is not confused by an evicted connection that releases later', async () => {
    const old = await access.attach(nbdA, new FakeControl(false));
    const taken = await access.attach(nbdB, new FakeControl(false));
    taken.release();
    await access.attach(nbdA, new FakeControl(true));
    old.release();
    assert.equal(access.clients().length, 1);
  });

  it('refuses everybody once it is closed', async () => {
    access.close();
    await assert.rejects(access.attach(nbdA, new FakeControl(true)), { code: 'volume-closed' });
  });

  it('has a limit on connections', async () => {
    for (let count = 0; count < limits.connectionsPerVolumeMax; count++)
      await access.attach(nbdA, new FakeControl(true));
    await assert.rejects(access.attach(nbdA, new FakeControl(true)), { code: 'session-limit' });
  });
});

describe('shared access', () => {
  it('admits any number of clients and probes none', async () => {
    const access = new VolumeAccess({ volume: 'v', mode: 'shared', clock: new ManualClock(), log: new RecordedLog() });
    const control = new FakeControl(false);
    await access.attach(nbdA, control);
    await access.attach(iscsi, new FakeControl(true));
    assert.equal(access.clients().length, 2);
    assert.equal(control.probes, 0);
  });
});
