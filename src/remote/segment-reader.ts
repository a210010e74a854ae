/**
 * Reads what lies at a segment's key: a segment, the fence that ends its epoch, or nothing. One ranged GET verifies the
 * index and yields the link; each further frame is one more.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES } from '../base/units.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { SegmentKey } from './name.js';
import { decodeHeader, HEADER_BYTES } from './seal-header.js';
import type { ClearHeader } from './seal-header.js';
import type { FrameOpener, ObjectSealer } from './seal.js';
import { openFence } from './segment-fence.js';
import type { Fence } from './segment-fence.js';
import { decodeSegmentIndex } from './segment-index.js';
import type { SegmentIndex } from './segment-index.js';
import { frameEndsOf, segmentIdentity } from './segment-writer.js';

/** Covers the index of an 8 MiB segment whatever its extents, so that the first GET is the only one. */
const HEAD_BYTES = 64 * 1024;

/** A segment whose index is verified. */
export interface OpenedSegment {
  readonly kind: 'segment';
  readonly key: SegmentKey;
  readonly header: ClearHeader;
  readonly index: SegmentIndex;
  readonly link: Uint8Array;
  readonly frames: FrameOpener;
}

export interface OpenedFence {
  readonly kind: 'fence';
  readonly key: SegmentKey;
  readonly header: ClearHeader;
  readonly fence: Fence;
}

export type SegmentHead = OpenedSegment | OpenedFence | { readonly kind: 'absent'; readonly key: SegmentKey };

/** What is at `key`, verified. object-damaged; store errors. */
export async function readSegmentHead(
  store: ObjectStore,
  sealer: ObjectSealer,
  key: SegmentKey,
  request: StoreRequest = {},
): Promise<SegmentHead> {
  const name = sealer.names.segment(key);
  let bytes: Uint8Array;
  try {
    bytes = await store.get(name, { ...request, range: { start: 0, lengthBytes: HEAD_BYTES, orLess: true } });
  } catch (error) {
    if (error instanceof GatewayError && error.code === 'object-missing') return { kind: 'absent', key };
    throw error;
  }
  const header = decodeHeader(name, bytes);
  const headBytes = HEADER_BYTES + header.indexSealedBytes;
  if (bytes.length < headBytes) {
    const rest = { start: bytes.length, lengthBytes: headBytes - bytes.length };
    bytes = Buffer.concat([bytes, await store.get(name, { ...request, range: rest })]);
  }
  return openSegmentHead(sealer, key, bytes);
}

/** As readSegmentHead for bytes that are there already: at least the header and the sealed index. */
export function openSegmentHead(sealer: ObjectSealer, key: SegmentKey, bytes: Uint8Array): OpenedSegment | OpenedFence {
  const identity = segmentIdentity(sealer, key);
  const claimed = decodeHeader(identity.name, bytes);
  if (claimed.kind === 'fence') {
    return { kind: 'fence', key, header: claimed, fence: openFence(sealer, key, bytes) };
  }
  const { header, index: plain, link, frames } = sealer.open(identity, bytes);
  const index = decodeSegmentIndex(identity.name, plain);
  const expectedEnds = frameEndsOf(index.payloadBlocks);
  const bodyBytes = header.objectBytes - HEADER_BYTES - header.indexSealedBytes;
  if (
    bodyBytes !== (expectedEnds.at(-1) ?? 0) ||
    index.frameEnds.length !== expectedEnds.length ||
    index.frameEnds.some((end, frame) => end !== expectedEnds[frame])
  ) {
    throw new GatewayError('object-damaged', `${identity.name}: its frames and its payload disagree`);
  }
  return { kind: 'segment', key, header, index, link, frames };
}

/** Payload blocks [64 frame, 64 frame + 64) of a segment, by one ranged GET. */
export async function readFrame(
  store: ObjectStore,
  sealer: ObjectSealer,
  key: SegmentKey,
  frames: FrameOpener,
  frame: number,
  request: StoreRequest = {},
): Promise<Uint8Array> {
  const sealed = await store.get(sealer.names.segment(key), { ...request, range: frames.range(frame) });
  return frames.open(frame, sealed);
}

/** The whole payload of a segment, by one GET of everything behind its index; the blocks in payload order. */
export async function readPayload(
  store: ObjectStore,
  sealer: ObjectSealer,
  segment: OpenedSegment,
  request: StoreRequest = {},
): Promise<Uint8Array> {
  const payload = Buffer.allocUnsafeSlow(segment.index.payloadBlocks * BLOCK_BYTES);
  if (payload.length === 0) return payload;
  const start = HEADER_BYTES + segment.header.indexSealedBytes;
  const lengthBytes = segment.header.objectBytes - start;
  const sealed = await store.get(sealer.names.segment(segment.key), { ...request, range: { start, lengthBytes } });
  let filled = 0;
  for (let frame = 0; frame < segment.frames.count; frame++) {
    const range = segment.frames.range(frame);
    const plain = segment.frames.open(
      frame,
      sealed.subarray(range.start - start, range.start - start + range.lengthBytes),
    );
    payload.set(plain, filled);
    filled += plain.length;
  }
  return payload;
}
