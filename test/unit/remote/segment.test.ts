import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { InvariantError } from '../../../src/base/assert.js';
import { BLOCK_BYTES } from '../../../src/base/units.js';
import { HEADER_BYTES } from '../../../src/remote/seal-header.js';
import { openFence, sealFence } from '../../../src/remote/segment-fence.js';
import type { Fence } from '../../../src/remote/segment-fence.js';
import { decodeSegmentIndex, encodeSegmentIndex } from '../../../src/remote/segment-index.js';
import type { SegmentFacts, SegmentIndex } from '../../../src/remote/segment-index.js';
import type { SegmentMoves } from '../../../src/remote/segment-moves.js';
import { openSegmentHead, readFrame, readPayload, readSegmentHead } from '../../../src/remote/segment-reader.js';
import { SegmentWriter } from '../../../src/remote/segment-writer.js';
import { MemoryStore } from '../../fake/memory-store.js';
import { hex, link, refuses, refusesDamage, testSealer } from './sealed-fixture.js';

const key = { epoch: 2, number: 9 };
const name = testSealer().names.segment(key);
const facts: SegmentFacts = {
  role: 'data',
  groupId: 4,
  groupFirstNumber: 8,
  groupEnd: true,
  firstLsn: 100,
  lastLsn: 0x1_0000_0001,
  wallMs: 1_700_000_000_000,
  sizeBytes: 2 ** 30,
  previousLink: link(0xaa),
  committed: { epoch: 2, number: 7 },
};
const takeover: Fence = {
  successorEpoch: 3,
  wallMs: 5,
  lastGroup: { epoch: 2, number: 8, link: link(0xbb), lsn: 99, wallMs: 4 },
};

/** Fills the writer's reserved blocks with their numbers. */
function addBlocks(writer: SegmentWriter, firstBlock: number, count: number): void {
  const at = writer.reserve(firstBlock, count);
  for (let block = 0; block < count; block++) {
    writer.payload.fill((firstBlock + block) & 0xff, (at + block) * BLOCK_BYTES, (at + block + 1) * BLOCK_BYTES);
    writer.sums[at + block] = 0x1000 + firstBlock + block;
  }
}

function smallWriter(): SegmentWriter {
  const writer = new SegmentWriter({ payloadBlocksMax: 256 });
  addBlocks(writer, 0x0102, 2);
  addBlocks(writer, 0x0a0b0c0d0e, 1);
  writer.addZeros(0x20, 0x1_0000_0000);
  writer.addEvent({ kind: 'resize', lsn: 101, sizeBytes: 2 ** 30 });
  return writer;
}

describe('segment index', () => {
  it('has the bytes of docs/formats.md', () => {
    const writer = smallWriter();
    writer.addEvent({ kind: 'snapshotDeleted', lsn: 102, name: 'old', snapshotLsn: 7 });
    writer.addEvent({ kind: 'snapshot', lsn: facts.lastLsn, name: 'new' });
    writer.addEvent({ kind: 'lateSnapshot', lsn: 103, name: 'late' });
    const plain = encodeSegmentIndex(writer.index({ ...facts, takeover }));
    const expected = [
      '00' + '03' + '00' + '00', // role, flags (group end, takeover), compression
      '03000000', // payload blocks
      '0400000000000000', // group
      '0800000000000000', // its first segment number
      '6400000000000000', // first LSN
      '0100000001000000', // last LSN
      '0068e5cf8b010000', // wall time
      '0000004000000000', // volume size
      'aa'.repeat(32), // previous link
      '0200000000000000' + '0700000000000000', // known committed
      '0000000000000000', // round
      '02000000' + '01000000' + '04000000' + '01000000', // extents, zero extents, events, frames
      // takeover: successor, wall time; epoch, number, link, LSN, wall time of the last group
      '0300000000000000' + '0500000000000000' + '0200000000000000' + '0800000000000000',
      'bb'.repeat(32) + '6300000000000000' + '0400000000000000',
      '020100000000' + '0200', // extent: first block, blocks
      '0e0d0c0b0a00' + '0100',
      '2000000000000000' + '0000000001000000', // zero extent
      '01' + '6500000000000000' + '08000000' + '0000004000000000', // resize event
      '03' + '6600000000000000' + '0b000000' + '0700000000000000' + '6f6c64', // snapshot deleted
      '02' + '0100000001000000' + '03000000' + '6e6577', // snapshot
      '04' + '6700000000000000' + '04000000' + '6c617465', // late snapshot
      '10300000', // the only frame ends after 3 * 4096 + 16 bytes
      '02110000' + '03110000' + '0e1d0c0b', // sums
    ].join('');
    assert.equal(hex(plain), expected + '00'.repeat(128 + 512 + 3 * 14 + 4 - expected.length / 2));
  });

  it('comes back as it was', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ first: fc.nat(2 ** 30), blocks: fc.integer({ min: 1, max: 40 }) }), { maxLength: 12 }),
        fc.array(fc.record({ first: fc.nat(2 ** 30), blocks: fc.integer({ min: 1, max: 2 ** 40 }) }), { maxLength: 5 }),
        fc.array(fc.maxSafeNat(), { maxLength: 3 }),
        fc.boolean(),
        (extents, zeros, sizes, fenced) => {
          const writer = new SegmentWriter({ payloadBlocksMax: 512 });
          for (const { first, blocks } of extents) addBlocks(writer, first, blocks);
          for (const { first, blocks } of zeros) writer.addZeros(first, blocks);
          for (const sizeBytes of sizes) writer.addEvent({ kind: 'resize', lsn: 7, sizeBytes });
          const index = writer.index(fenced ? { ...facts, takeover } : facts);
          assert.deepEqual(plainOf(decodeSegmentIndex(name, encodeSegmentIndex(index))), plainOf(index));
        },
      ),
      { numRuns: 100 },
    );
  });

  it('joins neighbours into one extent, of 65535 blocks at most', () => {
    const writer = new SegmentWriter({ payloadBlocksMax: 16 });
    addBlocks(writer, 10, 2);
    addBlocks(writer, 12, 3);
    addBlocks(writer, 14, 1);
    writer.addZeros(100, 5);
    writer.addZeros(105, 5);
    const { extents, zeros } = writer.index(facts);
    assert.deepEqual([...extents.firstBlock], [10, 14]);
    assert.deepEqual([...extents.blockCount], [5, 1]);
    assert.deepEqual([...extents.payload], [0, 5]);
    assert.deepEqual([...zeros.blockCount], [10]);
  });

  it('has a length that tells how much payload there is, and not how it is spread, nor whether it was moved', () => {
    const sealed = (addresses: readonly number[], moves?: SegmentMoves): number => {
      const writer = new SegmentWriter({ payloadBlocksMax: 128 });
      for (const address of addresses) addBlocks(writer, address, 1);
      const role = moves === undefined ? 'data' : 'compaction';
      return writer.seal(testSealer(), key, { ...facts, role }, moves === undefined ? {} : { moves }).bytes.length;
    };
    const numbers = Array.from({ length: 128 }, (_, at) => at);
    const spread = numbers.map((at) => at * 1000);
    assert.equal(sealed(numbers), sealed(spread));
    // From two blocks a source, about.
    const moves = {
      segment: Float64Array.from(numbers, (at) => 1 + Math.floor(at / 2)),
      payload: Uint32Array.from(numbers, (at) => at * 7),
    };
    assert.equal(sealed(spread, moves), sealed(numbers));
  });

  it('of a compaction segment has the bytes of docs/formats.md', () => {
    const writer = new SegmentWriter({ payloadBlocksMax: 8 });
    addBlocks(writer, 0x10, 2);
    addBlocks(writer, 0x20, 1);
    const moves = { segment: Float64Array.of(5, 5, 0x0605_0403_0201), payload: Uint32Array.of(9, 0x1234, 7) };
    const index = writer.index({ ...facts, role: 'compaction' }, moves);
    const plain = encodeSegmentIndex(index);
    const fixed = '03' + '01' + '00' + '00' + '03000000';
    assert.equal(hex(plain.subarray(0, 8)), fixed);
    const expected = [
      '100000000000' + '0200' + '200000000000' + '0100', // extents
      '10300000', // the only frame ends
      '10100000' + '11100000' + '20100000', // sums
      '02000000', // sources
      '050000000000' + '0200' + '010203040506' + '0100', // segment, blocks
      '0900' + '3412' + '0700', // payload indexes in them
    ].join('');
    assert.equal(hex(plain.subarray(128, 128 + expected.length / 2)), expected);
    assert.deepEqual(plainOf(decodeSegmentIndex(name, plain)), plainOf(index));
    const changed = (at: number, value: number): Uint8Array => {
      const bytes = plain.slice();
      bytes[at] = value;
      return bytes;
    };
    // More blocks than the payload, fewer, none, and no segment at all.
    const source = 128 + 16 + 4 + 12 + 4;
    for (const [at, value] of [
      [source + 6, 3],
      [source + 6, 1],
      [source + 6, 0],
      [source, 0],
    ] as const) {
      refuses(() => decodeSegmentIndex(name, changed(at, value)), name, 'object-damaged');
    }
    refuses(() => decodeSegmentIndex(name, changed(0, 1)), name, 'object-damaged');
  });

  it('of a staged or apply segment has the bytes of docs/formats.md, and nothing that is not its own', () => {
    const bytesOf = (writer: SegmentWriter, role: 'staged' | 'apply'): Uint8Array =>
      encodeSegmentIndex(writer.index({ ...facts, role, round: 0x0605_0403_0201 }));
    const writer = new SegmentWriter({ payloadBlocksMax: 8 });
    addBlocks(writer, 0x10, 2);
    writer.addZeros(0x40, 3);
    const staged = bytesOf(writer, 'staged');
    assert.equal(hex(staged.subarray(0, 8)), '01' + '01' + '00' + '00' + '02000000');
    assert.equal(hex(staged.subarray(104, 112)), '0102030405060000');
    assert.equal(decodeSegmentIndex(name, staged).round, 0x0605_0403_0201);
    const empty = new SegmentWriter({ payloadBlocksMax: 8 });
    empty.addEvent({ kind: 'snapshot', lsn: facts.lastLsn, name: 'now' });
    const apply = bytesOf(empty, 'apply');
    assert.equal(hex(apply.subarray(0, 8)), '02' + '01' + '00' + '00' + '00000000');
    assert.deepEqual(decodeSegmentIndex(name, apply).events, [{ kind: 'snapshot', lsn: facts.lastLsn, name: 'now' }]);
    // A staged segment with an event, and an apply segment with blocks, are none.
    for (const [bytes, role] of [
      [apply, 1],
      [staged, 2],
    ] as const) {
      const other = bytes.slice();
      other[0] = role;
      refuses(() => decodeSegmentIndex(name, other), name, 'object-damaged');
    }
  });

  it('of a later version is refused as such, and contradictions as damage', () => {
    const changed = (at: number, value: number): Uint8Array => {
      const plain = encodeSegmentIndex(smallWriter().index(facts));
      plain[at] = value;
      return plain;
    };
    for (const [at, value] of [
      [0, 4],
      [1, 4],
      [2, 1],
      [3, 1],
    ] as const) {
      refuses(() => decodeSegmentIndex(name, changed(at, value)), name, 'format-newer');
    }
    // A round of its own in a data segment, and none in a staged one.
    refuses(() => decodeSegmentIndex(name, changed(104, 1)), name, 'object-damaged');
    refuses(() => decodeSegmentIndex(name, changed(0, 1)), name, 'object-damaged');
    // Payload blocks that the extents do not hold; more extents than bytes; an empty extent; an unknown event.
    for (const [at, value] of [
      [4, 4],
      [115, 0xff],
      [134, 0],
    ] as const) {
      refuses(() => decodeSegmentIndex(name, changed(at, value)), name, 'object-damaged');
    }
    refuses(() => decodeSegmentIndex(name, changed(160, 5)), name, 'format-newer');
    refuses(() => decodeSegmentIndex(name, changed(160, 2)), name, 'object-damaged');
  });
});

describe('segment', () => {
  it('has the bytes of docs/formats.md', () => {
    const { bytes, link: sealedLink } = smallWriter().seal(testSealer(), key, facts);
    assert.equal(bytes.length, HEADER_BYTES + 1024 + 16 + 3 * BLOCK_BYTES + 16);
    assert.equal(hex(sealedLink), 'a9d884839774d962cdc2a38beb84296cf9032bcba12f219a07ef44f0a3738541');
    assert.equal(
      hex(createHash('sha256').update(bytes).digest()),
      '7840ff451ad8f36bc25e0d0fa0a5350a4f65df69cd593f535d5c40fad03acb31',
    );
  });

  it('is read by one ranged GET, and each frame by one more', async () => {
    const sealer = testSealer();
    const store = new MemoryStore();
    const writer = new SegmentWriter({ payloadBlocksMax: 200 });
    for (let block = 0; block < 200; block++) addBlocks(writer, block * 10, 1);
    const sealed = writer.seal(sealer, key, facts);
    assert.equal(sealed.name, name);
    await store.put(name, sealed.bytes, { ifAbsent: true });
    store.calls.length = 0;
    const segment = await readSegmentHead(store, sealer, key);
    assert.equal(store.calls.length, 1);
    assert.ok(segment.kind === 'segment');
    assert.deepEqual(plainOf(segment.index), plainOf(sealed.index));
    assert.deepEqual(Buffer.from(segment.link), Buffer.from(sealed.link));
    assert.equal(segment.frames.count, 4);
    const frame = await readFrame(store, sealer, key, segment.frames, 3);
    assert.equal(store.calls.length, 2);
    assert.equal(frame.length, 8 * BLOCK_BYTES);
    assert.deepEqual([frame[0], frame[BLOCK_BYTES]], [(192 * 10) & 0xff, (193 * 10) & 0xff]);
    const payload = await readPayload(store, sealer, segment);
    assert.equal(store.calls.length, 3);
    assert.deepEqual(payload, Buffer.from(writer.payload.subarray(0, 200 * BLOCK_BYTES)));
  });

  it('whose index is longer than the first GET takes a second', async () => {
    const sealer = testSealer();
    const store = new MemoryStore();
    const writer = new SegmentWriter({ payloadBlocksMax: 8 });
    addBlocks(writer, 0, 1);
    for (let at = 0; at < 10_000; at++) writer.addZeros(at * 2, 1);
    const sealed = writer.seal(sealer, key, facts);
    await store.put(name, sealed.bytes, { ifAbsent: true });
    const segment = await readSegmentHead(store, sealer, key);
    assert.ok(segment.kind === 'segment');
    assert.equal(segment.index.zeros.count, 10_000);
    assert.equal(store.calls.length, 3);
  });

  it('may have no payload', async () => {
    const sealer = testSealer();
    const store = new MemoryStore();
    const writer = new SegmentWriter({ payloadBlocksMax: 8 });
    assert.ok(writer.empty);
    writer.addZeros(3, 4);
    const sealed = writer.seal(sealer, key, facts);
    await store.put(name, sealed.bytes, { ifAbsent: true });
    const segment = await readSegmentHead(store, sealer, key);
    assert.ok(segment.kind === 'segment');
    assert.equal(segment.frames.count, 0);
    assert.equal((await readPayload(store, sealer, segment)).length, 0);
  });

  it('is refused when any byte changed or is missing', async () => {
    const sealer = testSealer();
    const { bytes } = smallWriter().seal(sealer, key, facts);
    const open = (changed: Uint8Array): void => {
      const segment = openSegmentHead(sealer, key, changed);
      assert.ok(segment.kind === 'segment');
      const { start, lengthBytes } = segment.frames.range(0);
      segment.frames.open(0, changed.subarray(start, start + Math.max(lengthBytes, changed.length - start)));
    };
    refusesDamage(name, bytes, open, 101);
    const store = new MemoryStore();
    await store.put(name, bytes.subarray(0, 300), { ifAbsent: true });
    await assert.rejects(readSegmentHead(store, sealer, key), { code: 'object-damaged' });
  });

  it('is refused in another segment’s place', () => {
    const sealer = testSealer();
    const { bytes } = smallWriter().seal(sealer, key, facts);
    for (const other of [
      { epoch: 2, number: 10 },
      { epoch: 3, number: 9 },
    ]) {
      refuses(() => openSegmentHead(sealer, other, bytes), sealer.names.segment(other), 'object-damaged');
    }
  });

  it('keeps its buffer for the next one', () => {
    const writer = smallWriter();
    const first = writer.seal(testSealer(), key, facts);
    writer.clear();
    assert.ok(writer.empty);
    assert.equal(writer.freeBlocks, 256);
    addBlocks(writer, 5, 1);
    const second = writer.seal(testSealer(), { epoch: 2, number: 10 }, facts);
    assert.deepEqual([...second.index.extents.firstBlock], [5]);
    assert.deepEqual([...first.index.extents.firstBlock], [0x0102, 0x0a0b0c0d0e]);
    assert.equal(second.index.zeros.count, 0);
    assert.equal(second.index.events.length, 0);
  });

  it('copies blocks and sums that stand elsewhere', () => {
    const writer = new SegmentWriter({ payloadBlocksMax: 4 });
    const source = new Uint8Array(3 * BLOCK_BYTES).fill(1, BLOCK_BYTES, 2 * BLOCK_BYTES).fill(2, 2 * BLOCK_BYTES);
    writer.add(70, 2, source, BLOCK_BYTES, Uint32Array.of(9, 8, 7), 1);
    assert.deepEqual([writer.payload[0], writer.payload[BLOCK_BYTES]], [1, 2]);
    assert.deepEqual([...writer.index(facts).sums], [8, 7]);
    assert.throws(() => writer.reserve(0, 3), InvariantError);
  });
});

describe('fence', () => {
  const fence = takeover;

  it('has the bytes of docs/formats.md', () => {
    const sealer = testSealer();
    const { bytes } = sealFence(sealer, key, fence);
    const opened = sealer.open({ kind: 'fence', name, ...key, part: 0 }, bytes);
    const expected = [
      '0300000000000000' + '0500000000000000',
      '0200000000000000' + '0800000000000000' + 'bb'.repeat(32) + '6300000000000000' + '0400000000000000',
    ].join('');
    assert.equal(hex(opened.index), expected.padEnd(1024, '0'));
    assert.equal(
      hex(createHash('sha256').update(bytes).digest()),
      '48aeccb949a7a9d56406345256f0c2274407c3d20e35585108ea7ff184df78f4',
    );
  });

  it('is found where its epoch’s next segment would be', async () => {
    const sealer = testSealer();
    const store = new MemoryStore();
    assert.equal((await readSegmentHead(store, sealer, key)).kind, 'absent');
    const sealed = sealFence(sealer, key, fence);
    await store.put(name, sealed.bytes, { ifAbsent: true });
    const found = await readSegmentHead(store, sealer, key);
    assert.ok(found.kind === 'fence');
    assert.deepEqual(plainOf(found.fence), plainOf(fence));
    assert.equal(hex(found.header.salt), hex(sealed.header.salt));
  });

  it('is refused when any byte changed or is missing, and as a segment', () => {
    const sealer = testSealer();
    const { bytes } = sealFence(sealer, key, fence);
    refusesDamage(name, bytes, (changed) => openFence(sealer, key, changed), 7);
    // Its kind changed in the clear header: it does not become a segment.
    const posing = Uint8Array.from(bytes);
    posing[10] = 4;
    refuses(() => openSegmentHead(sealer, key, posing), name, 'object-damaged');
    refuses(
      () => openFence(sealer, { epoch: 2, number: 10 }, bytes),
      sealer.names.segment({ epoch: 2, number: 10 }),
      'object-damaged',
    );
  });
});

/** Buffers and typed arrays as plain ones, so that deepEqual compares what they hold. */
function plainOf(value: SegmentIndex | Fence): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, field: unknown) => {
      if (ArrayBuffer.isView(field)) return [...(field as Uint8Array)];
      if (typeof field === 'object' && field !== null && 'type' in field && field.type === 'Buffer' && 'data' in field)
        return field.data;
      return field;
    }),
  );
}
