/** The judge of restores under load, judged: what it must find, and what it must let pass. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { HistoryLedger } from './history-ledger.js';
import { contentsOf, sectorBytes } from './ledger.js';

const sectors = 16;

class Volume {
  readonly ledger = new HistoryLedger(sectors * sectorBytes);
  readonly contents = Buffer.alloc(sectors * sectorBytes);

  write(first: number, count: number): number {
    const number = this.ledger.begin(first, count);
    this.ledger.acknowledge(first, count);
    return number;
  }
  holds(first: number, count: number, number: number): void {
    contentsOf(first, count, number).copy(this.contents, first * sectorBytes);
  }
  judge(): string[] {
    return this.ledger.judge(this.contents);
  }
}

describe('ledger of restores under load', () => {
  it('lets a copy end anywhere, and be newer with the next restore', () => {
    const volume = new Volume();
    const first = volume.write(0, 4);
    const second = volume.write(2, 4);
    assert.deepEqual(volume.judge(), []);
    volume.holds(0, 4, first);
    assert.deepEqual(volume.judge(), []);
    volume.holds(2, 4, second);
    assert.deepEqual(volume.judge(), []);
  });

  it('finds a write that is missing before one that is there', () => {
    const volume = new Volume();
    volume.write(0, 4);
    volume.holds(8, 1, volume.write(8, 1));
    assert.match(volume.judge().join(), /sector 0 holds write 0, but write 1 was answered before/);
  });

  it('finds half a write', () => {
    const volume = new Volume();
    volume.write(12, 1);
    const whole = volume.write(0, 4);
    volume.holds(12, 1, 1);
    volume.holds(0, 2, whole);
    volume.holds(8, 1, volume.write(8, 1));
    assert.match(volume.judge().join(), /sector 2 holds write 0/);
  });

  it('finds a copy that is older than an earlier one', () => {
    const volume = new Volume();
    volume.holds(0, 1, volume.write(0, 1));
    volume.holds(8, 1, volume.write(8, 1));
    assert.deepEqual(volume.judge(), []);
    volume.contents.fill(0);
    assert.match(volume.judge().join(), /sector 0 holds zeros, which it must not hold any more/);
  });

  it('finds contents that nobody wrote there', () => {
    const volume = new Volume();
    volume.write(0, 1);
    volume.holds(3, 1, 1);
    assert.match(volume.judge().join(), /sector 3 holds write 1 of sector 3, which it must not hold/);
  });

  it('wants everything after a drain', () => {
    const volume = new Volume();
    volume.write(0, 1);
    assert.deepEqual(volume.judge(), []);
    volume.ledger.drained();
    assert.match(volume.judge().join(), /write 1 was answered before/);
    volume.holds(0, 1, 1);
    assert.deepEqual(volume.judge(), []);
    assert.equal(volume.ledger.open, 0);
  });
});
