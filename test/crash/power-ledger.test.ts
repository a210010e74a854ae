/** The judge of the power cuts, judged: what it must find, and what it must let pass. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { contentsOf, sectorBytes } from './ledger.js';
import { PowerLedger } from './power-ledger.js';

const sectors = 16;

class Volume {
  readonly ledger = new PowerLedger(sectors * sectorBytes);
  readonly contents = Buffer.alloc(sectors * sectorBytes);

  issue(first: number, count: number): number {
    return this.ledger.begin(first, count);
  }
  write(first: number, count: number, forced = false): number {
    const number = this.issue(first, count);
    this.ledger.acknowledge(first, count, forced);
    return number;
  }
  flush(): void {
    this.ledger.acknowledgeFlush(this.ledger.beginFlush());
  }
  holds(first: number, count: number, number: number): void {
    contentsOf(first, count, number).copy(this.contents, first * sectorBytes);
  }
  verify(): string[] {
    return this.ledger.verify(this.contents);
  }
}

describe('ledger of power cuts', () => {
  it('lets a volume lose what was not flushed', () => {
    const volume = new Volume();
    volume.write(0, 4);
    volume.issue(8, 2);
    assert.deepEqual(volume.verify(), []);
  });

  it('finds a flushed write that is gone, and one that was forced', () => {
    const flushed = new Volume();
    flushed.write(0, 4);
    flushed.flush();
    assert.match(flushed.verify().join(), /sector 0 holds write 0, but write 1 was answered before a flush/);
    const forced = new Volume();
    forced.write(3, 1, true);
    assert.match(forced.verify().join(), /write 1 was forced/);
  });

  it('asks nothing of a flush that was not answered, or of a write that was answered after it was issued', () => {
    const volume = new Volume();
    volume.write(0, 4);
    volume.ledger.beginFlush();
    assert.deepEqual(volume.verify(), []);
    const begun = volume.ledger.beginFlush();
    volume.write(0, 4);
    volume.ledger.acknowledgeFlush(begun);
    assert.deepEqual(volume.verify(), []);
  });

  it('lets an outstanding write be there or not, but not in part', () => {
    const volume = new Volume();
    volume.write(0, 4);
    volume.flush();
    volume.holds(0, 4, 1);
    const torn = volume.issue(0, 4);
    volume.holds(2, 2, torn);
    assert.match(volume.verify().join(), /sector 0 holds write 1, but write 2 stands on another of its sectors/);
  });

  it('finds a hole in the order: a later write survived, an earlier one did not', () => {
    const volume = new Volume();
    volume.write(0, 1);
    const later = volume.issue(8, 1);
    volume.holds(8, 1, later);
    assert.match(volume.verify().join(), /write 1 was answered before a flush, or before a write that survived/);
  });

  it('lets writes survive in any order that were under way together', () => {
    const volume = new Volume();
    volume.issue(0, 1);
    const second = volume.issue(8, 1);
    volume.ledger.acknowledge(0, 1, false);
    volume.holds(8, 1, second);
    assert.deepEqual(volume.verify(), []);
  });

  it('finds what was never written, and what belongs to another sector', () => {
    const volume = new Volume();
    const number = volume.write(0, 2);
    volume.holds(0, 2, number);
    volume.contents[100] = 1 ^ (volume.contents[100] ?? 0);
    contentsOf(1, 1, number).copy(volume.contents, 5 * sectorBytes);
    const wrong = volume.verify().join('\n');
    assert.match(wrong, /sector 0 holds write 1 of sector 0, which was never written to it/);
    assert.match(wrong, /sector 5 holds write 1 of sector 1, which was never written to it/);
  });

  it('takes what was found as durable from then on', () => {
    const volume = new Volume();
    const number = volume.issue(0, 2);
    volume.holds(0, 2, number);
    assert.deepEqual(volume.verify(), []);
    volume.contents.fill(0);
    assert.match(volume.verify().join(), /sector 0 holds write 0 of sector 0, which was never written to it/);
  });
});
