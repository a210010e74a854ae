/**
 * One volume's replication in a test: a fake log, the directory's small files, the state that a superblock would keep,
 * and incarnations of the worker's core against a store. Time moves only when the test waits.
 */
import { MemoryDisk } from './memory-disk.js';
import { plainChecksums } from './checksums.js';
import { ManualClock } from './clock.js';
import { FakeLog } from './fake-log.js';
import type { FakeOp } from './fake-log.js';
import { RecordedLog } from './log.js';
import { MemoryStore } from './memory-store.js';
import { SeededRandom } from './random.js';
import type { DurableState, ReplicationState, RoundSource } from '../../src/ports/replication.js';
import { parseMasterKey } from '../../src/remote/key.js';
import type { MasterKey } from '../../src/remote/key.js';
import { openVolumeSealer } from '../../src/remote/key.js';
import type { FromReplicator, ReplicationConfig } from '../../src/remote/replication-messages.js';
import { answerRound } from '../../src/remote/round-answer.js';
import { NeighbourSurvey } from '../../src/remote/neighbours.js';
import { ReplicationWorkerCore } from '../../src/remote/replication-worker-core.js';
import { emptyChain, extend, followFence } from '../../src/remote/chain.js';
import type { ChainState } from '../../src/remote/chain.js';
import type { ObjectSealer } from '../../src/remote/seal.js';
import { readPayload, readSegmentHead } from '../../src/remote/segment-reader.js';
import type { OpenedSegment } from '../../src/remote/segment-reader.js';
import { ObservedStore, StoreCounters } from '../../src/remote/store-observe.js';

export const BLOCK = 4096;

export function testMaster(fill = 7): MasterKey {
  return parseMasterKey(Buffer.alloc(32, fill).toString('base64'), 'test key');
}

export class Rig {
  readonly clock: ManualClock;
  readonly random: SeededRandom;
  readonly log: FakeLog;
  readonly disk = new MemoryDisk();
  readonly neighbours: NeighbourSurvey;
  readonly store: MemoryStore;
  readonly config: ReplicationConfig;
  /** As the superblock has it. */
  state: ReplicationState;
  core: ReplicationWorkerCore | undefined;
  /** What both superblocks know; undefined: as much as `state`. */
  recorded: number | undefined;
  /** What the image has; undefined: everything. */
  destagedLsn: number | undefined;
  /** Answers where the state is to be tracked; else nobody does. */
  rounds: RoundSource | undefined;
  /** What it said. */
  readonly logger = new RecordedLog();
  messages: FromReplicator[] = [];
  /** Every state that was recorded, over all incarnations. */
  readonly states: ReplicationState[] = [];

  constructor(
    options: {
      store?: MemoryStore;
      seed?: number;
      blocks?: number;
      config?: Partial<ReplicationConfig>;
      log?: FakeLog;
      state?: ReplicationState;
      clock?: ManualClock;
      /** Of the gateway that it belongs to. */
      neighbours?: NeighbourSurvey;
    } = {},
  ) {
    this.store = options.store ?? new MemoryStore();
    this.neighbours = options.neighbours ?? new NeighbourSurvey();
    this.clock = options.clock ?? new ManualClock();
    this.random = new SeededRandom(options.seed ?? 1);
    this.log = options.log ?? new FakeLog((options.blocks ?? 256) * BLOCK);
    this.config = {
      name: 'disk0',
      uuid: this.random.fork().uuid(),
      createdSizeBytes: this.log.createdSizeBytes,
      logicalBlockBytes: 512,
      masters: [testMaster()],
      intervalMs: 1000,
      segmentBytes: 16 * BLOCK,
      fencing: 'auto',
      allowNew: false,
      compaction: true,
      owner: 'test',
      ...options.config,
    };
    this.state = options.state ?? {
      replicatedLsn: 0,
      cursor: this.log.start,
      remoteEpoch: 0,
      segmentNumber: 0,
      chainHead: new Uint8Array(32),
      mapAppliedThrough: 0,
      keeping: 'draining',
      fenced: false,
    };
  }

  start(): void {
    const counters = new StoreCounters();
    this.messages = [];
    const messages = this.messages;
    const core = new ReplicationWorkerCore({
      store: new ObservedStore(this.store, { clock: this.clock, counters }),
      counters,
      disk: this.disk,
      source: this.log,
      checksums: plainChecksums,
      clock: this.clock,
      neighbours: this.neighbours,
      random: this.random.fork(),
      log: this.logger,
      emit: (message) => {
        messages.push(message);
        if (message.type === 'round' && this.rounds !== undefined) {
          const { id, ask } = message;
          void answerRound(this.rounds, ask).then((answer) => core.receive({ type: 'round', id, answer }));
        }
        if (message.type !== 'state' && message.type !== 'fenced') return;
        this.state = message.state;
        this.states.push(message.state);
      },
    });
    this.core = core;
    core.receive({ type: 'start', config: this.config, replication: this.state, durable: this.#durable() });
  }

  #durable(): DurableState {
    return {
      durableLsn: this.log.lastLsn,
      sizeBytes: 0,
      oldestPendingMs: 0,
      destagedLsn: this.destagedLsn ?? this.log.lastLsn,
      segmentRecorded: this.recorded ?? this.state.segmentNumber,
    };
  }

  /** Appends a batch that is durable at once. */
  write(ops: readonly FakeOp[]): number {
    const lsn = this.log.append(ops, this.clock.wallMs());
    this.core?.receive({ type: 'durable', durable: this.#durable() });
    return lsn;
  }

  /** A few random operations as one batch. */
  writeRandom(random: SeededRandom, ops = 1 + random.below(6)): number {
    const blocks = this.log.createdSizeBytes / BLOCK;
    return this.write(Array.from({ length: ops }, () => randomOp(random, blocks)));
  }

  /** The process is gone: nothing of this incarnation has an effect any more, and nothing more is recorded. */
  async kill(): Promise<void> {
    const core = this.core;
    this.core = undefined;
    core?.receive({ type: 'stop' });
    this.disk.kill();
    await ticks(4);
  }

  async drain(): Promise<void> {
    const id = this.random.below(1e9);
    this.core?.receive({ type: 'drain', id, lsn: this.log.lastLsn });
    await this.until(() => this.messages.some((message) => message.type === 'drained' && message.id === id));
  }

  ended(): FromReplicator | undefined {
    return this.messages.find((message) => message.type === 'fatal' || message.type === 'fenced');
  }

  /** Opens the volume's objects. */
  sealer(): Promise<ObjectSealer> {
    const { uuid, masters } = this.config;
    return openVolumeSealer(this.store, { uuid, masters, random: new SeededRandom(77) });
  }

  /** A receipt of the newest recovery point. */
  async receipt(): Promise<string> {
    const id = 1 + this.random.below(1e9);
    this.core?.receive({ type: 'receipt', id });
    let text = '';
    await this.until(() =>
      this.messages.some((message) => {
        if (message.type !== 'receipt' || message.id !== id) return false;
        if (typeof message.result !== 'string') throw new Error(message.result.message);
        text = message.result;
        return true;
      }),
    );
    return text;
  }

  /** Lets everything run, moving time on whenever nothing else happens. */
  async until(condition: () => boolean, msMax = 600_000): Promise<void> {
    for (let ms = 0; ms < msMax; ms += 50) {
      for (let tick = 0; tick < 12; tick++) {
        if (condition()) return;
        await ticks(1);
      }
      this.clock.advance(50);
    }
    throw new Error(`waited in vain; ended with ${JSON.stringify(this.ended())}`);
  }
}

export async function ticks(count: number): Promise<void> {
  for (let tick = 0; tick < count; tick++) await new Promise((resolve) => setImmediate(resolve));
}

export function randomOp(random: SeededRandom, blocks: number): FakeOp {
  const firstBlock = random.below(blocks);
  const room = blocks - firstBlock;
  const kind = random.fraction();
  if (kind < 0.2)
    return {
      kind: random.fraction() < 0.5 ? 'trim' : 'zero',
      firstBlock,
      blockCount: 1 + random.below(Math.min(room, 80)),
    };
  const data = new Uint8Array((1 + random.below(Math.min(room, 5))) * BLOCK);
  for (let at = 0; at < data.length; at += BLOCK)
    if (random.fraction() < 0.85) data.fill(1 + random.below(255), at, at + BLOCK);
  if (data[0] !== 0) data[100] = random.below(256);
  return { kind: 'write', firstBlock, data };
}

/** A rig whose volume was written at random, drained now and then, and at the end. */
export async function writtenRig(seed: number, batches = 40, config: Partial<Rig['config']> = {}): Promise<Rig> {
  const rig = new Rig({ seed, config });
  const random = new SeededRandom(seed);
  rig.start();
  for (let batch = 0; batch < batches; batch++) {
    rig.writeRandom(random);
    if (batch % 6 === 5) await rig.drain();
  }
  await rig.drain();
  return rig;
}

/** What the bucket holds, by the rules alone: the reference that restores are compared with. */
export async function remoteImage(
  store: MemoryStore,
  uuid: string,
  createdSizeBytes: number,
): Promise<{ image: Uint8Array; chain: ChainState; groups: number[]; segments: OpenedSegment[] }> {
  const sealer = await openVolumeSealer(store, { uuid, masters: [testMaster()], random: new SeededRandom(99) });
  let chain = emptyChain;
  let image = new Uint8Array(createdSizeBytes);
  let open: OpenedSegment[] = [];
  const groups: number[] = [];
  const segments: OpenedSegment[] = [];
  let waiting: OpenedSegment[] = [];
  const show = async (segment: OpenedSegment): Promise<void> => {
    const payload = await readPayload(store, sealer, segment);
    const { extents, zeros } = segment.index;
    for (let at = 0; at < zeros.count; at++)
      image.fill(0, zeros.firstBlock[at]! * BLOCK, (zeros.firstBlock[at]! + zeros.blockCount[at]!) * BLOCK);
    for (let at = 0; at < extents.count; at++) {
      const start = extents.payload[at]! * BLOCK;
      image.set(payload.subarray(start, start + extents.blockCount[at]! * BLOCK), extents.firstBlock[at]! * BLOCK);
    }
  };
  for (;;) {
    const head = await readSegmentHead(store, sealer, chain.nextKey);
    if (head.kind === 'absent') return { image, chain, groups, segments };
    if (head.kind === 'fence') {
      chain = followFence(chain, head.fence);
      open = [];
      continue;
    }
    chain = extend(chain, head.index, head.link);
    open.push(head);
    if (chain.open !== undefined) continue;
    groups.push(chain.lastGroup.lsn);
    const sizeBytes = chain.sizeBytes ?? createdSizeBytes;
    if (sizeBytes > image.length) {
      const grown = new Uint8Array(sizeBytes);
      grown.set(image);
      image = grown;
    }
    segments.push(...open);
    // A compaction group changes nothing that can be read, and what it moved may have been written since.
    const [{ index }] = open as [OpenedSegment, ...OpenedSegment[]];
    if (index.role === 'data') for (const segment of open) await show(segment);
    if (index.role === 'apply')
      for (const segment of waiting.filter((segment) => segment.index.round === index.round)) await show(segment);
    if (index.role === 'data' || index.role === 'apply') waiting = [];
    if (index.role === 'staged') waiting.push(...open);
    open = [];
  }
}
