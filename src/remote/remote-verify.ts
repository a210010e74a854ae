/**
 * Reads everything that a bucket holds of one volume and says what is missing or damaged: every object is opened whole
 * and authenticated, every checkpoint's shards and live segments must be there, the chain must be whole to its end, and
 * must contain the receipt if there is one. Writes nothing but its pin; the store's budget is the caller's affair.
 *
 * What it cannot find: a suffix that was lost with everything that knew of it, without a receipt; and the removal of what
 * nothing needs (a checkpoint while another one is sound, a dead segment), which changes no restore.
 */
import { GatewayError } from '../base/errors.js';
import type { Checksums } from '../ports/checksum.js';
import type { Clock } from '../ports/clock.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { keyText } from './chain.js';
import { walkFromCheckpoint } from './chain-walk.js';
import type { Checkpoint } from './checkpoint.js';
import { openCheckpoint } from './checkpoint.js';
import { openEpoch } from './epoch-object.js';
import { unwrapVolumeKey } from './key.js';
import type { MasterKey } from './key.js';
import type { ParsedName } from './name.js';
import { openPin, readPinned } from './pin.js';
import { verifyReceipt } from './receipt.js';
import type { Receipt } from './receipt.js';
import { proveReceipt } from './receipt-proof.js';
import type { FoundVolume } from './remote-list.js';
import type { ObjectSealer } from './seal.js';
import { decodeHeader } from './seal-header.js';
import { chainOrigin } from './segment-point.js';
import type { ChainPoint } from './segment-point.js';
import { openSegmentHead } from './segment-reader.js';
import { openMapShard } from './shard-map.js';
import type { MapShardReference } from './shard-map.js';
import { livesIn, openTableShard } from './shard-table.js';
import type { SegmentRow, TableShardReference } from './shard-table.js';
import { openVolume } from './volume-object.js';

/** Objects that are read at a time, 64 MiB each at most. */
const INFLIGHT_MAX = 4;

export interface VerifyOptions {
  /** Repeats what fails for a while. */
  readonly store: ObjectStore;
  readonly masters: readonly MasterKey[];
  /** Name or uuid. */
  readonly volume: string;
  readonly receipt?: Receipt;
  readonly reader: string;
  readonly checksums: Checksums;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly signal?: AbortSignal;
  readonly progress?: (doneBytes: number, totalBytes: number) => void;
}

/** Something that is missing or damaged. */
export interface Finding {
  /** Its name in the bucket; the volume's uuid where it is about the whole. */
  readonly object: string;
  readonly problem: string;
}

export interface Verified {
  readonly uuid: string;
  readonly name: string;
  readonly objects: number;
  readonly bytes: number;
  /** Where the chain ends; undefined: it could not be read. */
  readonly recoveryPoint: ChainPoint | undefined;
  readonly findings: readonly Finding[];
  /** Objects in the volume's folder whose names are none of Keepgate's; they are not read. */
  readonly strangers: number;
}

/** not-found, key-mismatch, object-missing and object-damaged where the volume itself cannot be opened; store errors. */
export function verifyRemote(options: VerifyOptions): Promise<Verified> {
  return readPinned(options, (found, request) => new Verifier(options, found, request).run());
}

type ShardReference =
  | { readonly of: 'map'; readonly reference: MapShardReference }
  | { readonly of: 'table'; readonly reference: TableShardReference };

class Verifier {
  readonly #options: VerifyOptions;
  readonly #sealer: ObjectSealer;
  readonly #found: FoundVolume;
  readonly #request: StoreRequest;
  readonly #findings: Finding[] = [];
  /** What the bucket lists, and how large it is. */
  readonly #listed = new Map<string, number>();
  readonly #checkpoints: Checkpoint[] = [];
  readonly #shards = new Map<string, ShardReference>();
  readonly #rows = new Map<string, readonly SegmentRow[]>();
  #strangers = 0;
  #doneBytes = 0;
  #totalBytes = 0;

  constructor(options: VerifyOptions, found: FoundVolume, request: StoreRequest) {
    this.#options = options;
    this.#found = found;
    this.#sealer = found.sealer;
    this.#request = request;
  }

  async run(): Promise<Verified> {
    await this.#list();
    const names = [...this.#listed.keys()];
    const { names: of } = this.#sealer;
    // Checkpoints first: they say what the shards must be.
    const isCheckpoint = (name: string): boolean => of.parse(name)?.kind === 'checkpoint';
    await this.#each(names.filter(isCheckpoint));
    this.#checkpoints.sort((left, right) => right.recoveryPoint.number - left.recoveryPoint.number);
    for (const checkpoint of this.#checkpoints) this.#expectShards(checkpoint);
    this.#expectRoots();
    await this.#each(names.filter((name) => !isCheckpoint(name)));
    for (const checkpoint of this.#checkpoints) this.#expectSegments(checkpoint);
    const recoveryPoint = await this.#chain();
    await this.#receipt();
    const { uuid } = of;
    return {
      uuid,
      name: this.#found.volume.name,
      objects: this.#listed.size,
      bytes: this.#totalBytes,
      recoveryPoint,
      findings: this.#findings,
      strangers: this.#strangers,
    };
  }

  async #list(): Promise<void> {
    const { names } = this.#sealer;
    for await (const { key, sizeBytes } of this.#options.store.list(names.folder, this.#request)) {
      if (names.parse(key) === undefined) this.#strangers++;
      else {
        this.#listed.set(key, sizeBytes);
        this.#totalBytes += sizeBytes;
      }
    }
  }

  async #each(names: readonly string[]): Promise<void> {
    const left = names.values();
    const work = async (): Promise<void> => {
      for (const name of left) await this.#object(name);
    };
    await Promise.all(Array.from({ length: INFLIGHT_MAX }, work));
  }

  async #object(name: string): Promise<void> {
    const parsed = this.#sealer.names.parse(name);
    if (parsed === undefined) return;
    // Other keys are for others to open.
    const read = parsed.kind !== 'key' || this.#master(parsed.id) !== undefined;
    await this.#noting(name, async () => {
      if (read) await this.#read(name, parsed);
    });
    this.#doneBytes += this.#listed.get(name) ?? 0;
    this.#options.progress?.(this.#doneBytes, this.#totalBytes);
  }

  /** What is gone since it was listed was not needed, or is missed by what needs it. */
  async #read(name: string, parsed: ParsedName): Promise<void> {
    let bytes: Uint8Array;
    try {
      bytes = await this.#options.store.get(name, this.#request);
    } catch (error) {
      if (!(error instanceof GatewayError) || error.code !== 'object-missing') throw error;
      this.#listed.delete(name);
      return;
    }
    this.#open(name, parsed, bytes);
  }

  #open(name: string, parsed: ParsedName, bytes: Uint8Array): void {
    const sealer = this.#sealer;
    switch (parsed.kind) {
      case 'volume':
        openVolume(sealer, bytes);
        return;
      case 'key': {
        const master = this.#master(parsed.id);
        const { random } = this.#options;
        if (master !== undefined) unwrapVolumeKey({ master, uuid: sealer.names.uuid, bytes, random });
        return;
      }
      case 'epoch':
        openEpoch(sealer, parsed.epoch, bytes);
        return;
      case 'segment':
        this.#openSegment(parsed, bytes);
        return;
      case 'checkpoint':
        this.#checkpoints.push(openCheckpoint(sealer, parsed, bytes));
        return;
      case 'shard':
        this.#openShard(name, parsed, bytes);
        return;
      case 'pin':
        openPin(sealer, name, bytes);
        return;
    }
  }

  #openSegment(key: Extract<ParsedName, { kind: 'segment' }>, bytes: Uint8Array): void {
    const head = openSegmentHead(this.#sealer, key, bytes);
    const name = this.#sealer.names.segment(key);
    if (bytes.length !== head.header.objectBytes) {
      throw new GatewayError(
        'object-damaged',
        `${name}: it has ${bytes.length} bytes instead of ${head.header.objectBytes}`,
      );
    }
    if (head.kind === 'fence') return;
    for (let frame = 0; frame < head.frames.count; frame++) {
      const { start, lengthBytes } = head.frames.range(frame);
      head.frames.open(frame, bytes.subarray(start, start + lengthBytes));
    }
  }

  #openShard(name: string, key: Extract<ParsedName, { kind: 'shard' }>, bytes: Uint8Array): void {
    const expected = this.#shards.get(name);
    if (expected?.of === 'map') openMapShard(this.#sealer, this.#options.checksums, expected.reference, bytes);
    else if (expected?.of === 'table') this.#rows.set(name, openTableShard(this.#sealer, expected.reference, bytes));
    else {
      // No kept checkpoint names it: that it is genuine is all that can be asked.
      const { epoch, number, part } = key;
      this.#sealer.openWhole({ kind: decodeHeader(name, bytes).kind, name, epoch, number, part }, bytes);
    }
  }

  #master(id: string): MasterKey | undefined {
    return this.#options.masters.find((master) => master.id === id);
  }

  #expectShards({ recoveryPoint, mapShards, tableShards }: Checkpoint): void {
    const expect = (shard: ShardReference): void => {
      const name = this.#sealer.names.shard(shard.reference);
      this.#shards.set(name, shard);
      this.#mustExist(name, `the checkpoint of ${keyText(recoveryPoint)} names it`);
    };
    for (const reference of mapShards) expect({ of: 'map', reference });
    for (const reference of tableShards) expect({ of: 'table', reference });
  }

  /** Of snapshots; an older checkpoint may name one that was deleted since, with its root. */
  #expectRoots(): void {
    for (const { name, point, root } of this.#checkpoints[0]?.snapshots ?? []) {
      if (root === undefined) continue;
      const key = { epoch: root.epoch, number: point.number };
      this.#mustExist(this.#sealer.names.checkpoint(key), `it is the root of snapshot ${name}`);
    }
  }

  /** Segments that still have live blocks. */
  #expectSegments({ recoveryPoint, tableShards, tail }: Checkpoint): void {
    const why = `the checkpoint of ${keyText(recoveryPoint)} has live blocks in it`;
    for (const { row, liveBlocks } of tail) if (liveBlocks > 0) this.#mustExist(this.#sealer.names.segment(row), why);
    for (const reference of tableShards) {
      for (const row of this.#rows.get(this.#sealer.names.shard(reference)) ?? []) {
        if (livesIn(reference, row)) {
          this.#mustExist(this.#sealer.names.segment(row), why);
        }
      }
    }
  }

  #mustExist(name: string, why: string): void {
    if (!this.#listed.has(name)) this.#find(name, `it is missing: ${why}`);
  }

  /** The end of the chain, from the newest sound checkpoint on. */
  async #chain(): Promise<ChainPoint | undefined> {
    const { store } = this.#options;
    const { names } = this.#sealer;
    const start = this.#checkpoints[0];
    const epochs = new Set(start?.epochs.map(({ epoch }) => epoch));
    return this.#noting(names.uuid, async () => {
      const { chain, gap } = await walkFromCheckpoint(start, {
        store,
        sealer: this.#sealer,
        request: this.#request,
        createdSizeBytes: this.#found.volume.sizeBytes,
        visit: ({ segments }) => segments.forEach(({ key }) => epochs.add(key.epoch)),
      });
      for (const epoch of epochs) this.#mustExist(names.epoch(epoch), 'the history has segments of this epoch');
      if (gap !== undefined) this.#find(names.segment(chain.nextKey), gap);
      return chain.lastGroup === chainOrigin ? undefined : chain.lastGroup;
    });
  }

  async #receipt(): Promise<void> {
    const { receipt, store, log } = this.#options;
    if (receipt === undefined) return;
    const createdSizeBytes = this.#found.volume.sizeBytes;
    await this.#noting(this.#sealer.names.uuid, async () => {
      verifyReceipt(this.#sealer, receipt);
      await proveReceipt(receipt, chainOrigin, {
        store,
        sealer: this.#sealer,
        request: this.#request,
        log,
        createdSizeBytes,
      });
    });
  }

  /** What shows damage becomes a finding. */
  async #noting<Result>(object: string, work: () => Promise<Result>): Promise<Result | undefined> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof GatewayError) || !findable.has(error.code)) throw error;
      const named = error.context['object'];
      this.#find(typeof named === 'string' ? named : object, error.message);
      return undefined;
    }
  }

  #find(object: string, problem: string): void {
    if (!this.#findings.some((finding) => finding.object === object)) this.#findings.push({ object, problem });
  }
}

const findable: ReadonlySet<string> = new Set([
  'object-missing',
  'object-damaged',
  'remote-forked',
  'remote-gap',
  'receipt-unmet',
  'receipt-invalid',
  'format-newer',
]);
