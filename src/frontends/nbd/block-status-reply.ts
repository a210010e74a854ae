/**
 * The answer to BLOCK_STATUS: one status chunk for each metadata context that is asked for ("NBD_CMD_BLOCK_STATUS",
 * "NBD_REPLY_TYPE_BLOCK_STATUS" and "…_EXT" of proto.md). It fits one reply buffer, so that its memory is bounded: a
 * client goes on where the extents of a shortened answer end.
 */
import { limits } from '../../base/limits.js';
import type { BlockDevice, BlockStatusExtent } from '../../ports/block-device.js';
import type { PayloadReceiver } from './incoming-payload.js';
import type { MetaContext } from './meta-context.js';
import { replyForm, writeChunkHead, writePlainReply } from './reply-form.js';
import type { RequestSlot } from './request-slot.js';
import { chunkFlag, chunkType, extentFlag, readU32, wireBytes, writeU32, writeU64 } from './wire.js';

/** Context 4, and with extended headers the number of extents 4. */
const HEAD_BYTES_MAX = 8;
const EXTENT_BYTES_MAX = 16;
/** Length of the effect 8. */
const FILTER_HEAD_BYTES = 8;
const U32_MAX = 0xffff_ffff;

interface FlaggedExtent {
  readonly lengthBytes: number;
  readonly flags: number;
}

export interface ContextStatus {
  readonly context: MetaContext;
  readonly extents: readonly FlaggedExtent[];
}

/** A range whose status is asked for; `one`: of each context a single extent within the range. */
export interface StatusQuestion {
  readonly contexts: readonly MetaContext[];
  readonly offset: number;
  readonly lengthBytes: number;
  readonly one: boolean;
}

/** Asks the device, each context for as many extents as its share of `replyBytesMax` takes. Rejects as the device does. */
export async function statusOf(
  device: BlockDevice,
  { contexts, offset, lengthBytes, one }: StatusQuestion,
  replyBytesMax: number,
): Promise<ContextStatus[]> {
  const share = Math.floor(replyBytesMax / Math.max(1, contexts.length));
  const room = Math.floor((share - wireBytes.extendedChunk - HEAD_BYTES_MAX) / EXTENT_BYTES_MAX);
  const extentsMax = one ? 1 : Math.min(room, limits.nbdStatusExtentsMax);
  const answers: ContextStatus[] = [];
  for (const context of contexts) {
    const extents =
      context.kind === 'allocation'
        ? (await device.blockStatus(offset, lengthBytes, extentsMax)).map(allocationFlags)
        : (await device.blockMarks(context.kind, offset, lengthBytes, extentsMax)).map((extent) => ({
            lengthBytes: extent.lengthBytes,
            flags: extent.marked ? extentFlag.marked : 0,
          }));
    answers.push({ context, extents });
  }
  return answers;
}

function allocationFlags({ lengthBytes, state }: BlockStatusExtent): FlaggedExtent {
  const { hole, zero } = extentFlag;
  return { lengthBytes, flags: state === 'hole' ? hole | zero : state === 'zero' ? zero : 0 };
}

/** By form: what stands before the extents of a status chunk, and one extent. */
function statusBytesOf(slot: RequestSlot): { readonly head: number; readonly extent: number } {
  return slot.form === replyForm.extended ? { head: HEAD_BYTES_MAX, extent: EXTENT_BYTES_MAX } : { head: 4, extent: 8 };
}

/** Bytes of the whole reply. */
export function statusReplyBytes(slot: RequestSlot, answers: readonly ContextStatus[]): number {
  const { head, extent } = statusBytesOf(slot);
  const chunk = slot.form === replyForm.extended ? wireBytes.extendedChunk : wireBytes.structuredChunk;
  const chunks = answers.reduce((sum, { extents }) => sum + chunk + head + extents.length * extent, 0);
  // With nothing to tell, it is a chunk that says so.
  return answers.length > 0 ? chunks : wireBytes.extendedChunk;
}

/** Writes the reply; returns its length. */
export function writeStatusReply(
  bytes: Uint8Array,
  start: number,
  slot: RequestSlot,
  answers: readonly ContextStatus[],
): number {
  if (answers.length === 0) return writePlainReply(bytes, start, slot);
  let at = start;
  answers.forEach((answer, index) => {
    at = writeStatus(bytes, at, slot, index === answers.length - 1 ? chunkFlag.done : 0, answer);
  });
  return at - start;
}

function writeStatus(
  bytes: Uint8Array,
  start: number,
  slot: RequestSlot,
  flags: number,
  { context, extents }: ContextStatus,
): number {
  const extended = slot.form === replyForm.extended;
  const { head, extent } = statusBytesOf(slot);
  const type = extended ? chunkType.blockStatusExt : chunkType.blockStatus;
  let at = writeChunkHead(bytes, start, slot, flags, type, head + extent * extents.length);
  writeU32(bytes, at, context.id);
  if (extended) writeU32(bytes, at + 4, extents.length);
  at += head;
  for (const each of extents) {
    if (extended) {
      writeU64(bytes, at, each.lengthBytes);
      writeU64(bytes, at + 8, each.flags);
    } else {
      // The request's length has 32 bits, so that none is longer.
      writeU32(bytes, at, Math.min(each.lengthBytes, U32_MAX));
      writeU32(bytes, at + 4, each.flags);
    }
    at += extent;
  }
  return at;
}

/** Bytes of the longest filter that can be right: every context once. */
export function filterBytesMax(contexts: readonly MetaContext[]): number {
  return FILTER_HEAD_BYTES + 4 * contexts.length;
}

/**
 * The payload of a BLOCK_STATUS that asks for some of the contexts only: length of the effect 8, id 4 of each. `decided`
 * is called when all of it has arrived, with undefined where an id is unknown or there twice.
 */
export class StatusFilter implements PayloadReceiver {
  readonly #bytes: Uint8Array;
  readonly #contexts: readonly MetaContext[];
  readonly #decided: (lengthBytes: number, contexts: readonly MetaContext[] | undefined) => void;
  #filled = 0;

  constructor(
    lengthBytes: number,
    contexts: readonly MetaContext[],
    decided: (lengthBytes: number, contexts: readonly MetaContext[] | undefined) => void,
  ) {
    this.#bytes = new Uint8Array(lengthBytes);
    this.#contexts = contexts;
    this.#decided = decided;
  }

  fill(source: Uint8Array, start: number, end: number): void {
    this.#bytes.set(source.subarray(start, end), this.#filled);
    this.#filled += end - start;
  }

  submit(): void {
    const lengthBytes = readU32(this.#bytes, 0) * 0x1_0000_0000 + readU32(this.#bytes, 4);
    const chosen = new Set<MetaContext>();
    let ids = 0;
    for (let at = FILTER_HEAD_BYTES; at < this.#bytes.length; at += 4, ids++) {
      const id = readU32(this.#bytes, at);
      for (const context of this.#contexts) if (context.id === id) chosen.add(context);
    }
    this.#decided(lengthBytes, chosen.size === ids ? [...chosen] : undefined);
  }

  abandon(): void {
    // Nothing is held.
  }
}

/** Whether a payload of this length can be a filter. */
export function isFilterLength(lengthBytes: number, contexts: readonly MetaContext[]): boolean {
  return lengthBytes >= FILTER_HEAD_BYTES && lengthBytes % 4 === 0 && lengthBytes <= filterBytesMax(contexts);
}
