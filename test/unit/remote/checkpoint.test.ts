import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { emptyDelta, openCheckpoint, sealCheckpoint } from '../../../src/remote/checkpoint.js';
import type { Checkpoint } from '../../../src/remote/checkpoint.js';
import { FRAME_PLAIN_BYTES } from '../../../src/remote/seal-header.js';
import { hex, link, refuses, refusesDamage, testSealer } from './sealed-fixture.js';

const key = { epoch: 3, number: 77 };
const name = testSealer().names.checkpoint(key);
const point = (number: number) => ({ epoch: 3, number, link: link(number), lsn: number * 2, wallMs: number * 3 });
const live = new Uint16Array(1024).fill(9, 0, 2);

const checkpoint: Checkpoint = {
  sizeBytes: 2 ** 34,
  wallMs: 6,
  recoveryPoint: point(77),
  epochs: [{ epoch: 3, firstNumber: 70, link: link(0xe0) }],
  receipts: [point(71), point(72)],
  mapShards: [{ shardIndex: 5, epoch: 2, number: 60, part: 1, link: link(0xe1) }],
  tableShards: [{ tableIndex: 0, epoch: 2, number: 60, part: 2, link: link(0xe2), live }],
  tail: [
    {
      row: { epoch: 3, number: 77, indexSealedBytes: 528, payloadBlocks: 4, lastLsn: 154, salt: link(0xe3) },
      liveBlocks: 3,
    },
  ],
  delta: {
    count: 2,
    firstBlock: Float64Array.of(0x10, 0x0a0000000000),
    blockCount: Uint32Array.of(2, 0xffffffff),
    segment: Float64Array.of(77, 0),
    payload: Uint16Array.of(1, 0),
  },
  snapshots: [
    {
      name: 'before-upgrade',
      lsn: 72,
      point: point(73),
      sizeBytes: 5,
      root: { epoch: 2, link: link(0xe4), mappedBlocks: 8 },
    },
  ],
};

describe('checkpoint', () => {
  it('has the bytes of docs/formats.md', () => {
    const sealer = testSealer();
    const { bytes } = sealCheckpoint(sealer, key, checkpoint);
    const { index, body } = sealer.openWhole({ kind: 'checkpoint', name, ...key, part: 0 }, bytes);
    const u32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer).toString('hex');
    const u64 = (value: number) => u32(value % 2 ** 32) + u32(Math.floor(value / 2 ** 32));
    const pointHex = (number: number) => u64(3) + u64(number) + hex(link(number)) + u64(number * 2) + u64(number * 3);
    const expectedBody = [
      u64(3) + u64(70) + 'e0'.repeat(32),
      pointHex(71) + pointHex(72),
      u64(5) + u64(2) + u64(60) + u32(1) + 'e1'.repeat(32),
      u64(0) + u64(2) + u64(60) + u32(2) + 'e2'.repeat(32) + '09000900' + '0000'.repeat(1022),
      u64(77) + u32(3) + u32(528) + u32(4) + u32(0) + u64(154) + 'e3'.repeat(32) + '0300',
      '100000000000' + '02000000' + '4d0000000000' + '0100',
      '00000000000a' + 'ffffffff' + '000000000000' + '0000',
      pointHex(73) +
        u64(72) +
        u64(5) +
        u64(2) +
        'e4'.repeat(32) +
        u64(8) +
        '0e' +
        hex(Buffer.from('before-upgrade')).padEnd(126, '0'),
    ].join('');
    assert.equal(hex(body), expectedBody);
    const counts = [1, 2, 1, 1, 1, 2, 1].map(u32).join('');
    const hash = createHash('sha256').update(body).digest('hex');
    assert.equal(hex(index), (u64(2 ** 34) + u64(6) + pointHex(77) + counts + hash).padEnd(1024, '0'));
    assert.equal(
      hex(createHash('sha256').update(bytes).digest()),
      '7662834af63c36821dc600a0a7373d671200591e71ec6b05bd63fdd78cbce68a',
    );
    const staged = { round: 0x1234, firstNumber: 75, blocks: 6 };
    const other = sealCheckpoint(sealer, key, { ...checkpoint, staged }).bytes;
    const { index: otherIndex } = sealer.openWhole({ kind: 'checkpoint', name, ...key, part: 0 }, other);
    assert.equal(hex(otherIndex.subarray(140, 164)), u64(0x1234) + u64(75) + u64(6));
    assert.deepEqual(openCheckpoint(sealer, key, other), { ...checkpoint, staged });
  });

  it('comes back as it was, also over many frames', () => {
    const sealer = testSealer();
    const count = 50_000;
    const column = Array.from({ length: count }, (_, at) => at);
    const delta = {
      count,
      firstBlock: Float64Array.from(column, (at) => at * 3),
      blockCount: new Uint32Array(count).fill(2),
      segment: Float64Array.from(column, (at) => at % 78),
      payload: Uint16Array.from(column),
    };
    for (const example of [checkpoint, { ...checkpoint, delta }, { ...checkpoint, delta: emptyDelta, tail: [] }]) {
      const { bytes } = sealCheckpoint(sealer, key, example);
      assert.deepEqual(openCheckpoint(sealer, key, bytes), example);
    }
    assert.ok(sealCheckpoint(sealer, key, { ...checkpoint, delta }).bytes.length > 3 * FRAME_PLAIN_BYTES);
  });

  it('is the root of the snapshot at its own recovery point, and says its own link', () => {
    const sealer = testSealer();
    const own = {
      name: 'now',
      lsn: 76,
      point: point(77),
      sizeBytes: 5,
      root: { epoch: 3, link: link(0), mappedBlocks: 9 },
    };
    const sealed = sealCheckpoint(sealer, key, { ...checkpoint, snapshots: [...checkpoint.snapshots, own] });
    const { snapshots } = openCheckpoint(sealer, key, sealed.bytes);
    assert.deepEqual(snapshots, [...checkpoint.snapshots, { ...own, root: { ...own.root, link: sealed.link } }]);
  });

  it('is refused when any byte changed or is missing, or at another name', () => {
    const sealer = testSealer();
    const { bytes } = sealCheckpoint(sealer, key, checkpoint);
    refusesDamage(name, bytes, (changed) => openCheckpoint(sealer, key, changed), 19);
    const other = { epoch: 3, number: 78 };
    refuses(() => openCheckpoint(sealer, other, bytes), sealer.names.checkpoint(other), 'object-damaged');
  });

  it('is refused with a delta out of order', () => {
    const sealer = testSealer();
    const delta = { ...checkpoint.delta, firstBlock: Float64Array.of(0x10, 0x11) };
    const { bytes } = sealCheckpoint(sealer, key, { ...checkpoint, delta });
    refuses(() => openCheckpoint(sealer, key, bytes), name, 'object-damaged');
  });
});
