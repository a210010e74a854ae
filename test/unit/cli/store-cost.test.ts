import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GIB, MIB } from '../../../src/base/units.js';
import { costLines, costOf, priceTable } from '../../../src/cli/store-cost.js';

const load = { liveBytes: 1000 * GIB, changesBytesPerDay: 100 * GIB, objectBytes: 8 * MIB, intervalSeconds: 10 };
const appendOnly = { ...load, movedShare: 0, spreadBytes: 8 * MIB };
const at = { prices: priceTable['s3-standard'], load: appendOnly, amplification: 1 };
const configured = { storedBytes: 100 * GIB, objectBytes: 8 * MIB, intervalSeconds: 10 };
const near = (found: number, expected: number): void =>
  assert.ok(Math.abs(found - expected) < 0.005 * expected + 0.005, `${found}, not ${expected}`);

describe('the cost of a bucket', () => {
  it('counts PUTs by size where much is written, by age where little is', () => {
    // 12,800 segments a day, 12.5 shards of their table, and a checkpoint every ten minutes.
    assert.equal(costOf(at).putsMonth, 388_671);
    near(costOf(at).requests, 1.94);
    near(costOf(at).storage, 23);
    const little = { ...appendOnly, changesBytesPerDay: GIB };
    const puts = (changed: Partial<typeof little>): number =>
      costOf({ ...at, load: { ...little, ...changed } }).putsMonth;
    assert.equal(puts({}), 255_458);
    assert.equal(puts({ intervalSeconds: 60 }), 47_120);
    assert.equal(puts({ changesBytesPerDay: 0 }), 0);
  });

  it('counts compaction, and the least time of a class, and what a restore costs', () => {
    const compacted = costOf({ ...at, load: { ...load, spreadBytes: 8 * MIB } });
    assert.ok(compacted.putsMonth > 2.27 * 384_000 && compacted.putsMonth < 2.4 * 384_000, `${compacted.putsMonth}`);
    assert.ok(compacted.getsMonth > 2.26 * 384_000);
    const infrequent = costOf({ ...at, prices: priceTable['s3-standard-ia'] });
    near(infrequent.storage, (1000 + 100 * 30) * 0.0125);
    near(costOf(at).restore, (1000 * 4096 * 0.0004) / 1000 + 90);
    near(costOf({ ...at, prices: priceTable.r2 }).restore, (1000 * 4096 * 0.00036) / 1000);
  });

  it('prints a line for each change rate and object size, with prices and their date', () => {
    const lines = costLines({}, configured);
    assert.match(lines[0] ?? '', /^Amazon S3 Standard, us-east-1, prices of \d{4}-\d\d: \$0.023 a GB and month/);
    assert.equal(lines.filter((line) => / GiB +[\d.]+ MiB /.test(line)).length, 9);
    assert.ok(
      lines.some((line) => /^100 GiB +8 MiB +980,850 +5\.25 +3\.91 +9\.16$/.test(line)),
      lines.join('\n'),
    );
  });

  it('takes flags for everything', () => {
    const flags = { prices: 'r2', stored: '10GiB', changes: '8GiB', objectSize: '8MiB', interval: '3600' };
    const lines = costLines(
      { ...flags, putPrice: '1', storagePrice: '2', getPrice: '0', trafficPrice: '3' },
      configured,
    );
    assert.ok(
      lines.some((line) => /^8 GiB +8 MiB +105,432 +105\.43 +34\.00 +139\.43$/.test(line)),
      lines.join('\n'),
    );
    assert.match(lines.at(-1) ?? '', /A full restore to elsewhere: \$30\.00/);
  });

  for (const [flags, message] of [
    [{ prices: 'cheap' }, /^--prices: there are none for "cheap"; write one of s3-standard, /],
    [{ stored: 'much' }, /^--stored: "much" is not a size/],
    [{ changes: '0' }, /^--changes: 0 is no size/],
    [{ putPrice: '-1' }, /^--put-price: "-1" is not a price; write dollars such as 0.023$/],
    [{ interval: '0' }, /^--interval: "0" is not a number of seconds/],
  ] as const) {
    it(`refuses ${JSON.stringify(flags)}`, () =>
      assert.throws(() => costLines(flags, configured), { code: 'config-invalid', message }));
  }
});
