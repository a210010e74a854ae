import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { openCheckpoint } from '../../../src/remote/checkpoint.js';
import { planShards, REWRITE_BLOCKS } from '../../../src/remote/checkpoint-plan.js';
import { BookKeeper } from '../../../src/remote/book-keeper.js';
import { CheckpointWriter } from '../../../src/remote/checkpoint-writer.js';
import { RemoteBook } from '../../../src/remote/remote-map-book.js';
import { MapFile } from '../../../src/remote/remote-map-file.js';
import { MapDoubtError } from '../../../src/remote/remote-map-header.js';
import type { SegmentKey } from '../../../src/remote/name.js';
import { chainAt, samePoint } from '../../../src/remote/chain.js';
import { readChain } from '../../../src/remote/chain-walk.js';
import { FrozenBook } from '../../../src/remote/frozen-book.js';
import { ShardCache } from '../../../src/remote/shard-cache.js';
import { Incarnation } from '../../../src/remote/replicator-incarnation.js';
import { listCheckpoints } from '../../../src/remote/restore-checkpoint.js';
import { ObjectSealer } from '../../../src/remote/seal.js';
import { chainOrigin } from '../../../src/remote/segment-point.js';
import type { ChainPoint } from '../../../src/remote/segment-point.js';
import type { SegmentFacts } from '../../../src/remote/segment-index.js';
import type { SegmentMoves } from '../../../src/remote/segment-moves.js';
import { SegmentWriter } from '../../../src/remote/segment-writer.js';
import { MAP_PAGE_BYTES, MapEntries, SHARD_BLOCKS } from '../../../src/remote/shard-map.js';
import type { CommittedGroup } from '../../../src/remote/upload-pipeline.js';
import { plainChecksums } from '../../fake/checksums.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { MemoryStore } from '../../fake/memory-store.js';
import { SeededRandom } from '../../fake/random.js';
import { ticks } from '../../fake/replication-rig.js';

const UUID = '11111111-2222-4333-8444-555555555555';
const SHARDS = 3;
const crashSeeds = process.env['KEEPGATE_TEST_LONG'] === '1' ? 12 : 5;
const BLOCKS = SHARDS * SHARD_BLOCKS;
const PLACE = 65_536;

/** A remote volume whose groups are made by hand, and what its map must be. */
class MapRig {
  readonly store = new MemoryStore();
  readonly disk = new MemoryDisk();
  readonly clock = new ManualClock();
  readonly random: SeededRandom;
  readonly sealer: ObjectSealer;
  readonly expected = new Float64Array(BLOCKS);
  readonly applied: number[] = [];
  readonly log = new RecordedLog();
  /** What the round that is staged at the moment will bring, and its payload blocks. */
  staged:
    { readonly round: number; readonly expected: Map<number, number>; readonly rows: Map<number, number> } | undefined;
  compacts = true;
  compacted = false;
  point: ChainPoint = chainOrigin;
  /** Of the newest group that the writer was told of. */
  head: ChainPoint = chainOrigin;
  incarnation = new Incarnation();
  writer: CheckpointWriter;

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
    this.sealer = new ObjectSealer({ key: this.random.bytes(32), uuid: UUID, random: this.random.fork() });
    this.writer = this.start();
  }

  start(): CheckpointWriter {
    this.incarnation = new Incarnation();
    const keeper = new BookKeeper({
      store: this.store,
      request: { signal: this.incarnation.signal },
      sealer: this.sealer,
      createdSizeBytes: BLOCKS * 4096,
      disk: this.disk,
      checksums: plainChecksums,
      log: this.log,
      foldEntries: 40,
      head: () => this.head,
    });
    this.writer = new CheckpointWriter({
      keeper,
      store: this.store,
      sealer: this.sealer,
      fencing: 'conditional',
      epoch: 1,
      bytesDueMin: Infinity,
      written: () => undefined,
      createdSizeBytes: BLOCKS * 4096,
      checksums: plainChecksums,
      clock: this.clock,
      random: this.random.fork(),
      log: this.log,
      incarnation: this.incarnation,
      receipts: { upTo: (_, before) => before },
      counted: () => undefined,
      applied: (number) => this.applied.push(number),
      failed: (error) => {
        throw error;
      },
    });
    return this.writer;
  }

  commit(group: CommittedGroup): void {
    this.head = group.point;
    this.writer.committed(group);
  }

  /** One group of one segment with random changes or moves: put into the store, and expected from now on. */
  async group(wide = 0.1): Promise<CommittedGroup> {
    const { random } = this;
    const number = this.point.number + 1;
    if (this.compacts && this.staged === undefined && random.fraction() < 0.25) {
      const group = await this.compaction(number);
      this.compacted ||= group !== undefined;
      if (group !== undefined) return group;
    }
    const writer = new SegmentWriter({ payloadBlocksMax: 64 });
    const taken = new Set<number>();
    const free = (first: number, count: number): boolean => {
      for (let block = first; block < first + count; block++) if (taken.has(block)) return false;
      for (let block = first; block < first + count; block++) taken.add(block);
      return true;
    };
    // Half of all changes fall on few places, so that they supersede each other.
    const place = (): number =>
      random.fraction() < 0.5 ? random.below(200) + random.below(SHARDS) * SHARD_BLOCKS : random.below(BLOCKS);
    for (let change = 0; change < 8; change++) {
      const first = place();
      const zero = random.fraction();
      if (zero < wide) {
        const count = Math.min(BLOCKS - first, 1 + random.below(random.fraction() < 0.5 ? 2 * SHARD_BLOCKS : 3000));
        if (!free(first, count)) continue;
        writer.addZeros(first, count);
        this.expected.fill(0, first, first + count);
      } else if (zero < wide + 0.15) {
        const count = Math.min(BLOCKS - first, 1 + random.below(20));
        if (!free(first, count)) continue;
        writer.addZeros(first, count);
        this.expected.fill(0, first, first + count);
      } else {
        const count = Math.min(BLOCKS - first, 1 + random.below(7), writer.freeBlocks);
        if (count === 0 || !free(first, count)) continue;
        const payload = writer.reserve(first, count);
        for (let block = 0; block < count; block++) this.expected[first + block] = number * PLACE + payload + block;
      }
    }
    if (writer.empty) writer.addZeros(0, 1);
    if (writer.payloadBlocks === 0 && !taken.has(0)) this.expected[0] = 0;
    return this.sealed(writer, number, undefined);
  }

  /** A staged group with some blocks of a round, each of which is in it once. */
  async stage(round: number): Promise<CommittedGroup> {
    const { random } = this;
    const number = this.point.number + 1;
    if (this.staged?.round !== round) this.staged = { round, expected: new Map(), rows: new Map() };
    const { expected, rows } = this.staged;
    const writer = new SegmentWriter({ payloadBlocksMax: 64 });
    for (let change = 0; change < 8; change++) {
      const first = random.fraction() < 0.5 ? random.below(200) : random.below(BLOCKS);
      const count = Math.min(BLOCKS - first, 1 + random.below(7), writer.freeBlocks);
      if (count === 0 || Array.from({ length: count }, (_, at) => expected.has(first + at)).includes(true)) continue;
      const zero = random.fraction() < 0.2;
      const payload = zero ? 0 : writer.reserve(first, count);
      if (zero) writer.addZeros(first, count);
      for (let at = 0; at < count; at++) expected.set(first + at, zero ? 0 : number * PLACE + payload + at);
    }
    rows.set(number, writer.payloadBlocks);
    return this.sealed(writer, number, undefined, { role: 'staged', round });
  }

  async apply(): Promise<CommittedGroup> {
    const { round, expected } = this.staged!;
    this.staged = undefined;
    for (const [block, place] of expected) this.expected[block] = place;
    const writer = new SegmentWriter({ payloadBlocksMax: 1 });
    return this.sealed(writer, this.point.number + 1, undefined, { role: 'apply', round });
  }

  /** Moves what lives in some segments; of some blocks it names a place where they are not, or not any more. */
  private async compaction(number: number): Promise<CommittedGroup | undefined> {
    const { random, expected } = this;
    const writer = new SegmentWriter({ payloadBlocksMax: 64 });
    const from = random.below(BLOCKS);
    const segment: number[] = [];
    const payload: number[] = [];
    for (let at = 0; at < 4000 && writer.freeBlocks > 0; at++) {
      const block = (from + at) % BLOCKS;
      const place = expected[block] ?? 0;
      const stale = random.fraction() < 0.2;
      if (stale ? random.fraction() < 0.98 : place === 0 || random.fraction() < 0.3) continue;
      const said = stale ? (1 + random.below(number)) * PLACE + random.below(3) : place;
      segment.push(Math.floor(said / PLACE));
      payload.push(said % PLACE);
      const to = number * PLACE + writer.reserve(block, 1);
      if (said === place) expected[block] = to;
    }
    if (writer.empty) return undefined;
    return this.sealed(writer, number, { segment: Float64Array.from(segment), payload: Uint32Array.from(payload) });
  }

  private async sealed(
    writer: SegmentWriter,
    number: number,
    moves: SegmentMoves | undefined,
    kind: Pick<SegmentFacts, 'role' | 'round'> = { role: moves === undefined ? 'data' : 'compaction' },
  ): Promise<CommittedGroup> {
    const key = { epoch: 1, number };
    if (kind.role === 'data') this.staged = undefined;
    const lsn = kind.role === 'data' || kind.role === 'apply' ? this.point.lsn + 1 : this.point.lsn;
    const facts: SegmentFacts = {
      ...kind,
      groupId: number,
      groupFirstNumber: number,
      groupEnd: true,
      firstLsn: this.point.lsn + 1,
      lastLsn: lsn,
      wallMs: 5,
      sizeBytes: BLOCKS * 4096,
      previousLink: this.point.link,
      committed: { epoch: this.point.epoch, number: this.point.number },
    };
    const sealed = writer.seal(this.sealer, key, facts, moves === undefined ? {} : { moves });
    await this.store.put(sealed.name, sealed.bytes, { ifAbsent: true });
    this.point = { ...key, link: sealed.link, lsn, wallMs: 5 };
    const cursor = { file: 1, offset: 0, lsn: lsn + 1, chain: 0, epoch: '0' };
    return { point: this.point, sizeBytes: BLOCKS * 4096, cursor, lastLsn: lsn, segments: [{ ...sealed, key }] };
  }

  async settle(): Promise<void> {
    for (let round = 0; round < 40; round++) {
      await ticks(5);
      this.clock.advance(20);
    }
  }

  /** Writes a checkpoint of all that is committed. */
  async checkpoint(): Promise<void> {
    this.writer.demand();
    for (let round = 0; round < 100 && this.applied.at(-1) !== this.point.number; round++) await this.settle();
    assert.equal(this.applied.at(-1), this.point.number, this.log.lines.join('; '));
  }

  /** A reader that begins at any checkpoint, or at the beginning, comes to the same map. */
  async assertFrozen(): Promise<void> {
    const keys = await listCheckpoints(this.store, this.sealer, {});
    for (const key of [...keys.slice(0, 4), undefined]) await this.assertFrozenFrom(key);
  }

  private async assertFrozenFrom(key: SegmentKey | undefined): Promise<void> {
    const checkpoint = key && openCheckpoint(this.sealer, key, this.store.peek(this.sealer.names.checkpoint(key))!);
    const options = { store: this.store, sealer: this.sealer, checksums: plainChecksums, random: this.random };
    const cache = await ShardCache.open(new MemoryDisk(), plainChecksums);
    const book = new FrozenBook(checkpoint, { ...options, cache, request: {} });
    await readChain(chainAt(book.position, book.sizeBytes), {
      ...options,
      request: {},
      createdSizeBytes: BLOCKS * 4096,
      visit: (group) => book.apply(group),
    });
    assert.ok(samePoint(book.position, this.point));
    const rows = new Set<number>();
    for await (const { row } of book.table.liveBehind(0, {})) rows.add(row.number);
    for (let block = 0; block < BLOCKS; block++) {
      const known = book.map.placeNow(block);
      const place = known === 'unknown' ? await book.map.place(block, {}) : known;
      // Compaction behind the checkpoint is left out: the block is where it was before.
      const there = this.expected[block]! > 0;
      assert.equal(place !== undefined, there, `block ${block}`);
      if (place === undefined) continue;
      assert.ok(rows.has(place.segment));
      if (!this.compacted) assert.equal(place.segment * PLACE + place.payload, this.expected[block]);
    }
    for (const number of this.staged?.rows.keys() ?? []) assert.ok(!rows.has(number), 'what waits is not read');
  }

  /** What the newest checkpoint says, on a machine that has nothing. */
  async assertCheckpoint(): Promise<void> {
    const [key] = await listCheckpoints(this.store, this.sealer, {});
    assert.ok(key !== undefined);
    const checkpoint = openCheckpoint(this.sealer, key, this.store.peek(this.sealer.names.checkpoint(key))!);
    assert.ok(samePoint(checkpoint.recoveryPoint, this.point));
    const options = { store: this.store, sealer: this.sealer, checksums: plainChecksums, request: {} };
    for (const disk of [new MemoryDisk(), this.disk]) {
      const book = await RemoteBook.load(checkpoint, { ...options, disk });
      await assertMap(book.map.file, this.expected);
      const live = new Map<number, number>();
      for (const place of this.expected)
        if (place > 0) live.set(Math.floor(place / PLACE), 1 + (live.get(Math.floor(place / PLACE)) ?? 0));
      const waiting = this.staged?.rows;
      for (const { row, liveBlocks } of checkpoint.tail)
        assert.equal(liveBlocks, waiting?.get(row.number) ?? live.get(row.number) ?? 0, `live blocks of ${row.number}`);
      assert.equal(checkpoint.tail.length, this.point.number);
      assert.equal(
        book.mappedBlocks,
        this.expected.reduce((count, place) => count + (place > 0 ? 1 : 0), 0),
      );
      await book.close();
    }
  }
}

async function assertMap(file: MapFile, expected: Float64Array): Promise<void> {
  for (let shard = 0; shard < SHARDS; shard++) {
    const entries = new MapEntries((await file.readShard(shard)).entries);
    for (let at = 0; at < SHARD_BLOCKS; at++) {
      const place = entries.segment(at) * PLACE + entries.payload(at);
      if (place !== expected[shard * SHARD_BLOCKS + at])
        assert.fail(`block ${shard * SHARD_BLOCKS + at}: ${place} instead of ${expected[shard * SHARD_BLOCKS + at]}`);
    }
  }
}

describe('remote map and checkpoints', () => {
  it('hold what all groups together say, moves included, over many checkpoints', async () => {
    const rig = new MapRig(1);
    for (let round = 0; round < 6; round++) {
      for (let group = 0; group < 10; group++) rig.commit(await rig.group());
      rig.writer.drained();
      await rig.settle();
      assert.equal(rig.applied.at(-1), rig.point.number);
      await rig.assertCheckpoint();
    }
    assert.ok(rig.store.keys(`${UUID}/shards/`).length > 0, 'shards were written anew, too');
    assert.deepEqual(
      rig.log.lines.filter((line) => line.startsWith('warn')),
      [],
    );
  });

  it('are right whatever is killed or loses power at any moment', async () => {
    for (let seed = 1; seed <= crashSeeds; seed++) {
      const rig = new MapRig(100 + seed);
      const random = new SeededRandom(seed);
      for (let life = 0; life < 4; life++) {
        let left = random.below(120);
        rig.disk.hook = () => {
          if (left-- > 0) return;
          rig.incarnation.stop();
          throw new Error('the world stopped');
        };
        for (let group = 0; group < 9; group++) {
          const committed = await rig.group(0.05);
          if (!rig.incarnation.stopped) rig.commit(committed);
        }
        rig.writer.drained();
        await rig.settle();
        rig.incarnation.stop();
        rig.disk.hook = () => undefined;
        if (random.fraction() < 0.5) rig.disk.crash(random);
        else rig.disk.kill();
        rig.start();
      }
      for (let group = 0; group < 9; group++) rig.commit(await rig.group());
      rig.writer.drained();
      await rig.settle();
      assert.equal(rig.applied.at(-1), rig.point.number, `seed ${seed}: ${rig.log.lines.join('; ')}`);
      await rig.assertCheckpoint();
    }
  });

  it('take a round as a whole, with checkpoints in the middle of it, and forget one that was given up', async () => {
    const rig = new MapRig(20);
    const random = new SeededRandom(20);
    let round = 1;
    for (let pass = 0; pass < 12; pass++) {
      rig.compacts = pass > 4;
      for (let group = random.below(9); group > 0; group--) rig.commit(await rig.group(0.4));
      for (let group = 1 + random.below(12); group > 0; group--) {
        rig.commit(await rig.stage(round));
        if (random.fraction() < 0.2) {
          await rig.checkpoint();
          await rig.assertCheckpoint();
        }
      }
      // The next one begins, or the log goes on.
      if (random.fraction() < 0.3) round++;
      else if (random.fraction() < 0.6) rig.commit(await rig.apply());
      await rig.assertFrozen();
      await rig.checkpoint();
      await rig.assertCheckpoint();
      if (rig.staged === undefined) round++;
    }
    assert.deepEqual(
      rig.log.lines.filter((line) => line.startsWith('warn')),
      [],
    );
  });

  it('are right whatever is killed or loses power while a round is applied', async () => {
    for (let seed = 1; seed <= crashSeeds; seed++) {
      const rig = new MapRig(200 + seed);
      const random = new SeededRandom(seed);
      for (let life = 0; life < 4; life++) {
        for (let group = 0; group < 3; group++) rig.commit(await rig.group(0.05));
        for (let group = 0; group < 8; group++) rig.commit(await rig.stage(life + 1));
        await rig.settle();
        let left = random.below(300);
        rig.disk.hook = () => {
          if (left-- > 0) return;
          rig.incarnation.stop();
          throw new Error('the world stopped');
        };
        const applied = await rig.apply();
        if (!rig.incarnation.stopped) rig.commit(applied);
        rig.writer.demand();
        await rig.settle();
        rig.incarnation.stop();
        rig.disk.hook = () => undefined;
        if (random.fraction() < 0.5) rig.disk.crash(random);
        else rig.disk.kill();
        rig.head = rig.point;
        rig.start();
      }
      rig.commit(await rig.group());
      await rig.checkpoint();
      await rig.assertCheckpoint();
    }
  });

  it('are made again when a page of the local map rots', async () => {
    const rig = new MapRig(5);
    for (let group = 0; group < 10; group++) rig.commit(await rig.group(0));
    rig.writer.drained();
    await rig.settle();
    const file = await rig.disk.open('map', { mode: 'write' });
    const byte = new Uint8Array(1);
    for (let page = 2; page < 66; page++) {
      await file.read(byte, 0, 1, page * MAP_PAGE_BYTES);
      byte[0]! ^= 4;
      await file.write([byte.slice()], page * MAP_PAGE_BYTES);
    }
    for (let round = 0; round < 2; round++) {
      for (let group = 0; group < 10; group++) rig.commit(await rig.group(0));
      rig.writer.drained();
      await rig.settle();
    }
    assert.ok(rig.log.lines.some((line) => line.includes('rotted')));
    await rig.assertCheckpoint();
  });

  it('repeat small changes in the delta and write a shard anew only beyond 1/8', async () => {
    const rig = new MapRig(6);
    for (let group = 0; group < 10; group++) rig.commit(await rig.group(0));
    rig.writer.drained();
    await rig.settle();
    assert.deepEqual(rig.store.keys(`${UUID}/shards/`), []);
    const plan = planShards(
      new Map([
        [0, { written: REWRITE_BLOCKS, zeroed: 0 }],
        [1, { written: REWRITE_BLOCKS, zeroed: 1 }],
        [2, { written: 0, zeroed: SHARD_BLOCKS }],
        [3, { written: 0, zeroed: 5 }],
        [4, { written: 0, zeroed: 5 }],
      ]),
      (shard) => shard !== 3,
    );
    assert.deepEqual(plan, { rewritten: [1], dropped: [2, 3], kept: new Set([4, 0]) });
    const many = new Map(Array.from({ length: 10 }, (_, shard) => [shard, { written: 100 + shard, zeroed: 0 }]));
    assert.deepEqual(planShards(many, () => true, new Set(), { deltaEntriesMax: 900 }).rewritten, [8, 9]);
  });

  it('put complete runs of segments into table shards, with their live counts', async () => {
    const rig = new MapRig(9);
    for (let group = 0; group < 1030; group++) {
      rig.commit(await rig.group(0.01));
      if (group % 60 === 59) await rig.settle();
    }
    await rig.settle();
    for (let group = 0; group < 9; group++) rig.commit(await rig.group(0.01));
    rig.writer.drained();
    await rig.settle();
    const [key] = await listCheckpoints(rig.store, rig.sealer, {});
    const checkpoint = openCheckpoint(rig.sealer, key!, rig.store.peek(rig.sealer.names.checkpoint(key!))!);
    assert.equal(checkpoint.tableShards.length, 1);
    assert.equal(checkpoint.tail[0]?.row.number, 1024);
    const live = new Float64Array(2000);
    for (const place of rig.expected) if (place > 0) live[Math.floor(place / PLACE)]! += 1;
    assert.equal(checkpoint.recoveryPoint.number, rig.point.number);
    checkpoint.tableShards[0]!.live.forEach((blocks, at) => assert.equal(blocks, live[at]));
  });

  it('have the local bytes of docs/formats.md', async () => {
    const disk = new MemoryDisk();
    const map = await MapFile.create({ disk, checksums: plainChecksums, uuid: UUID });
    const page = new Uint8Array(MAP_PAGE_BYTES);
    new MapEntries(page).set(2, 0x0102_0304_0506, 0x0708);
    const change = await map.begin();
    await change.page(65, page, 0);
    change.holes(4, 2);
    const point = { epoch: 3, number: 9, link: new Uint8Array(32).fill(0xab), lsn: 77, wallMs: 5 };
    let redo = new Uint8Array(0);
    disk.hook = (operation, path) => {
      if (operation === 'remove' && path === 'map.redo') redo = disk.bytesOf('map.redo').slice();
    };
    await map.commit(change, point);
    await map.close();
    const hex = (bytes: Uint8Array, start: number, length: number): string =>
      Buffer.from(bytes.subarray(start, start + length)).toString('hex');
    const le64 = (value: number): string => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(BigInt(value));
      return bytes.toString('hex');
    };
    const uuid = UUID.replaceAll('-', '');
    const position = le64(3) + le64(9) + 'ab'.repeat(32) + le64(77) + le64(5);
    const file = disk.bytesOf('map');
    assert.equal(hex(file, 0, 12), Buffer.from('KGREMMAP').toString('hex') + '01000000');
    assert.equal(hex(file, 16, 96), uuid + '00'.repeat(16) + position);
    const slot = 4096 + 266_240;
    assert.equal(hex(file, slot + 4096 + 4096 + 16, 8), '0605040302010807', 'entry 2 of page 1 of shard 1');
    const sum = hex(file, slot + 4, 4);
    assert.equal(sum, 'f64ead69');
    assert.equal(hex(redo, 0, 12), Buffer.from('KGREDO01').toString('hex') + '01000000');
    assert.equal(hex(redo, 16, 24), uuid + le64(2));
    assert.equal(hex(redo, 48, 64), position);
    assert.equal(hex(redo, 4096, 16), le64(65) + sum + '01000000');
    assert.equal(hex(redo, 4096 + 16 + 4096, 16), le64(4) + '02000000' + '02000000');
  });

  it('refuse a map of another volume, and one that is newer', async () => {
    const disk = new MemoryDisk();
    const options = { disk, checksums: plainChecksums, uuid: UUID };
    await (await MapFile.create(options)).close();
    await assert.rejects(MapFile.open({ ...options, uuid: UUID.replaceAll('1', '9') }), MapDoubtError);
    const header = disk.bytesOf('map').slice(0, 4096);
    assert.equal(Buffer.from(header.subarray(0, 8)).toString(), 'KGREMMAP');
    const file = await disk.open('map', { mode: 'write' });
    await file.write([Uint8Array.of(2)], 8);
    await assert.rejects(MapFile.open(options), MapDoubtError, 'a bit may have flipped');
    header[8] = 2;
    header.fill(0, 12, 16);
    new DataView(header.buffer).setUint32(12, plainChecksums.crc32c(0, header, 0, 4096), true);
    await file.write([header], 0);
    await assert.rejects(MapFile.open(options), /format version 2/);
  });
});
