/** What long work says of itself where no terminal is: seldom, with the rate of the last seconds. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Progress } from '../../../src/cli/progress.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedTerminal } from './recorded-terminal.js';

const mib = 2 ** 20;

describe('progress in plain lines', () => {
  it('is a line every five seconds, however often it is told', () => {
    const clock = new ManualClock();
    const terminal = new RecordedTerminal();
    const progress = new Progress({ title: 'draining disk0', terminal, clock });
    for (let at = 0; at <= 100; at += 1) {
      progress.update(at * mib, 200 * mib);
      clock.advance(100);
    }
    progress.end();
    assert.deepEqual(terminal.noted, [
      'draining disk0: 0 B of 200 MiB, rate not known yet, time left not known yet',
      'draining disk0: 50 MiB of 200 MiB, 10 MiB/s, 15s left',
      'draining disk0: 100 MiB of 200 MiB, 10 MiB/s, 10s left',
    ]);
    assert.deepEqual(terminal.printed, []);
  });

  it('counts nothing into the rate that was done before it looked, or long ago', () => {
    const clock = new ManualClock();
    const terminal = new RecordedTerminal();
    const progress = new Progress({ title: 'restoring disk0', terminal, clock });
    progress.update(900 * mib, 1000 * mib);
    clock.advance(10_000);
    progress.update(920 * mib, 1000 * mib);
    assert.match(terminal.noted.at(-1) ?? '', /920 MiB of 1000 MiB, 2 MiB\/s, 40s left$/);
    for (let at = 0; at < 30; at += 1) {
      clock.advance(1000);
      progress.update(920 * mib, 1000 * mib, 'the store does not answer');
    }
    assert.match(
      terminal.noted.at(-1) ?? '',
      /920 MiB of 1000 MiB, 0 B\/s, time left not known yet \(the store does not answer\)$/,
    );
  });

  it('counts objects where it is objects that go', () => {
    const clock = new ManualClock();
    const terminal = new RecordedTerminal();
    const progress = new Progress({ title: 'removing disk0', unit: 'objects', terminal, clock });
    progress.update(0, 300);
    clock.advance(5000);
    progress.update(100, 300);
    assert.equal(terminal.noted.at(-1), 'removing disk0: 100 objects of 300 objects, 20 objects/s, 10s left');
  });
});
