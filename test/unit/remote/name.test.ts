import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { InvariantError } from '../../../src/base/assert.js';
import { EPOCH_MAX, ObjectNames, PART_MAX, SEGMENT_NUMBER_MAX, uuidOfKey } from '../../../src/remote/name.js';
import { uuid } from './sealed-fixture.js';

const names = new ObjectNames(uuid);

describe('object names', () => {
  it('are those of docs/formats.md', () => {
    assert.equal(names.volume, `${uuid}/volume`);
    assert.equal(names.key('0123456789abcdef0123456789abcdef'), `${uuid}/keys/0123456789abcdef0123456789abcdef`);
    assert.equal(names.epoch(7), `${uuid}/epochs/0000000007`);
    assert.equal(names.segment({ epoch: 7, number: 42 }), `${uuid}/segments/0000000007-000000000000042`);
    assert.equal(names.checkpoint({ epoch: 7, number: 42 }), `${uuid}/checkpoints/0000000007-000000000000042`);
    assert.equal(
      names.shard({ epoch: 7, number: 42, part: 3 }),
      `${uuid}/shards/0000000007-000000000000042-0000000003`,
    );
    assert.equal(names.pin('a-1'), `${uuid}/pins/a-1`);
  });

  const key = fc.record({ epoch: fc.nat(EPOCH_MAX), number: fc.maxSafeNat().map((n) => n % (SEGMENT_NUMBER_MAX + 1)) });

  it('sort as bytes as their numbers do', () => {
    fc.assert(
      fc.property(key, key, (a, b) => {
        const numeric = Math.sign(a.epoch - b.epoch || a.number - b.number);
        const bytes = Buffer.compare(Buffer.from(names.segment(a)), Buffer.from(names.segment(b)));
        assert.equal(bytes, numeric);
      }),
    );
  });

  it('parse to what they were made of', () => {
    fc.assert(
      fc.property(key, fc.nat(PART_MAX), (at, part) => {
        assert.deepEqual(names.parse(names.segment(at)), { kind: 'segment', ...at });
        assert.deepEqual(names.parse(names.checkpoint(at)), { kind: 'checkpoint', ...at });
        assert.deepEqual(names.parse(names.shard({ ...at, part })), { kind: 'shard', ...at, part });
        assert.deepEqual(names.parse(names.epoch(at.epoch)), { kind: 'epoch', epoch: at.epoch });
        assert.ok(names.segment(at).startsWith(names.segmentsOfEpochPrefix(at.epoch)));
      }),
    );
    assert.deepEqual(names.parse(names.volume), { kind: 'volume' });
    assert.deepEqual(names.parse(names.pin('x')), { kind: 'pin', id: 'x' });
    const id = 'ab'.repeat(16);
    assert.deepEqual(names.parse(names.key(id)), { kind: 'key', id });
  });

  it('do not parse when they are another volume’s, too large or malformed', () => {
    for (const wrong of [
      'volume',
      `${uuid}/`,
      `${uuid}/volume/x`,
      `${uuid}/segments/7-42`,
      `${uuid}/segments/9999999999-000000000000042`,
      `${uuid}/segments/0000000007-999999999999999`,
      `${uuid}/epochs/0000000007/x`,
      `11112233-4455-6677-8899-aabbccddeeff/volume`,
    ]) {
      assert.equal(names.parse(wrong), undefined, wrong);
    }
  });

  it('refuse numbers out of range', () => {
    assert.throws(() => names.epoch(EPOCH_MAX + 1), InvariantError);
    assert.throws(() => names.segment({ epoch: 1, number: SEGMENT_NUMBER_MAX + 1 }), InvariantError);
    assert.throws(() => names.segment({ epoch: 1, number: -1 }), InvariantError);
    assert.throws(() => new ObjectNames(uuid.toUpperCase()), InvariantError);
  });

  it('tell the volume of a key', () => {
    assert.equal(uuidOfKey(`${uuid}/anything`), uuid);
    assert.equal(uuidOfKey('probe-x'), undefined);
    assert.equal(uuidOfKey('other/volume'), undefined);
  });
});
