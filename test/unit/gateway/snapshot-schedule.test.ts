import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import type { SnapshotRecord } from '../../../src/engine/log-format.js';
import { SnapshotLine, type SnapshotTarget } from '../../../src/gateway/snapshot-line.js';
import type { KnownSnapshot } from '../../../src/remote/replication-messages.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedLog } from '../../fake/log.js';
import { ticks } from '../../fake/replication-rig.js';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** A volume whose log takes records, and a bucket that gets them when it is told. */
class Rig implements SnapshotTarget {
  readonly clock = new ManualClock();
  readonly log = new RecordedLog();
  readonly sizeBytes = 4096;
  records: SnapshotRecord[] = [];
  tracking = false;
  contentLsn = 1;
  lsn = 1;
  wallShiftMs = 0;
  refusal: GatewayError | undefined;
  line = this.begin();

  begin(everyMs = HOUR, keep = 3): SnapshotLine {
    const { clock, log } = this;
    const shifted = {
      nowMs: () => clock.nowMs(),
      wallMs: () => clock.wallMs() + this.wallShiftMs,
      after: clock.after.bind(clock),
      sleep: clock.sleep.bind(clock),
    };
    const line = new SnapshotLine({
      ...{ volume: 'disk0', schedule: { everyMs, keep }, clock: shifted, log },
      replicates: () => true,
      refusal: () => this.refusal,
    });
    line.attach(this);
    line.start();
    return line;
  }

  record(name: string, snapshotLsn: number): Promise<SnapshotRecord> {
    const record = { lsn: ++this.lsn, name, snapshotLsn, wallMs: this.clock.wallMs() + this.wallShiftMs };
    this.records.push(record);
    return Promise.resolve(record);
  }

  write(): void {
    this.contentLsn = ++this.lsn;
  }

  /** The bucket has all of it. */
  commit(): void {
    let known: KnownSnapshot[] = [];
    for (const { lsn, name, snapshotLsn, wallMs } of this.records) {
      known = known.filter((snapshot) => snapshot.lsn !== snapshotLsn);
      const sizes = { sizeBytes: 4096, referencedBytes: 4096, exclusiveBytes: 0 };
      if (snapshotLsn === 0) known.push({ name, lsn, pointLsn: lsn, wallMs, ...sizes });
    }
    this.line.received({ type: 'snapshots', throughLsn: this.lsn, snapshots: known });
  }

  async pass(ms: number, each: () => void = () => undefined): Promise<void> {
    for (let passed = 0; passed < ms; passed += MINUTE) {
      each();
      this.clock.advance(MINUTE);
      await ticks(2);
    }
  }

  get names(): string[] {
    return this.line.list().map(({ name }) => name);
  }
}

const busy = (rig: Rig) => (): void => {
  rig.write();
  rig.commit();
};

describe('snapshots by schedule', () => {
  it('come once in a period, and the newest of them stay', async () => {
    const rig = new Rig();
    await rig.pass(10 * MINUTE, busy(rig));
    assert.match(rig.names.join(), /^auto-2027-01-15t\d\d-\d\d-00z$/);
    await rig.pass(2 * HOUR, busy(rig));
    assert.equal(rig.names.length, 3);
    const before = rig.names;
    await rig.pass(2 * HOUR, busy(rig));
    assert.equal(rig.names.length, 3);
    assert.deepEqual(before.slice(2), rig.names.slice(0, 1));
    rig.line.close();
    await rig.pass(3 * HOUR);
    assert.equal(rig.names.length, 3);
  });

  it('never delete what a person took, whose names nobody may give', async () => {
    const rig = new Rig();
    rig.commit();
    await rig.line.create('mine');
    await rig.line.create(undefined);
    await assert.rejects(rig.line.create('auto-2026-01-01t00-00-00z'), /write another/);
    await assert.rejects(rig.line.create('auto-mine'), { code: 'invalid-request' });
    await rig.pass(9 * HOUR, busy(rig));
    assert.equal(rig.names.length, 5);
    assert.equal(rig.names[0], 'mine');
  });

  it('are none where nothing was written since the newest snapshot of any kind', async () => {
    const rig = new Rig();
    await rig.pass(10 * MINUTE, () => rig.commit());
    assert.equal(rig.names.length, 1);
    await rig.pass(5 * HOUR, () => rig.commit());
    assert.equal(rig.names.length, 1);
    rig.write();
    await rig.line.create('mine');
    await rig.pass(5 * HOUR, () => rig.commit());
    assert.equal(rig.names.length, 2);
    rig.write();
    await rig.pass(2 * MINUTE, () => rig.commit());
    assert.equal(rig.names.length, 3);
  });

  it('go on where a restart, or another gateway, left them', async () => {
    const rig = new Rig();
    await rig.pass(30 * MINUTE, busy(rig));
    rig.line.close();
    rig.line = rig.begin();
    await rig.pass(25 * MINUTE, busy(rig));
    assert.equal(rig.names.length, 1);
    await rig.pass(10 * MINUTE, busy(rig));
    assert.equal(rig.names.length, 2);
  });

  it('delete nothing in favour of what the bucket does not have', async () => {
    const rig = new Rig();
    await rig.pass(4 * HOUR, busy(rig));
    const whole = rig.names;
    assert.equal(whole.length, 3);
    // The bucket is away.
    await rig.pass(4 * HOUR, () => rig.write());
    assert.deepEqual(rig.names.slice(0, 3), whole);
    assert.equal(rig.names.length, 7);
    rig.commit();
    await rig.pass(5 * MINUTE, () => rig.commit());
    assert.equal(rig.names.length, 3);
  });

  it('wait while an earlier one waits for the next recovery point', async () => {
    const rig = new Rig();
    rig.commit();
    rig.tracking = true;
    await rig.pass(6 * HOUR, () => rig.write());
    assert.equal(rig.names.length, 1);
    assert.equal(rig.line.list()[0]?.late, true);
    rig.tracking = false;
    rig.commit();
    await rig.pass(2 * MINUTE, busy(rig));
    assert.equal(rig.names.length, 2);
  });

  it('stand a clock that jumps to either side', async () => {
    const rig = new Rig();
    await rig.pass(HOUR / 2, busy(rig));
    for (const [shiftMs, count] of [
      [400 * 24 * HOUR, 2],
      [-400 * 24 * HOUR, 3],
      [0, 3],
    ] as const) {
      const before = rig.records.length;
      rig.wallShiftMs = shiftMs;
      await rig.pass(5 * MINUTE, busy(rig));
      assert.ok(rig.records.length > before, `shifted by ${shiftMs}`);
      assert.equal(rig.names.length, count);
    }
    const before = rig.records.length;
    await rig.pass(50 * MINUTE, busy(rig));
    assert.equal(rig.records.length, before);
  });

  it('say once that they cannot be taken, count it, and are tried again', async () => {
    const rig = new Rig();
    await rig.pass(2 * HOUR);
    assert.deepEqual(rig.log.lines, [], 'before the bucket was read nothing is known');
    rig.commit();
    rig.refusal = new GatewayError('fenced', 'another gateway owns it');
    await rig.pass(10 * MINUTE, busy(rig));
    assert.deepEqual(rig.log.lines, [
      'warn automatic snapshots do not go on, and are tried again: another gateway owns it',
    ]);
    assert.ok((rig.line.counts()?.failures ?? 0) >= 5);
    rig.refusal = undefined;
    await rig.pass(2 * MINUTE, busy(rig));
    assert.equal(rig.names.length, 1);
  });
});

describe('names of snapshots', () => {
  it('are refused in one line where they are odd, whatever they hold', async () => {
    const rig = new Rig();
    rig.commit();
    const odd = ['', '-x', 'UPPER', 'a b', 'a/b', '..', 'a\nb', 'ü', '\u0000', '💾', 'x'.repeat(64), 'y'.repeat(5000)];
    for (const name of [...odd, '__proto__', 'constructor!', 'a.b', "a'; drop", '%2e%2e']) {
      await assert.rejects(rig.line.create(name), ({ code, message }: GatewayError) => {
        assert.ok(!message.includes('\n') && message.length < 250, message);
        return code === 'invalid-request';
      });
      await assert.rejects(rig.line.delete(name), { code: 'not-found' });
    }
    for (const name of ['x'.repeat(63), '0', 'a-', 'constructor']) await rig.line.create(name);
    await assert.rejects(rig.line.create('0'), { code: 'volume-exists' });
  });

  it('are given anew once their snapshot is deleted', async () => {
    const rig = new Rig();
    rig.commit();
    for (let pass = 0; pass < 3; pass++) {
      await rig.line.create('again');
      if (pass === 1) rig.commit();
      await rig.line.delete('again');
      await assert.rejects(rig.line.delete('again'), { code: 'not-found' });
    }
    rig.commit();
    assert.deepEqual(rig.names, []);
  });
});
