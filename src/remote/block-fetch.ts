/**
 * Fetches single blocks from the bucket, to heal local ones: the map says where a block is, its segment's index vouches
 * for it, and one ranged GET brings its frame. Neighbours mostly lie in one frame: those who want it at the same time
 * share one GET, and the last one is kept.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, type BlockNumber } from '../base/units.js';
import { SUM_REMOTE } from '../engine/sums.js';
import type { Checksums } from '../ports/checksum.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { BookKeeper } from './book-keeper.js';
import { keyText } from './chain.js';
import type { RemoteBook } from './remote-map-book.js';
import { MapDoubtError } from './remote-map-header.js';
import type { ObjectSealer } from './seal.js';
import { FRAME_PLAIN_BYTES } from './seal-header.js';
import { readFrame, readSegmentHead } from './segment-reader.js';
import type { OpenedSegment } from './segment-reader.js';
import { isOfRow, openTableShard } from './shard-table.js';
import { SharedFetch } from './shared-fetch.js';
import type { SegmentRow } from './shard-table.js';

const FRAME_BLOCKS = FRAME_PLAIN_BYTES / BLOCK_BYTES;

export interface BlockFetcherOptions {
  readonly keeper: BookKeeper;
  /** Gives up after a few attempts. */
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly checksums: Checksums;
}

interface Place {
  readonly row: SegmentRow;
  /** Index among the segment's payload blocks. */
  readonly payload: number;
}

interface HeldFrame {
  readonly segment: OpenedSegment;
  readonly frame: number;
  readonly bytes: Uint8Array;
}

export class BlockFetcher {
  readonly #options: BlockFetcherOptions;
  readonly #frames = new SharedFetch<HeldFrame>();
  #held: HeldFrame | undefined;

  constructor(options: BlockFetcherOptions) {
    this.#options = options;
  }

  /** The block as of the newest committed group. object-damaged, object-missing, remote-gap; store errors. */
  async fetch(block: BlockNumber, request: StoreRequest): Promise<Uint8Array> {
    const place = await this.#find(block, request);
    if (place === undefined) return new Uint8Array(BLOCK_BYTES);
    const { payload } = place;
    const { segment, frame, bytes } = await this.#frame(place, request);
    const start = (payload - frame * FRAME_BLOCKS) * BLOCK_BYTES;
    const found = bytes.slice(start, start + BLOCK_BYTES);
    const { sums } = segment.index;
    if (sums[payload] === SUM_REMOTE) {
      throw new GatewayError(
        'object-damaged',
        `segment ${keyText(segment.key)} says that it had rotted before it was sent`,
      );
    }
    if (this.#options.checksums.verifyBlocks(found, 0, 1, block, sums, payload) < 0) return found;
    throw new GatewayError('object-damaged', `segment ${keyText(segment.key)} does not hold it where the map says`);
  }

  /** undefined: the block reads as zero. */
  async #find(block: BlockNumber, request: StoreRequest): Promise<Place | undefined> {
    const look = async (book: RemoteBook): Promise<Place | undefined> => {
      const place = await book.map.place(block);
      return place && { row: await this.#row(book, place.segment, request), payload: place.payload };
    };
    const { keeper } = this.#options;
    try {
      return await keeper.use(look);
    } catch (error) {
      if (!(error instanceof MapDoubtError)) throw error;
      // The map itself had rotted: it is made again from a checkpoint.
      return keeper.use(look);
    }
  }

  async #row(book: RemoteBook, number: number, request: StoreRequest): Promise<SegmentRow> {
    const { store, sealer } = this.#options;
    const shard = book.table.shardOf(number);
    let row = book.table.tailRow(number);
    if (shard !== undefined) {
      const rows = openTableShard(sealer, shard, await store.get(sealer.names.shard(shard), request));
      row = rows.find((candidate) => candidate.number === number);
    }
    if (row === undefined) throw new GatewayError('remote-gap', `segment ${number} is in no table`);
    return row;
  }

  async #frame({ row, payload }: Place, request: StoreRequest): Promise<HeldFrame> {
    const frame = Math.floor(payload / FRAME_BLOCKS);
    let held = this.#held;
    if (held?.frame !== frame || !isOfRow(row, held.segment)) {
      const name = `frame ${frame} of segment ${keyText(row)}`;
      held = await this.#frames.get(name, request, (shared) => this.#read(row, frame, shared));
    }
    if (payload >= held.segment.index.payloadBlocks) throw notThere(row);
    return held;
  }

  async #read(row: SegmentRow, frame: number, request: StoreRequest): Promise<HeldFrame> {
    const { store, sealer } = this.#options;
    const held = this.#held?.segment;
    const segment =
      held !== undefined && isOfRow(row, held) ? held : await readSegmentHead(store, sealer, row, request);
    if (segment.kind !== 'segment' || !isOfRow(row, segment)) {
      throw new GatewayError('remote-gap', `segment ${keyText(row)} is missing`);
    }
    if (frame >= segment.frames.count) throw notThere(row);
    const bytes = await readFrame(store, sealer, segment.key, segment.frames, frame, request);
    this.#held = { segment, frame, bytes };
    return this.#held;
  }
}

function notThere(row: SegmentRow): GatewayError {
  return new GatewayError('object-damaged', `segment ${keyText(row)} does not hold what the map says`);
}
