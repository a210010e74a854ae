import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { InvariantError } from '../../../src/base/assert.js';
import { SEGMENT_NUMBER_MAX } from '../../../src/remote/name.js';
import { HEADER_BYTES } from '../../../src/remote/seal-header.js';
import { SegmentWriter } from '../../../src/remote/segment-writer.js';
import {
  MAP_PAGE_BYTES,
  MapEntries,
  mapPageSum,
  openMapShard,
  sealMapShard,
  SHARD_BYTES,
  SHARD_PAGES,
} from '../../../src/remote/shard-map.js';
import { framesOfRow, openTableShard, ROW_BYTES, sealTableShard, segmentRow } from '../../../src/remote/shard-table.js';
import type { SegmentRow } from '../../../src/remote/shard-table.js';
import { plainChecksums } from '../../fake/checksums.js';
import { hex, link, refuses, refusesDamage, testSealer } from './sealed-fixture.js';

const key = { epoch: 1, number: 20, part: 2 };
const name = testSealer().names.shard(key);

function testShard(shardIndex = 3) {
  const entries = new Uint8Array(SHARD_BYTES);
  const map = new MapEntries(entries);
  map.set(0, 0x060504030201, 0x0807);
  map.set(32_767, 42, 63);
  const pageSums = new Uint32Array(SHARD_PAGES);
  for (let page = 0; page < SHARD_PAGES; page++) {
    pageSums[page] = mapPageSum(plainChecksums, shardIndex * SHARD_PAGES + page, entries, page * MAP_PAGE_BYTES);
  }
  return { shardIndex, entries, pageSums };
}

describe('map shard', () => {
  it('has the bytes of docs/formats.md', () => {
    const sealer = testSealer();
    const shard = testShard();
    assert.equal(hex(shard.entries.subarray(0, 16)), '0102030405060708' + '0000000000000000');
    const { bytes } = sealMapShard(sealer, plainChecksums, key, shard);
    assert.equal(bytes.length, HEADER_BYTES + 512 + 16 + SHARD_BYTES + 16);
    const { index } = sealer.open({ kind: 'mapShard', name, ...key }, bytes);
    const hash = createHash('sha256').update(shard.entries).digest('hex');
    assert.equal(hex(index.subarray(0, 40)), '0300000000000000' + hash);
    assert.equal(Buffer.from(index).readUInt32LE(40 + 63 * 4), shard.pageSums[63]);
    assert.equal(
      hex(createHash('sha256').update(bytes).digest()),
      'f3b99b57a567f668aa72ee4c4aa5c4efe3b26cb1d8662381ada0a1b2d6c5feb3',
    );
  });

  it('comes back as it was', () => {
    const sealer = testSealer();
    const shard = testShard();
    const sealed = sealMapShard(sealer, plainChecksums, key, shard);
    const opened = openMapShard(sealer, plainChecksums, { ...key, shardIndex: 3, link: sealed.link }, sealed.bytes);
    assert.equal(opened.shardIndex, 3);
    assert.deepEqual(Buffer.from(opened.entries), Buffer.from(shard.entries));
    assert.deepEqual([...opened.pageSums], [...shard.pageSums]);
    const map = new MapEntries(opened.entries);
    assert.deepEqual([map.segment(0), map.payload(0)], [0x060504030201, 0x0807]);
    assert.deepEqual([map.segment(1), map.payload(1)], [0, 0]);
    assert.deepEqual([map.segment(32_767), map.payload(32_767)], [42, 63]);
  });

  it('is not sealed once the map has rotted, nor with its pages in another place', () => {
    const sealer = testSealer();
    const rotten = testShard();
    rotten.entries[5 * MAP_PAGE_BYTES + 7] = 1;
    assert.throws(() => sealMapShard(sealer, plainChecksums, key, rotten), { code: 'checksum-mismatch' });
    const misplaced = { ...testShard(3), shardIndex: 4 };
    assert.throws(() => sealMapShard(sealer, plainChecksums, key, misplaced), { code: 'checksum-mismatch' });
  });

  it('is refused when any byte changed or is missing', () => {
    const sealer = testSealer();
    const sealed = sealMapShard(sealer, plainChecksums, key, testShard());
    const { bytes } = sealed;
    const reference = { ...key, shardIndex: 3, link: sealed.link };
    refusesDamage(name, bytes, (changed) => openMapShard(sealer, plainChecksums, reference, changed), 20_011);
    // A root of this version names it: it is none of a newer one.
    const newer = Uint8Array.from(bytes, (byte, at) => (at === 8 ? byte ^ 2 : byte));
    refuses(() => openMapShard(sealer, plainChecksums, reference, newer), name, 'object-damaged');
    const other = { ...reference, part: 3 };
    refuses(() => openMapShard(sealer, plainChecksums, other, bytes), sealer.names.shard(other), 'object-damaged');
  });

  it('is refused when it is not the one that the checkpoint names', () => {
    const sealer = testSealer();
    const { bytes, link: sealedLink } = sealMapShard(sealer, plainChecksums, key, testShard());
    const reference = { ...key, shardIndex: 3, link: sealedLink };
    for (const wrong of [
      { ...reference, shardIndex: 4 },
      { ...reference, link: link(1) },
    ]) {
      refuses(() => openMapShard(sealer, plainChecksums, wrong, bytes), name, 'object-damaged');
    }
  });

  it('keeps every segment number and payload index apart', () => {
    const map = new MapEntries(new Uint8Array(64));
    fc.assert(
      fc.property(fc.nat(7), fc.maxSafeNat(), fc.nat(0xffff), (at, number, payload) => {
        map.set((at + 1) % 8, 5, 6);
        map.set(at, number % (SEGMENT_NUMBER_MAX + 1), payload);
        assert.deepEqual([map.segment(at), map.payload(at)], [number % (SEGMENT_NUMBER_MAX + 1), payload]);
        assert.deepEqual([map.segment((at + 1) % 8), map.payload((at + 1) % 8)], [5, 6]);
      }),
    );
  });
});

describe('table shard', () => {
  const rows: SegmentRow[] = [1024, 1030, 2047].map((number) => ({
    epoch: 2,
    number,
    indexSealedBytes: 528,
    payloadBlocks: 3,
    lastLsn: number * 10,
    salt: link(number & 0xff),
  }));

  it('has the bytes of docs/formats.md', () => {
    const sealer = testSealer();
    const { bytes } = sealTableShard(sealer, key, 1, rows);
    const { index, body } = sealer.openWhole({ kind: 'tableShard', name, ...key }, bytes);
    const row =
      '0004000000000000' + '02000000' + '10020000' + '03000000' + '00000000' + '0028000000000000' + '00'.repeat(32);
    assert.equal(hex(body.subarray(0, ROW_BYTES)), row);
    const hash = createHash('sha256').update(body).digest('hex');
    assert.equal(hex(index.subarray(0, 44)), '0100000000000000' + '03000000' + hash);
    assert.equal(
      hex(createHash('sha256').update(bytes).digest()),
      '6bda699d5d401254bb7bf1bfb7d75168bc70d030b3c3055bde509711705e46d3',
    );
  });

  it('comes back as it was', () => {
    const sealer = testSealer();
    const sealed = sealTableShard(sealer, key, 1, rows);
    const reference = { ...key, tableIndex: 1, link: sealed.link };
    const readable = (row: SegmentRow) => ({ ...row, salt: hex(row.salt) });
    assert.deepEqual(openTableShard(sealer, reference, sealed.bytes).map(readable), rows.map(readable));
    for (const wrong of [
      { ...reference, tableIndex: 2 },
      { ...reference, link: link(1) },
    ]) {
      refuses(() => openTableShard(sealer, wrong, sealed.bytes), name, 'object-damaged');
    }
  });

  it('holds ascending rows of its own numbers only', () => {
    const sealer = testSealer();
    for (const wrong of [rows.toReversed(), [...rows, ...rows], [{ ...rows[0]!, number: 2048 }]]) {
      assert.throws(() => sealTableShard(sealer, key, 1, wrong), InvariantError);
    }
  });

  it('is refused when any byte changed or is missing', () => {
    const sealer = testSealer();
    const { bytes, link: sealedLink } = sealTableShard(sealer, key, 1, rows);
    const reference = { ...key, tableIndex: 1, link: sealedLink };
    refusesDamage(name, bytes, (changed) => openTableShard(sealer, reference, changed), 7);
    const newer = Uint8Array.from(bytes, (byte, at) => (at === 9 ? byte ^ 1 : byte));
    refuses(() => openTableShard(sealer, reference, newer), name, 'object-damaged');
  });

  it('lets a frame be opened without the segment’s index', () => {
    const sealer = testSealer();
    const segmentKey = { epoch: 2, number: 1030 };
    const writer = new SegmentWriter({ payloadBlocksMax: 100 });
    writer.payload.fill(0x77, writer.reserve(0, 100));
    const sealed = writer.seal(sealer, segmentKey, {
      groupId: 1,
      role: 'data',
      groupFirstNumber: 1030,
      groupEnd: true,
      firstLsn: 1,
      lastLsn: 2,
      wallMs: 3,
      sizeBytes: 2 ** 20,
      previousLink: link(0),
      committed: { epoch: 0, number: 0 },
    });
    const frames = framesOfRow(sealer, segmentRow(segmentKey, sealed));
    const { start, lengthBytes } = frames.range(1);
    const plain = frames.open(1, sealed.bytes.subarray(start, start + lengthBytes));
    assert.deepEqual([plain.length, plain[0]], [36 * 4096, 0x77]);
  });
});
