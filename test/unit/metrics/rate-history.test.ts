import { beforeEach, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { ioOps } from '../../../src/base/io-stats.js';
import { limits } from '../../../src/base/limits.js';
import { RateHistory } from '../../../src/metrics/rate-history.js';
import { ManualClock } from '../../fake/clock.js';
import { FakeGateway } from '../../fake/gateway-view.js';

describe('the rates of the last hour', () => {
  let gateway: FakeGateway;
  let clock: ManualClock;
  let rates: RateHistory;
  beforeEach(() => {
    gateway = new FakeGateway();
    clock = new ManualClock();
    rates = new RateHistory({ clock, volumes: () => gateway.volumes() });
    rates.start();
  });
  const write = (bytes: number): void => gateway.stats.nbd.record(ioOps.indexOf('write'), bytes, 10, false);
  const written = () => rates.columns('disk0')?.columns.writeBytesPerSecond;

  it('are what was done between two looks, over both front ends', () => {
    assert.deepEqual(written(), []);
    assert.deepEqual(rates.newest(), []);
    write(40_960);
    gateway.stats.iscsi.record(ioOps.indexOf('read'), 4096, 10, false);
    clock.advance(limits.rateIntervalMs);
    clock.advance(limits.rateIntervalMs);
    assert.deepEqual(written(), [4096, 0]);
    const found = rates.columns('disk0');
    assert.ok(found);
    assert.deepEqual(found.columns.readBytesPerSecond, [410, 0]);
    assert.deepEqual(found.columns.bufferUsedBytes, [10, 10]);
    assert.deepEqual(found.columns.lagSeconds, [2, 2]);
    assert.equal(found.lastMs, clock.wallMs());
    assert.equal(rates.newest()[0]?.sample.writeBytesPerSecond, 0);
  });

  it('are those of an hour, and no more', () => {
    for (let at = 0; at < limits.rateSamplesMax + 3; at++) {
      write(10 * at);
      clock.advance(limits.rateIntervalMs);
    }
    const column = written() ?? [];
    assert.equal(column.length, (3600 * 1000) / limits.rateIntervalMs);
    assert.equal(column[0], 3);
    assert.equal(column.at(-1), limits.rateSamplesMax + 2);
  });

  it('have a gap where the gateway did not run', () => {
    const stopped = new FrozenClock();
    const late = new RateHistory({ clock: stopped, volumes: () => gateway.volumes() });
    late.start();
    write(30_000);
    stopped.wake(3 * limits.rateIntervalMs);
    assert.deepEqual(late.columns('disk0')?.columns.writeBytesPerSecond, [null, null, 1000]);
    stopped.wake(1e9);
    assert.equal(late.columns('disk0')?.columns.writeBytesPerSecond.length, limits.rateSamplesMax);
  });

  it('begin anew with a volume that comes back, and go with one that goes', () => {
    clock.advance(limits.rateIntervalMs);
    gateway.isThere = false;
    clock.advance(limits.rateIntervalMs);
    assert.equal(rates.columns('disk0'), undefined);
    gateway.isThere = true;
    clock.advance(limits.rateIntervalMs);
    assert.deepEqual(written(), []);
  });
});

/** Time passes, and the timer comes only when somebody wakes it, as when the process is stopped. */
class FrozenClock extends ManualClock {
  #stoppedMs = 0;
  #due: (() => void) | undefined;
  override nowMs(): number {
    return this.#stoppedMs;
  }
  override after(_: number, callback: () => void) {
    this.#due = callback;
    return { cancel: () => undefined };
  }
  wake(afterMs: number): void {
    this.#stoppedMs += afterMs;
    this.#due?.();
  }
}
