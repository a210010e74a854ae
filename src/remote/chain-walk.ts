/**
 * Reads a volume's history from a known point to its end, and looks behind that end for what proves that more was
 * committed than the walk reached (chain-evidence.ts): remote-gap. One ranged GET per segment, several at a time.
 */
import { GatewayError } from '../base/errors.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import { chainAt, emptyChain, extend, followFence, keyText } from './chain.js';
import type { ChainState } from './chain.js';
import { evidenceOf } from './chain-evidence.js';
import type { Evidence } from './chain-evidence.js';
import type { Checkpoint } from './checkpoint.js';
import type { SegmentKey } from './name.js';
import type { BookGroup } from './remote-map-book.js';
import { isDamage, listCheckpoints, readCheckpoint } from './restore-checkpoint.js';
import type { ObjectSealer } from './seal.js';
import type { Fence } from './segment-fence.js';
import { SegmentAhead } from './segment-ahead.js';
import { readSegmentHead } from './segment-reader.js';
import type { OpenedSegment } from './segment-reader.js';

export interface ReadOptions {
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly request: StoreRequest;
  /** Size before the first group. */
  readonly createdSizeBytes: number;
  /** Each complete group in order. */
  readonly visit: (group: BookGroup) => void | Promise<void>;
}

export interface WalkOptions extends ReadOptions {
  /** Epochs that are known to lie before the walk's start. */
  readonly knownEpochs: readonly number[];
}

export interface WalkEnd {
  readonly chain: ChainState;
  /** What proves that something behind the end was lost; undefined: nothing does. */
  readonly gap: string | undefined;
}

export async function walkChain(start: ChainState, options: WalkOptions): Promise<WalkEnd> {
  const walk = new ChainWalk(start, options);
  for (;;) {
    await walk.toEnd();
    const found = await walk.lookBehind();
    if (found.takeover !== undefined) walk.follow(found.takeover);
    else if (found.gap === undefined || (await walk.endIsAbsent())) return { chain: walk.chain, gap: found.gap };
  }
}

/** From a checkpoint's recovery point; undefined: from the history's beginning. */
export function walkFromCheckpoint(start: Checkpoint | undefined, options: ReadOptions): Promise<WalkEnd> {
  if (start === undefined) return walkChain(emptyChain, { ...options, knownEpochs: [] });
  const knownEpochs = start.epochs.map(({ epoch }) => epoch);
  return walkChain(chainAt(start.recoveryPoint, start.sizeBytes), { ...options, knownEpochs });
}

/**
 * Visits the complete groups that can be reached, without asking whether more was lost; with `untilNumber` up to the
 * first that ends at that segment or behind it.
 */
export async function readChain(
  start: ChainState,
  options: ReadOptions & { readonly untilNumber?: number },
): Promise<void> {
  await new ChainWalk(start, { ...options, knownEpochs: [] }).toEnd(options.untilNumber);
}

class ChainWalk {
  chain: ChainState;
  readonly #options: WalkOptions;
  readonly #visited: Set<number>;
  #open: OpenedSegment[] = [];

  constructor(start: ChainState, options: WalkOptions) {
    this.chain = start;
    this.#options = options;
    this.#visited = new Set([...options.knownEpochs, start.nextKey.epoch]);
  }

  /** Up to the first absent key. */
  async toEnd(untilNumber = Infinity): Promise<void> {
    const { visit, createdSizeBytes } = this.#options;
    const ahead = new SegmentAhead({ ...this.#options, untilNumber });
    while (this.chain.lastGroup.number < untilNumber) {
      const head = await ahead.at(this.chain.nextKey);
      if (head.kind === 'absent') return;
      if (head.kind === 'fence') {
        this.follow(head.fence);
        continue;
      }
      this.chain = extend(this.chain, head.index, head.link);
      this.#open.push(head);
      if (this.chain.open !== undefined) continue;
      const segments = this.#open;
      this.#open = [];
      await visit({ point: this.chain.lastGroup, sizeBytes: this.chain.sizeBytes ?? createdSizeBytes, segments });
    }
  }

  follow(fence: Fence): void {
    const { nextKey } = this.chain;
    this.chain = followFence(this.chain, fence);
    if (this.#visited.has(fence.successorEpoch)) {
      throw new GatewayError(
        'remote-forked',
        `the fence at ${keyText(nextKey)} leads back to epoch ${fence.successorEpoch}`,
      );
    }
    this.#visited.add(fence.successorEpoch);
    this.#open = [];
  }

  /**
   * Asked before a gap is believed: an owner that lives may have filled the end of the walk since it was read, and then
   * have committed and said so. What still is absent now was lost.
   */
  async endIsAbsent(): Promise<boolean> {
    const { store, sealer, request } = this.#options;
    return (await readSegmentHead(store, sealer, this.chain.nextKey, request)).kind === 'absent';
  }

  async lookBehind(): Promise<Evidence> {
    const { store, sealer, request } = this.#options;
    const { names } = sealer;
    const end = this.chain.nextKey;
    // The epoch that was walked, then those that nothing led to.
    const here = await this.#inspect(end.epoch, names.segment(end));
    if (here.gap !== undefined) return here;
    for await (const { key } of store.list(names.epochsPrefix, request)) {
      const parsed = names.parse(key);
      if (parsed?.kind !== 'epoch' || this.#visited.has(parsed.epoch)) continue;
      const found = await this.#inspect(parsed.epoch, undefined);
      if (found.gap !== undefined || found.takeover !== undefined) return found;
    }
    return this.#inspectCheckpoints();
  }

  async #inspect(epoch: number, after: string | undefined): Promise<Evidence> {
    const { store, sealer, request } = this.#options;
    const { names } = sealer;
    const prefix = names.segmentsOfEpochPrefix(epoch);
    for await (const { key: name } of store.list(prefix, after === undefined ? request : { ...request, after })) {
      const key = names.parse(name);
      if (key?.kind !== 'segment' || key.number <= this.chain.lastGroup.number) continue;
      const found = await this.#inspectOne(key);
      if (found.gap !== undefined || found.takeover !== undefined) return found;
    }
    return {};
  }

  async #inspectOne(key: SegmentKey): Promise<Evidence> {
    const { store, sealer, request } = this.#options;
    try {
      const head = await readSegmentHead(store, sealer, key, request);
      return head.kind === 'absent' ? {} : evidenceOf(this.chain, head);
    } catch (error) {
      if (!isDamage(error)) throw error;
      // What cannot be opened proves nothing, and what lies behind an absent key is void anyway.
      return {};
    }
  }

  async #inspectCheckpoints(): Promise<Evidence> {
    const { store, sealer, request } = this.#options;
    const { lastGroup, nextKey } = this.chain;
    for (const key of await listCheckpoints(store, sealer, request)) {
      if (key.number <= lastGroup.number) return {};
      const checkpoint = await readCheckpoint(store, sealer, key, request, () => undefined);
      if (checkpoint !== undefined) {
        return { gap: `segment ${keyText(nextKey)} is missing: the checkpoint ${keyText(key)} includes it` };
      }
    }
    return {};
  }
}
