/**
 * Performs what the ownership machine (ownership.ts) asks for: requests to the store, each repeated until it is
 * answered, and comparisons with the local log. Objects that are put are sealed once per key; a repeated PUT sends the
 * same bytes, and a refused one is recognised as one's own by its salt.
 */
import { assert } from '../base/assert.js';
import type { Clock } from '../ports/clock.js';
import type { ObjectStore } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { FIRST_EPOCH } from './chain.js';
import { INCARNATION_BYTES, sealEpoch } from './epoch-object.js';
import { actionOf, begin, next } from './ownership.js';
import type { LocalHead, OwnershipAction, OwnershipEvent, OwnershipState } from './ownership.js';
import { refuseNewerFormat } from './newer-format.js';
import type { StoreRetry } from './replicator-retry.js';
import { checkpointFrom } from './restore-checkpoint.js';
import type { ObjectSealer, SealedObject } from './seal.js';
import { sealFence } from './segment-fence.js';
import { readSegmentHead } from './segment-reader.js';
import type { OpenedSegment } from './segment-reader.js';
import { putOnce, recognise } from './upload.js';
import type { Fencing } from './upload.js';

export interface OwnershipOptions {
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly retry: StoreRetry;
  readonly clock: Clock;
  readonly random: Random;
  readonly fencing: Fencing;
  /** Who claims, for messages of other gateways. */
  readonly owner: string;
  /** Whether a complete group of segments is what the local log holds (group-compare.ts). */
  readonly compare: (group: readonly OpenedSegment[]) => Promise<boolean>;
}

export type OwnershipEnd = Extract<OwnershipState, { phase: 'owned' | 'refused' }>;

/** Runs the machine to its end. Throws what is neither (object-damaged, format-newer, StoppedError). */
export async function takeOwnership(local: LocalHead, options: OwnershipOptions): Promise<OwnershipEnd> {
  const free = await lowestFreeEpoch(local, options);
  await options.retry.run('see which version wrote last', (request) =>
    refuseNewerFormat(free - 1, options.store, options.sealer, request),
  );
  let state = begin(local, free);
  const driver = new OwnershipDriver(options);
  while (state.phase !== 'owned' && state.phase !== 'refused') {
    state = next(state, await driver.perform(actionOf(state)));
  }
  return state;
}

async function lowestFreeEpoch(local: LocalHead, options: OwnershipOptions): Promise<number> {
  const { store, sealer, retry } = options;
  const { names } = sealer;
  return retry.run('list epochs', async (request) => {
    let highest = Math.max(local.epoch, FIRST_EPOCH - 1);
    const range = local.epoch === 0 ? request : { ...request, after: names.epoch(local.epoch) };
    for await (const { key } of store.list(names.epochsPrefix, range)) {
      const parsed = names.parse(key);
      if (parsed?.kind === 'epoch') highest = Math.max(highest, parsed.epoch);
    }
    return highest + 1;
  });
}

class OwnershipDriver {
  readonly #options: OwnershipOptions;
  /** Sealed once per name. */
  readonly #sealed = new Map<string, SealedObject>();
  readonly #incarnation: Uint8Array;
  #group: OpenedSegment[] = [];

  constructor(options: OwnershipOptions) {
    this.#options = options;
    this.#incarnation = options.random.bytes(INCARNATION_BYTES);
  }

  async perform(action: OwnershipAction): Promise<OwnershipEvent> {
    switch (action.do) {
      case 'claim':
        return { type: 'claim', outcome: (await this.#claim(action.epoch)) ? 'mine' : 'taken' };
      case 'read':
        return this.#read(action.key);
      case 'compare': {
        // The head of the directory was read before, and is none of it.
        const first = this.#group.at(-1)?.index.groupFirstNumber ?? 0;
        const group = this.#group.filter(({ key }) => key.number >= first);
        this.#group = [];
        return { type: 'compared', same: await this.#options.compare(group) };
      }
      case 'lookAhead': {
        const { store, sealer, retry } = this.#options;
        const number = await retry.run('look for checkpoints', (request) =>
          checkpointFrom(store, sealer, action.number, request),
        );
        return { type: 'ahead', number };
      }
      case 'fence': {
        const stored = await this.#fence(action);
        return { type: 'fencePut', outcome: stored ? 'stored' : 'exists' };
      }
      case 'nothing':
        assert(false, 'an ended machine asks for nothing');
    }
  }

  async #claim(epoch: number): Promise<boolean> {
    const { sealer, clock, owner } = this.#options;
    const name = sealer.names.epoch(epoch);
    const claim = { wallMs: clock.wallMs(), incarnation: this.#incarnation, owner };
    return this.#put(name, () => sealEpoch(sealer, epoch, claim));
  }

  async #read(key: { readonly epoch: number; readonly number: number }): Promise<OwnershipEvent> {
    const { store, sealer, retry } = this.#options;
    const head = await retry.run('read a segment', (request) => readSegmentHead(store, sealer, key, request));
    switch (head.kind) {
      case 'absent':
        return { type: 'absent' };
      case 'fence':
        this.#group = [];
        return { type: 'fence', fence: head.fence };
      case 'segment':
        this.#group.push(head);
        return { type: 'segment', facts: head.index, link: head.link };
    }
  }

  async #fence(action: Extract<OwnershipAction, { do: 'fence' }>): Promise<boolean> {
    const { sealer, clock } = this.#options;
    const { key, successorEpoch, lastGroup } = action;
    const fence = { successorEpoch, wallMs: clock.wallMs(), lastGroup };
    return this.#put(sealer.names.segment(key), () => sealFence(sealer, key, fence));
  }

  /** False: another object is there. Without conditional PUTs, looking first is all that can be done. */
  async #put(name: string, seal: () => SealedObject): Promise<boolean> {
    const { store, retry, fencing } = this.#options;
    const object = this.#sealed.get(name) ?? seal();
    this.#sealed.set(name, object);
    return retry.run('take ownership', async (request) => {
      const there = fencing === 'none' && (await store.head(name, request)) !== undefined;
      const put = there ? recognise(store, name, object, request) : putOnce(store, fencing, name, object, request);
      return (await put).outcome === 'mine';
    });
  }
}
