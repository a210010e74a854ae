/**
 * A shard of the remote map: where each of 32768 blocks (128 MiB of volume) has its newest committed copy. It is an
 * immutable object (docs/formats.md, "Map shard"). Index:
 *
 *      0   8  shard index: it maps blocks [32768 index, 32768 index + 32768)
 *      8  32  SHA-256 of the body
 *     40 256  CRC of each of the 64 pages of the body
 *
 * Body, 256 KiB: entries of 8 bytes: segment number 6, payload index 2; all zero: the block reads as zero. The frame of
 * an entry is its payload index >> 6. A page's CRC is CRC32C(le64(page number in the volume) || 4096 bytes): the owner
 * of a map carries it with the page from the page's last change, so that rot in between is found (P3).
 */
import { assert } from '../base/assert.js';
import { ByteReader, ByteWriter, equalBytes } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { Checksums } from '../ports/checksum.js';
import type { ShardKey } from './name.js';
import { contentHash } from './seal.js';
import type { ObjectIdentity, ObjectSealer, SealedObject } from './seal.js';

export const ENTRY_BYTES = 8;
export const SHARD_BLOCKS = 32_768;
export const SHARD_BYTES = SHARD_BLOCKS * ENTRY_BYTES;
export const MAP_PAGE_BYTES = 4096;
export const MAP_PAGE_BLOCKS = MAP_PAGE_BYTES / ENTRY_BYTES;
export const SHARD_PAGES = SHARD_BYTES / MAP_PAGE_BYTES;
const TWO_32 = 0x1_0000_0000;
const HASH_BYTES = 32;

export interface MapShard {
  readonly shardIndex: number;
  /** SHARD_BYTES of entries. */
  readonly entries: Uint8Array;
  /** SHARD_PAGES page CRCs, see mapPageSum. */
  readonly pageSums: Uint32Array;
}

/** How a checkpoint names a shard: the link makes the root vouch for its content. */
export interface MapShardReference extends ShardKey {
  readonly shardIndex: number;
  readonly link: Uint8Array;
}

/** CRC of one map page at bytes[start…], which is page `pageNumber` of the whole map. */
export function mapPageSum(checksums: Checksums, pageNumber: number, bytes: Uint8Array, start: number): number {
  const seed = new Uint8Array(8);
  new DataView(seed.buffer).setBigUint64(0, BigInt(pageNumber), true);
  return checksums.crc32c(checksums.crc32c(0, seed, 0, 8), bytes, start, start + MAP_PAGE_BYTES);
}

/** The CRCs of all pages of a shard. */
export function mapPageSums(checksums: Checksums, shardIndex: number, entries: Uint8Array): Uint32Array {
  return Uint32Array.from({ length: SHARD_PAGES }, (_, page) =>
    mapPageSum(checksums, shardIndex * SHARD_PAGES + page, entries, page * MAP_PAGE_BYTES),
  );
}

/** Reads and writes entries in place; `entries` may be a shard's or any run of map pages. Allocates nothing per block. */
export class MapEntries {
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Segment number that holds block `at`; 0: the block reads as zero. */
  segment(at: number): number {
    return this.#view.getUint32(at * ENTRY_BYTES, true) + this.#view.getUint16(at * ENTRY_BYTES + 4, true) * TWO_32;
  }

  payload(at: number): number {
    return this.#view.getUint16(at * ENTRY_BYTES + 6, true);
  }

  set(at: number, segment: number, payload: number): void {
    this.#view.setUint32(at * ENTRY_BYTES, segment % TWO_32, true);
    this.#view.setUint16(at * ENTRY_BYTES + 4, Math.floor(segment / TWO_32), true);
    this.#view.setUint16(at * ENTRY_BYTES + 6, payload, true);
  }
}

/** Seals a shard after checking its page CRCs: checksum-mismatch when the map has rotted in memory or on disk. */
export function sealMapShard(sealer: ObjectSealer, checksums: Checksums, key: ShardKey, shard: MapShard): SealedObject {
  assert(shard.entries.length === SHARD_BYTES && shard.pageSums.length === SHARD_PAGES, 'a map shard has one size');
  const identity = mapShardIdentity(sealer, key);
  const rotten = firstRottenPage(checksums, shard);
  if (rotten >= 0) {
    throw new GatewayError('checksum-mismatch', `the map has rotted: page ${rotten} of shard ${shard.shardIndex}`);
  }
  const writer = new ByteWriter(512);
  writer.u64(shard.shardIndex);
  writer.bytes(contentHash(shard.entries));
  for (const sum of shard.pageSums) writer.u32(sum);
  return sealer.seal(identity, writer.finish(), shard.entries);
}

/** object-damaged when it is not the one that the checkpoint names, or its pages had rotted before they were sealed. */
export function openMapShard(
  sealer: ObjectSealer,
  checksums: Checksums,
  reference: MapShardReference,
  bytes: Uint8Array,
): MapShard {
  const identity = mapShardIdentity(sealer, reference);
  const { index, body: entries, link } = sealer.openNamed(identity, bytes);
  const reader = new ByteReader(index, identity.name);
  const shardIndex = reader.u64();
  const hash = reader.bytes(HASH_BYTES);
  const pageSums = new Uint32Array(SHARD_PAGES);
  for (let page = 0; page < SHARD_PAGES; page++) pageSums[page] = reader.u32();
  reader.endOfZeros();
  if (shardIndex !== reference.shardIndex || !equalBytes(link, reference.link)) {
    reader.fail('it is not the shard that the checkpoint names');
  }
  if (entries.length !== SHARD_BYTES) reader.fail(`it maps ${entries.length} bytes of entries`);
  if (!equalBytes(hash, contentHash(entries))) reader.fail('its content differs from its index');
  const shard = { shardIndex, entries, pageSums };
  const rotten = firstRottenPage(checksums, shard);
  if (rotten >= 0) reader.fail(`page ${rotten} had rotted before it was sealed`);
  return shard;
}

function firstRottenPage(checksums: Checksums, shard: MapShard): number {
  for (let page = 0; page < SHARD_PAGES; page++) {
    const number = shard.shardIndex * SHARD_PAGES + page;
    if (mapPageSum(checksums, number, shard.entries, page * MAP_PAGE_BYTES) !== shard.pageSums[page]) return page;
  }
  return -1;
}

function mapShardIdentity(sealer: ObjectSealer, key: ShardKey): ObjectIdentity {
  const { epoch, number, part } = key;
  return { kind: 'mapShard', name: sealer.names.shard(key), epoch, number, part };
}
