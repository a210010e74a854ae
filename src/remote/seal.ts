/**
 * Seals and opens objects: AES-256-GCM under a key of each object's own (docs/formats.md, "Sealed objects").
 *
 *   salt             HMAC-SHA-256(key, 32 random bytes || plain index)
 *   object key       HKDF-SHA-256(key, salt; info = "keepgate object" || uuid || kind || format version)
 *   nonce            frame number, 96 bits little-endian: 0 is the index, data frames follow
 *   associated data  uuid 16 || kind 1 || last-frame flag 1 || epoch 8 || number 8 || part 4 || frame 4 || SHA-256(header) 32
 *   link             SHA-256(header || sealed index)
 *
 * `key` is the volume key, or the master key for the one kind `wrappedKey`. Invariants: the salt depends on what the
 * index says, and the index of every kind with a body says what is in the body (checksums or a hash), so that a machine
 * that was cloned with its random state does not use one key for two contents; nothing is returned before its tag was
 * checked. Retrying a PUT sends the same SealedObject.bytes: an object name is never sealed twice.
 */
import { createDecipheriv, createHash, createHmac, hkdfSync } from 'node:crypto';
import { assert } from '../base/assert.js';
import { uuidBytes as plainUuidBytes } from '../base/uuid.js';
import { ByteWriter, equalBytes } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, roundUp } from '../base/units.js';
import type { FrameCipher } from '../ports/frame-cipher.js';
import type { Random } from '../ports/random.js';
import { isUuid, ObjectNames } from './name.js';
import { plainFrameCipher } from './plain-frame-cipher.js';
import {
  decodeHeader,
  encodeHeader,
  FORMAT_VERSION,
  FRAME_PLAIN_BYTES,
  frameCountOf,
  frameRangeOf,
  HEADER_BYTES,
  INDEX_SEALED_BYTES_MAX,
  KEY_ID_BYTES,
  OBJECT_BYTES_MAX,
  objectKinds,
  sealedObjectBytes,
  TAG_BYTES,
} from './seal-header.js';
import type { ClearHeader, ObjectKind } from './seal-header.js';
import type { SealedBuffers } from './sealed-buffers.js';

export const KEY_BYTES = 32;
export const LINK_BYTES = 32;
/** Plain indexes are padded with zeros to a multiple of this, so that lengths tell less. */
const INDEX_STEP_BYTES = 512;
const SALT_RANDOM_BYTES = 32;

/** Which object: all of it is authenticated with every frame, but the name, which is for messages. */
export interface ObjectIdentity {
  readonly kind: ObjectKind;
  readonly name: string;
  readonly epoch: number;
  readonly number: number;
  readonly part: number;
}

export interface SealedObject {
  /** What is stored; a retry sends the same bytes. */
  readonly bytes: Uint8Array;
  readonly header: ClearHeader;
  readonly link: Uint8Array;
}

/** How a body is brought into an object. */
export interface SealOptions {
  /** The body is these blocks of the given bytes, in this order, instead of all of them. */
  readonly blocks?: Uint32Array;
  /** Where the object's memory is from; default: memory of its own. */
  readonly buffers?: SealedBuffers;
}

/** An object's index, authenticated, and how to open its frames. */
export interface OpenedObject {
  readonly header: ClearHeader;
  /** Plain, with its padding. */
  readonly index: Uint8Array;
  readonly link: Uint8Array;
  readonly frames: FrameOpener;
}

export class ObjectSealer {
  readonly names: ObjectNames;
  readonly keyId: Uint8Array;
  readonly #key: Uint8Array;
  readonly #uuid: Uint8Array;
  readonly #random: Random;
  readonly #cipher: FrameCipher;

  constructor(options: {
    readonly key: Uint8Array;
    readonly uuid: string;
    readonly random: Random;
    readonly cipher?: FrameCipher | undefined;
  }) {
    assert(options.key.length === KEY_BYTES, 'a key has 32 bytes');
    this.names = new ObjectNames(options.uuid);
    this.keyId = keyIdOf(options.key);
    this.#key = options.key;
    this.#uuid = uuidBytes(options.uuid);
    this.#random = options.random;
    this.#cipher = options.cipher ?? plainFrameCipher;
  }

  /** Seals an index of any content (it is padded with zeros) and a body, which is cut into frames. */
  seal(
    identity: ObjectIdentity,
    index: Uint8Array,
    body: Uint8Array = new Uint8Array(0),
    { blocks, buffers }: SealOptions = {},
  ): SealedObject {
    const bodyBytes = blocks === undefined ? body.length : blocks.length * BLOCK_BYTES;
    const paddedBytes = roundUp(index.length, INDEX_STEP_BYTES);
    const objectBytes = sealedObjectBytes(paddedBytes, bodyBytes);
    const indexSealedBytes = paddedBytes + TAG_BYTES;
    assert(indexSealedBytes <= INDEX_SEALED_BYTES_MAX && objectBytes <= OBJECT_BYTES_MAX, 'an object is too large');
    const padded = new Uint8Array(paddedBytes);
    padded.set(index);
    const salt = createHmac('sha256', this.#key).update(this.#random.bytes(SALT_RANDOM_BYTES)).update(padded).digest();
    const header: ClearHeader = { kind: identity.kind, indexSealedBytes, objectBytes, keyId: this.keyId, salt };
    const bytes = buffers?.take(objectBytes) ?? Buffer.allocUnsafeSlow(objectBytes);
    bytes.set(encodeHeader(header));
    const frames = new FrameKey(this.#objectKey(header), this.#uuid, identity, header);
    const bodyStart = HEADER_BYTES + indexSealedBytes;
    let at = HEADER_BYTES;
    const seal = (frame: number, last: boolean, plain: Uint8Array, numbers: Uint32Array | undefined): void => {
      const { key, nonce, associated } = frames.bind(frame, last);
      this.#cipher.sealFrame(key, nonce, associated, plain, numbers, bytes, at);
      at += (numbers === undefined ? plain.length : numbers.length * BLOCK_BYTES) + TAG_BYTES;
    };
    seal(0, bodyBytes === 0, padded, undefined);
    for (let start = 0, frame = 1; start < bodyBytes; start += FRAME_PLAIN_BYTES, frame++) {
      const end = Math.min(start + FRAME_PLAIN_BYTES, bodyBytes);
      if (blocks === undefined) seal(frame, end === bodyBytes, body.subarray(start, end), undefined);
      else seal(frame, end === bodyBytes, body, blocks.subarray(start / BLOCK_BYTES, end / BLOCK_BYTES));
    }
    assert(at === objectBytes, 'a sealed object has the length that its header says');
    return { bytes, header, link: linkOf(bytes.subarray(0, bodyStart)) };
  }

  /**
   * Opens an object whose header and sealed index are in `bytes` (more may follow). object-damaged when it was changed,
   * is another object, or was sealed with another key.
   */
  open(identity: ObjectIdentity, bytes: Uint8Array): OpenedObject {
    const header = decodeHeader(identity.name, bytes);
    this.#check(identity, header);
    const bodyStart = HEADER_BYTES + header.indexSealedBytes;
    if (bytes.length < bodyStart) damaged(identity, `only ${bytes.length} bytes of its index are there`);
    const frames = this.#opener(identity, header);
    const index = frames.openIndex(bytes.subarray(HEADER_BYTES, bodyStart));
    return { header, index, link: linkOf(bytes.subarray(0, bodyStart)), frames };
  }

  /** As open, for all of an object: its index and its whole body. */
  openWhole(identity: ObjectIdentity, bytes: Uint8Array): OpenedObject & { readonly body: Uint8Array } {
    const opened = this.open(identity, bytes);
    if (bytes.length !== opened.header.objectBytes) {
      damaged(identity, `it has ${bytes.length} bytes instead of ${opened.header.objectBytes}`);
    }
    const count = opened.frames.count;
    const body = Buffer.allocUnsafeSlow(
      opened.header.objectBytes - HEADER_BYTES - opened.header.indexSealedBytes - count * TAG_BYTES,
    );
    for (let frame = 0; frame < count; frame++) {
      const { start, lengthBytes } = opened.frames.range(frame);
      body.set(opened.frames.open(frame, bytes.subarray(start, start + lengthBytes)), frame * FRAME_PLAIN_BYTES);
    }
    return { ...opened, body };
  }

  /** As openWhole, for one that an object of this version names by its link: if it says to be newer, it was changed. */
  openNamed(identity: ObjectIdentity, bytes: Uint8Array): OpenedObject & { readonly body: Uint8Array } {
    try {
      return this.openWhole(identity, bytes);
    } catch (error) {
      if (!(error instanceof GatewayError) || error.code !== 'format-newer') throw error;
      return damaged(identity, 'its header says a newer format version than what names it');
    }
  }

  /** Opens frames of an object whose header is known from elsewhere (a segment table), without reading its index. */
  frames(identity: ObjectIdentity, header: ClearHeader): FrameOpener {
    this.#check(identity, header);
    return this.#opener(identity, header);
  }

  /** The key that receipts are authenticated with (receipt.ts); no object is sealed with it. */
  receiptKey(): Uint8Array {
    const info = Buffer.concat([Buffer.from('keepgate receipt'), this.#uuid]);
    return new Uint8Array(hkdfSync('sha256', this.#key, new Uint8Array(0), info, KEY_BYTES));
  }

  #check(identity: ObjectIdentity, header: ClearHeader): void {
    if (header.kind !== identity.kind) damaged(identity, `it is a ${header.kind}, not a ${identity.kind}`);
    if (!equalBytes(header.keyId, this.keyId)) damaged(identity, 'it is sealed with another key');
  }

  #opener(identity: ObjectIdentity, header: ClearHeader): FrameOpener {
    return new FrameOpener(new FrameKey(this.#objectKey(header), this.#uuid, identity, header), header);
  }

  #objectKey(header: ClearHeader): Uint8Array {
    const info = new ByteWriter(64);
    info.bytes(new TextEncoder().encode('keepgate object'));
    info.bytes(this.#uuid);
    info.u8(objectKinds[header.kind]);
    info.u16(FORMAT_VERSION);
    return new Uint8Array(hkdfSync('sha256', this.#key, header.salt, info.finish(), KEY_BYTES));
  }
}

/** Opens single data frames of one object; frames count from 0. */
export class FrameOpener {
  readonly count: number;
  readonly #key: FrameKey;
  readonly #header: ClearHeader;

  constructor(key: FrameKey, header: ClearHeader) {
    this.#key = key;
    this.#header = header;
    this.count = frameCountOf(header);
  }

  /** Where a frame lies in the object: what a ranged GET asks for. */
  range(frame: number): { start: number; lengthBytes: number } {
    assert(frame >= 0 && frame < this.count, 'an object has no such frame');
    return frameRangeOf(this.#header, frame);
  }

  /** The plain bytes of a frame; object-damaged unless `sealed` is exactly that frame. */
  open(frame: number, sealed: Uint8Array): Uint8Array {
    if (frame < 0 || frame >= this.count) return this.#key.damaged(`it has no frame ${frame}`);
    if (sealed.length !== this.range(frame).lengthBytes) return this.#key.damaged(`frame ${frame} is truncated`);
    return this.#key.open(frame + 1, frame === this.count - 1, sealed);
  }

  openIndex(sealed: Uint8Array): Uint8Array {
    return this.#key.open(0, this.count === 0, sealed);
  }
}

/** One object's key with everything that its frames are bound to. */
class FrameKey {
  readonly #key: Uint8Array;
  readonly #identity: ObjectIdentity;
  readonly #associated: Buffer;
  readonly #nonce = Buffer.alloc(12);

  constructor(key: Uint8Array, uuid: Uint8Array, identity: ObjectIdentity, header: ClearHeader) {
    this.#key = key;
    this.#identity = identity;
    const writer = new ByteWriter(96);
    writer.bytes(uuid);
    writer.u8(objectKinds[identity.kind]);
    writer.u8(0);
    writer.u64(identity.epoch);
    writer.u64(identity.number);
    writer.u32(identity.part);
    writer.u32(0);
    writer.bytes(createHash('sha256').update(encodeHeader(header)).digest());
    this.#associated = Buffer.from(writer.finish());
  }

  /** For one frame, until the next call. */
  bind(frame: number, last: boolean): { key: Uint8Array; nonce: Uint8Array; associated: Uint8Array } {
    this.#nonce.writeUInt32LE(frame, 0);
    this.#associated.writeUInt8(last ? 1 : 0, 17);
    this.#associated.writeUInt32LE(frame, 38);
    return { key: this.#key, nonce: this.#nonce, associated: this.#associated };
  }

  open(frame: number, last: boolean, sealed: Uint8Array): Uint8Array {
    const { key, nonce, associated } = this.bind(frame, last);
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(associated);
    decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
    const plain = decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES));
    try {
      decipher.final();
    } catch {
      this.damaged(frame === 0 ? 'its index fails authentication' : `frame ${frame - 1} fails authentication`);
    }
    return plain;
  }

  damaged(reason: string): never {
    damaged(this.#identity, reason);
  }
}

/** Identifies a key without telling it: HMAC-SHA-256(key, "keepgate key id"), its first 16 bytes. */
export function keyIdOf(key: Uint8Array): Uint8Array {
  return createHmac('sha256', key).update('keepgate key id').digest().subarray(0, KEY_ID_BYTES);
}

/** SHA-256 of plain content, for indexes that vouch for a body. */
export function contentHash(body: Uint8Array): Uint8Array {
  return createHash('sha256').update(body).digest();
}

export function uuidBytes(uuid: string): Uint8Array {
  assert(isUuid(uuid), 'a volume is named by a lower-case uuid');
  return plainUuidBytes(uuid);
}

function linkOf(headerAndIndex: Uint8Array): Uint8Array {
  return createHash('sha256').update(headerAndIndex).digest();
}

function damaged(identity: ObjectIdentity, reason: string): never {
  throw new GatewayError('object-damaged', `${identity.name}: ${reason}`, { context: { object: identity.name } });
}
