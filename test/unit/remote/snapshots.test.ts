import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { SegmentEvent } from '../../../src/remote/segment-event.js';
import { afterGroup, rootless, requireSnapshot, snapshotNamed } from '../../../src/remote/snapshots.js';
import type { Snapshot } from '../../../src/remote/snapshots.js';
import { link } from './sealed-fixture.js';

const point = (number: number) => ({ epoch: 1, number, link: link(number), lsn: number * 10, wallMs: number });
const snapshot = (name: string, number: number, rootEpoch?: number): Snapshot => ({
  name,
  lsn: number * 10,
  point: point(number),
  sizeBytes: 4096,
  root: rootEpoch === undefined ? undefined : { epoch: rootEpoch, link: link(9), mappedBlocks: 1 },
});
const group = (number: number, ...events: SegmentEvent[]) => ({
  point: point(number),
  sizeBytes: 4096,
  segments: [{ index: { events } }],
});

describe('snapshots of a history', () => {
  it('begin with their group and end with the one that deletes them', () => {
    let list: readonly Snapshot[] = [];
    list = afterGroup(list, group(3, { kind: 'snapshot', lsn: 30, name: 'one' }));
    list = afterGroup(list, group(5, { kind: 'snapshot', lsn: 50, name: 'two' }));
    assert.deepEqual(list, [snapshot('one', 3), snapshot('two', 5)]);
    assert.equal(afterGroup(list, group(6, { kind: 'resize', lsn: 60, sizeBytes: 8192 })), list);
    // Deleted, and the name given again, in one group.
    const events: SegmentEvent[] = [
      { kind: 'snapshotDeleted', lsn: 68, name: 'one', snapshotLsn: 30 },
      { kind: 'snapshot', lsn: 70, name: 'one' },
    ];
    list = afterGroup(list, group(7, ...events));
    assert.deepEqual(list, [snapshot('two', 5), snapshot('one', 7)]);
    assert.equal(snapshotNamed(list, 'one')?.point.number, 7);
    assert.equal(snapshotNamed(list, 'three'), undefined);
  });

  it('are missed in one line, however many there are and whatever was asked for', () => {
    const list = Array.from({ length: 10_000 }, (_, at) => snapshot(`s${at}`, at + 1));
    const message = (snapshots: readonly Snapshot[], name: string): string => {
      try {
        requireSnapshot(snapshots, name, 'disk0');
      } catch (error) {
        return (error as Error).message;
      }
      return 'found';
    };
    assert.equal(message(list, 's77'), 'found');
    assert.match(message(list, 'x'), /^volume disk0 has no snapshot "x": it has s9980, .*, s9999 and 9980 older ones$/);
    assert.equal(message([], 'a\nb'), 'volume disk0 has no snapshot "a\\nb": it has none');
    assert.ok(message(list, 'y'.repeat(100_000)).length < 500);
  });

  it('are named by their own LSN where several came late to one recovery point', () => {
    const late: SegmentEvent[] = [
      { kind: 'lateSnapshot', lsn: 31, name: 'one' },
      { kind: 'lateSnapshot', lsn: 35, name: 'two' },
      { kind: 'lateSnapshot', lsn: 36, name: 'three' },
      { kind: 'snapshotDeleted', lsn: 38, name: 'three', snapshotLsn: 36 },
    ];
    const list = afterGroup([], group(4, ...late));
    assert.deepEqual(
      list.map(({ name, lsn, point: { lsn: pointLsn } }) => [name, lsn, pointLsn]),
      [
        ['one', 31, 40],
        ['two', 35, 40],
      ],
    );
    const deleted = afterGroup(list, group(5, { kind: 'snapshotDeleted', lsn: 50, name: 'one', snapshotLsn: 31 }));
    assert.deepEqual(
      deleted.map(({ name }) => name),
      ['two'],
    );
  });

  it('are without a root until it is written, the oldest first', () => {
    const list = [snapshot('one', 3, 2), snapshot('two', 5), snapshot('three', 8)];
    assert.equal(rootless(list, 4), undefined);
    assert.equal(rootless(list, 9)?.name, 'two');
  });
});
