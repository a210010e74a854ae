import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { SCRUBBED_FILE, ScrubSchedule } from '../../../src/gateway/scrub-schedule.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { ticks } from '../../fake/replication-rig.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

class Rig {
  readonly disk = new MemoryDisk();
  readonly clock = new ManualClock();
  readonly log = new RecordedLog();
  runs = 0;
  fails = false;
  found: string[] = [];
  schedule = this.begin();

  begin(): ScrubSchedule {
    const { disk, clock, log } = this;
    const run = (): Promise<string[]> => {
      this.runs++;
      if (this.fails) return Promise.reject(new GatewayError('store-unreachable', 'gone'));
      return Promise.resolve(this.found);
    };
    const schedule = new ScrubSchedule({ everyMs: 30 * DAY, disk, clock, log, run });
    schedule.start();
    return schedule;
  }

  async pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += HOUR) {
      this.clock.advance(HOUR);
      await ticks(6);
    }
  }
}

describe('scrubs by schedule', () => {
  it('come once in a period, whatever is restarted meanwhile', async () => {
    const rig = new Rig();
    await rig.pass(29 * DAY);
    assert.equal(rig.runs, 0, 'a new volume waits a whole period');
    rig.schedule.stop();
    rig.schedule = rig.begin();
    await rig.pass(2 * DAY);
    assert.equal(rig.runs, 1);
    await rig.pass(20 * DAY);
    assert.equal(rig.runs, 1);
    await rig.pass(11 * DAY);
    assert.equal(rig.runs, 2);
    rig.schedule.stop();
    await rig.pass(60 * DAY);
    assert.equal(rig.runs, 2);
  });

  it('come again within the hour when one fails, and say what they found', async () => {
    const rig = new Rig();
    rig.fails = true;
    await rig.pass(30 * DAY + 3 * HOUR);
    assert.ok(rig.runs >= 3);
    rig.fails = false;
    rig.found = ['block 5 has rotted'];
    const { runs } = rig;
    await rig.pass(5 * DAY);
    assert.equal(rig.runs, runs + 1);
    assert.ok(rig.log.lines.some((line) => line.includes('block 5 has rotted')));
    rig.schedule.stop();
  });

  it('are not kept away by a file that is damaged or from the future', async () => {
    for (const text of ['nonsense', '9999999999999']) {
      const rig = new Rig();
      await rig.disk.writeSmall(SCRUBBED_FILE, Buffer.from(text));
      await rig.pass(32 * DAY);
      assert.equal(rig.runs, 1, text);
      rig.schedule.stop();
    }
  });
});
