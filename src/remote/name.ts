/**
 * Names of a volume's objects (docs/formats.md, "Object names"), relative to the store's prefix.
 *
 *     UUID/volume                            sealed identity
 *     UUID/keys/<master key id, 32 hex>      the volume key, wrapped
 *     UUID/epochs/<epoch>
 *     UUID/segments/<epoch>-<number>         a segment, or the fence that ends the epoch
 *     UUID/checkpoints/<epoch>-<number>      number: the newest segment that the checkpoint includes
 *     UUID/shards/<epoch>-<number>-<part>    written with checkpoint epoch-number; part counts from 0
 *     UUID/pins/<id>
 *
 * Invariants: numbers have a fixed width in decimal (epoch 10, number 15, part 10 digits), so that byte order is
 * numeric order; a name tells nothing about blocks (a shard's part is a running number, not its place in the volume).
 */
import { assert } from '../base/assert.js';

export const EPOCH_MAX = 0xffff_ffff;
/** Segment numbers are 48 bits wide in map entries. */
export const SEGMENT_NUMBER_MAX = 2 ** 48 - 1;
export const PART_MAX = 0xffff_ffff;

const EPOCH_DIGITS = 10;
const NUMBER_DIGITS = 15;
const PART_DIGITS = 10;

/** Names one segment (or fence, or checkpoint) of a volume. */
export interface SegmentKey {
  readonly epoch: number;
  readonly number: number;
}

export interface ShardKey extends SegmentKey {
  readonly part: number;
}

/** What a key inside a volume's folder is. */
export type ParsedName =
  | { readonly kind: 'volume' }
  | { readonly kind: 'key'; readonly id: string }
  | { readonly kind: 'epoch'; readonly epoch: number }
  | ({ readonly kind: 'segment' } & SegmentKey)
  | ({ readonly kind: 'checkpoint' } & SegmentKey)
  | ({ readonly kind: 'shard' } & ShardKey)
  | { readonly kind: 'pin'; readonly id: string };

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const patterns = {
  key: /^keys\/([0-9a-f]{32})$/,
  epoch: /^epochs\/(\d{10})$/,
  segment: /^segments\/(\d{10})-(\d{15})$/,
  checkpoint: /^checkpoints\/(\d{10})-(\d{15})$/,
  shard: /^shards\/(\d{10})-(\d{15})-(\d{10})$/,
  pin: /^pins\/([0-9a-z-]{1,64})$/,
} as const;

export function isUuid(text: string): boolean {
  return uuidPattern.test(text);
}

/** The uuid that a key begins with, when it is one of a volume's objects. */
export function uuidOfKey(key: string): string | undefined {
  const slash = key.indexOf('/');
  const first = key.slice(0, Math.max(slash, 0));
  return isUuid(first) ? first : undefined;
}

export class ObjectNames {
  readonly uuid: string;
  /** "UUID/": every object of the volume begins with it. */
  readonly folder: string;
  readonly volume: string;
  readonly keysPrefix: string;
  readonly epochsPrefix: string;
  readonly segmentsPrefix: string;
  readonly checkpointsPrefix: string;
  readonly shardsPrefix: string;
  readonly pinsPrefix: string;

  constructor(uuid: string) {
    assert(isUuid(uuid), 'a volume is named by a lower-case uuid');
    this.uuid = uuid;
    this.folder = `${uuid}/`;
    this.volume = `${uuid}/volume`;
    this.keysPrefix = `${uuid}/keys/`;
    this.epochsPrefix = `${uuid}/epochs/`;
    this.segmentsPrefix = `${uuid}/segments/`;
    this.checkpointsPrefix = `${uuid}/checkpoints/`;
    this.shardsPrefix = `${uuid}/shards/`;
    this.pinsPrefix = `${uuid}/pins/`;
  }

  key(masterKeyId: string): string {
    return this.keysPrefix + masterKeyId;
  }

  epoch(epoch: number): string {
    return this.epochsPrefix + epochDigits(epoch);
  }

  segment(key: SegmentKey): string {
    return this.segmentsPrefix + segmentDigits(key);
  }

  /** All segments of one epoch begin with this. */
  segmentsOfEpochPrefix(epoch: number): string {
    return `${this.segmentsPrefix}${epochDigits(epoch)}-`;
  }

  checkpoint(key: SegmentKey): string {
    return this.checkpointsPrefix + segmentDigits(key);
  }

  shard(key: ShardKey): string {
    return `${this.shardsPrefix}${segmentDigits(key)}-${digits(key.part, PART_DIGITS, PART_MAX)}`;
  }

  pin(id: string): string {
    assert(patterns.pin.test(`pins/${id}`), 'a pin is named by lower-case letters, digits and dashes');
    return this.pinsPrefix + id;
  }

  /** What `key` names, or undefined when it is none of this volume's names. */
  parse(key: string): ParsedName | undefined {
    if (!key.startsWith(this.folder)) return undefined;
    const rest = key.slice(this.folder.length);
    if (rest === 'volume') return { kind: 'volume' };
    for (const kind of ['segment', 'shard', 'checkpoint', 'epoch', 'key', 'pin'] as const) {
      const match = patterns[kind].exec(rest);
      if (match === null) continue;
      const [, first = '', second = '', third = ''] = match;
      const parsed = parsedName(kind, first, Number(second), Number(third));
      return parsed;
    }
    return undefined;
  }
}

function parsedName(kind: keyof typeof patterns, first: string, number: number, part: number): ParsedName | undefined {
  if (kind === 'key' || kind === 'pin') return { kind, id: first };
  const epoch = Number(first);
  if (epoch > EPOCH_MAX || number > SEGMENT_NUMBER_MAX || part > PART_MAX) return undefined;
  if (kind === 'epoch') return { kind, epoch };
  if (kind === 'shard') return { kind, epoch, number, part };
  return { kind, epoch, number };
}

function epochDigits(epoch: number): string {
  return digits(epoch, EPOCH_DIGITS, EPOCH_MAX);
}

function segmentDigits(key: SegmentKey): string {
  return `${epochDigits(key.epoch)}-${digits(key.number, NUMBER_DIGITS, SEGMENT_NUMBER_MAX)}`;
}

function digits(value: number, width: number, max: number): string {
  assert(Number.isInteger(value) && value >= 0 && value <= max, 'a number in an object name is out of range');
  return value.toString().padStart(width, '0');
}
