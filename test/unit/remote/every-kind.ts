/**
 * A bucket that holds every kind of object that Keepgate writes, small enough to try things on each of them; and a name for
 * each kind, finer than the folders: whoever adds a kind of object, or a role of a segment, adds it here, or tests fail.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { openCheckpoint } from '../../../src/remote/checkpoint.js';
import { Pin } from '../../../src/remote/pin.js';
import { parseReceipt } from '../../../src/remote/receipt.js';
import type { Receipt } from '../../../src/remote/receipt.js';
import type { ObjectSealer } from '../../../src/remote/seal.js';
import { decodeHeader, objectKinds } from '../../../src/remote/seal-header.js';
import type { ObjectKind } from '../../../src/remote/seal-header.js';
import type { SegmentRole } from '../../../src/remote/segment-index.js';
import { openSegmentHead } from '../../../src/remote/segment-reader.js';
import { plainChecksums } from '../../fake/checksums.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryStore } from '../../fake/memory-store.js';
import { SeededRandom } from '../../fake/random.js';
import { BLOCK, Rig } from '../../fake/replication-rig.js';

/** A shard of the map is written for an eighth of what it could map: 4096 blocks. */
const BLOCKS = 4400;
/** Of these single blocks are overwritten, so that segments die, and half die. */
const BUSY_BLOCKS = 160;
/** Written once, and never again: their segments stay, and with them a table. */
const STILL_BLOCKS = 40;
/** So that a table of 1024 segments is complete soon. */
const SEGMENT_BLOCKS = 3;
const GROUPS = 20;
/** Small ones with pauses between them, in which deletion comes to its end: few objects are left. */
const QUIET_GROUPS = 6;

export type Kind = Exclude<ObjectKind, 'segment' | 'snapshot'> | `segment: ${SegmentRole}` | 'snapshot root';

const roles: Readonly<Record<SegmentRole, true>> = { data: true, staged: true, apply: true, compaction: true };
/** In the list of kinds and never written. */
const reserved: ReadonlySet<string> = new Set<ObjectKind>(['snapshot']);

/** Every kind that there is. */
export const allKinds: readonly Kind[] = [
  ...(Object.keys(objectKinds) as ObjectKind[]).filter((kind) => kind !== 'segment' && !reserved.has(kind)),
  ...(Object.keys(roles) as SegmentRole[]).map((role) => `segment: ${role}`),
  'snapshot root',
].sort() as Kind[];

export interface EveryKind {
  readonly rig: Rig;
  readonly image: Uint8Array;
  /** Of the newest recovery point. */
  readonly receipt: Receipt;
  readonly snapshot: { readonly name: string; readonly image: Uint8Array };
  /** The bucket as it was at earlier moments, the oldest first. */
  readonly earlier: readonly ReadonlyMap<string, Uint8Array>[];
  /** How many different contents each name has been given. */
  readonly contents: ReadonlyMap<string, ReadonlySet<string>>;
  /** A few names of each kind: the first, one in the middle, the last. */
  readonly samples: ReadonlyMap<Kind, readonly string[]>;
}

/** Three owners one after the other, with compaction, deletion, a snapshot, a round, and a reader that has not ended. */
export async function everyKind(): Promise<EveryKind> {
  const contents = new Map<string, Set<string>>();
  const store = new RecordingStore(contents);
  const config = { segmentBytes: SEGMENT_BLOCKS * BLOCK, graceMs: 4000 };
  const rig = new Rig({ store, config, blocks: BLOCKS });
  const random = new SeededRandom(11);
  const earlier: ReadonlyMap<string, Uint8Array>[] = [];
  let snapshotLsn = 0;
  for (let life = 0; life < 2; life++) {
    rig.start();
    for (let group = 0; group < GROUPS + QUIET_GROUPS; group++) {
      const quiet = group >= GROUPS;
      rig.write(Array.from({ length: quiet ? 1 : 75 }, () => ({ kind: 'write', ...randomBlock(random) })));
      if (life === 0 && group === 0)
        rig.write([{ kind: 'write', firstBlock: BUSY_BLOCKS, data: randomData(random, STILL_BLOCKS) }]);
      // So much changes at once that a shard is written anew.
      if (group === 5) rig.write([{ kind: 'trim', firstBlock: BUSY_BLOCKS + STILL_BLOCKS, blockCount: 4000 }]);
      if (life === 1 && group === 8) snapshotLsn = rig.write([{ kind: 'snapshot', name: 'kept', snapshotLsn: 0 }]);
      await rig.drain();
      // A while, in which checkpoints, compaction and deletion do their work.
      const untilMs = rig.clock.nowMs() + (quiet ? 5000 : 500);
      await rig.until(() => rig.clock.nowMs() >= untilMs);
      if (group % 4 === 0) earlier.push(store.snapshot());
    }
    await rig.kill();
  }
  await sendRound(rig, random);
  const receipt = parseReceipt(await rig.receipt(), 'r');
  await rig.kill();
  const { clock } = rig;
  const sealer = await rig.sealer();
  await Pin.put({ store, sealer, clock, random, log: new RecordedLog(), reader: 'a reader', request: {} });
  return {
    rig,
    image: rig.log.imageAt(rig.log.lastLsn),
    receipt,
    snapshot: { name: 'kept', image: rig.log.imageAt(snapshotLsn) },
    earlier,
    contents: new Map(contents),
    samples: samplesOf(store, sealer),
  };
}

/** What was written while the log could not be kept goes up at once. */
async function sendRound(rig: Rig, random: SeededRandom): Promise<void> {
  const { log } = rig;
  rig.state = { ...rig.state, keeping: 'tracking' };
  log.append([{ kind: 'write', firstBlock: 0, data: randomData(random, BUSY_BLOCKS / 2) }]);
  rig.rounds = {
    begin: () =>
      Promise.resolve({
        round: 77,
        cursor: log.end,
        sizeBytes: BLOCKS * BLOCK,
        wallMs: rig.clock.wallMs(),
        snapshots: [],
      }),
    read: (_round, from, blocksMax) => {
      const count = Math.min(blocksMax, BUSY_BLOCKS - from);
      const bytes = log.imageAt(log.lastLsn).slice(from * BLOCK, (from + count) * BLOCK);
      const blocks = Float64Array.from({ length: count }, (_, at) => from + at);
      const sums = new Uint32Array(count);
      plainChecksums.sumBlocks(bytes, 0, count, sums, 0);
      plainChecksums.toBlockSums(sums, 0, count, from);
      const next = from + count < BUSY_BLOCKS ? from + count : undefined;
      return Promise.resolve({ blocks, sums, bytes, zeros: [], next });
    },
    end: () => Promise.resolve({ keeping: 'draining', cursor: log.end }),
  };
  rig.start();
  await rig.drain();
}

function randomBlock(random: SeededRandom): { readonly firstBlock: number; readonly data: Uint8Array } {
  return { firstBlock: random.below(BUSY_BLOCKS), data: randomData(random, 1) };
}

function randomData(random: SeededRandom, blocks: number): Uint8Array {
  const data = new Uint8Array(blocks * BLOCK).fill(1 + random.below(255));
  new DataView(data.buffer).setUint32(8, random.below(2 ** 32));
  return data;
}

/** Takes down what is put, whatever becomes of it. */
class RecordingStore extends MemoryStore {
  readonly #contents: Map<string, Set<string>>;

  constructor(contents: Map<string, Set<string>>) {
    super();
    this.#contents = contents;
  }

  override put(...[key, body, options]: Parameters<MemoryStore['put']>): Promise<'stored' | 'exists'> {
    const known = this.#contents.get(key) ?? new Set();
    this.#contents.set(key, known.add(createHash('sha256').update(body).digest('hex')));
    return super.put(key, body, options);
  }
}

function samplesOf(store: MemoryStore, sealer: ObjectSealer): ReadonlyMap<Kind, readonly string[]> {
  const byKind = new Map<Kind, string[]>();
  for (const name of store.keys(sealer.names.folder)) {
    const body = store.peek(name);
    assert.ok(body !== undefined);
    const kind = kindOf(sealer, name, body);
    byKind.set(kind, [...(byKind.get(kind) ?? []), name]);
  }
  const few = (names: readonly string[]): string[] => [
    ...new Set([0, names.length >> 1, names.length - 1].map((at) => names[at] ?? '')),
  ];
  return new Map([...byKind].map(([kind, names]) => [kind, few(names)]));
}

function kindOf(sealer: ObjectSealer, name: string, body: Uint8Array): Kind {
  const { kind } = decodeHeader(name, body);
  assert.ok(kind !== 'snapshot', `${name} is of a kind that is not written yet`);
  const parsed = sealer.names.parse(name);
  assert.ok(parsed !== undefined, `${name} is none of the names`);
  if (parsed.kind === 'segment') {
    const head = openSegmentHead(sealer, parsed, body);
    return head.kind === 'fence' ? 'fence' : `segment: ${head.index.role}`;
  }
  assert.ok(kind !== 'segment', `${name} is a segment under another name`);
  if (parsed.kind !== 'checkpoint') return kind;
  const { snapshots, recoveryPoint } = openCheckpoint(sealer, parsed, body);
  return snapshots.some(({ point }) => point.number === recoveryPoint.number) ? 'snapshot root' : kind;
}
