/**
 * What a front end serves: one volume, addressed in bytes. The volume makes whole blocks of any alignment.
 *
 * Contract of the hot path. A front end handles all requests of one wake-up, calling read, write, trim, zero and
 * flush, and then calls `commit` once. Writes staged in between become one batch of the log, written inside `commit`;
 * their completions run before `commit` returns (FUA and flush: after the fdatasync that covers them). A front end that
 * never calls `commit` is still served: the device commits by itself at the end of the turn. No method keeps a reference to `source` after it
 * returned. Completions run in LSN order for writes, and are never called from inside `read`, `write`, `trim`, `zero` or `flush` themselves.
 *
 * Errors: a refused request (range, read-only, closed) is thrown by the call itself as a GatewayError and its
 * completion is not called; a later failure is handed to the completion.
 */
import type { GatewayError } from '../base/errors.js';
import type { ByteLength, ByteOffset } from '../base/units.js';

/** Told once how a request ended; implemented by a front end's pooled request slot. */
export interface Completion {
  done(error: GatewayError | undefined): void;
}

/** A write whose payload arrives in pieces. Its owner either submits or abandons it, exactly once. */
export interface PartialWrite {
  /** Bytes still to come. */
  readonly remainingBytes: ByteLength;
  /** Copies source[start, end) to where the payload stands; checksummed in the same pass. */
  fill(source: Uint8Array, start: number, end: number): void;
  /** Takes its place in the order of writes; only when remainingBytes is 0. */
  submit(forceUnitAccess: boolean, completion: Completion): void;
  /** Forgets the payload (its connection died, or the peer aborted it). */
  abandon(): void;
}

export interface BlockStatusExtent {
  readonly lengthBytes: ByteLength;
  /** hole: reads as zero and takes no space; zero: reads as zero; data: anything. */
  readonly state: 'data' | 'zero' | 'hole';
}

/**
 * What can be asked about blocks besides their content. dirty: acknowledged here, and in no recovery point of the bucket
 * yet. remote: the content is in the bucket only, and a read fetches it.
 */
export type BlockMark = 'dirty' | 'remote';

export interface BlockMarkExtent {
  readonly lengthBytes: ByteLength;
  readonly marked: boolean;
}

export interface BlockDevice {
  /** Volume name and uuid (36 characters); stable for the volume's life. */
  readonly name: string;
  readonly uuid: string;
  readonly readOnly: boolean;
  /** Current size, a multiple of 4096; grows by resize. */
  readonly sizeBytes: ByteLength;

  /**
   * Reads into target[targetStart, targetStart + lengthBytes). True: done now, the completion is not called. False:
   * the completion is called later, and target must stay untouched until then.
   */
  read(
    offset: ByteOffset,
    lengthBytes: ByteLength,
    target: Uint8Array,
    targetStart: number,
    completion: Completion,
  ): boolean;

  /** False while the buffer is full or disk space is missing: then call `onceWritable` and read no further payload. */
  readonly writable: boolean;
  /** The same for trims and zeros, which take no space: they go on while disk space is missing. Also told by `onceWritable`. */
  readonly zeroable: boolean;
  onceWritable(listener: () => void): void;

  /** Stages a write whose whole payload is source[sourceStart, sourceStart + lengthBytes). */
  write(
    offset: ByteOffset,
    lengthBytes: ByteLength,
    source: Uint8Array,
    sourceStart: number,
    forceUnitAccess: boolean,
    completion: Completion,
  ): void;

  /** Opens a write of up to 32 MiB whose payload comes in pieces; memory for it is taken now. */
  openWrite(offset: ByteOffset, lengthBytes: ByteLength): PartialWrite;

  /**
   * Reads up to limits.updateBytesMax, hands them to `change`, and writes what that made of them, as one step: in the order
   * of writes nothing comes over these bytes between the two, from no connection and no protocol, and a crash leaves all
   * of it or nothing. `change` works in place and answers whether there is anything to write; it is called once, not from
   * inside this call, and not at all where the read fails.
   */
  update(
    offset: ByteOffset,
    lengthBytes: ByteLength,
    change: (bytes: Uint8Array) => boolean,
    forceUnitAccess: boolean,
    completion: Completion,
  ): void;

  /** Deallocates: reads as zero afterwards. */
  trim(offset: ByteOffset, lengthBytes: ByteLength, forceUnitAccess: boolean, completion: Completion): void;
  /** Whether `zero` takes these bytes now, and faster than a write of as many: as one record, without waiting for anything. */
  zeroIsFast(offset: ByteOffset, lengthBytes: ByteLength): boolean;
  /** Writes zeros; `mayPunch` false keeps the space allocated (NBD_CMD_FLAG_NO_HOLE). */
  zero(
    offset: ByteOffset,
    lengthBytes: ByteLength,
    mayPunch: boolean,
    forceUnitAccess: boolean,
    completion: Completion,
  ): void;
  /** Completes when every write acknowledged before this call, on any connection, is durable (P5). */
  flush(completion: Completion): void;
  /** Asks for the range to be brought into memory or from remote; completes when it was. */
  cache(offset: ByteOffset, lengthBytes: ByteLength, completion: Completion): void;
  /** Writes the staged batch and runs its completions. */
  commit(): void;
  /**
   * Describes [offset, offset + lengthBytes), at most extentsMax extents that join up, at least one; perhaps not to the
   * end. Each extent is as it was at some moment between the call and its answer: with what was acknowledged before the
   * call, and perhaps with what came meanwhile.
   */
  blockStatus(offset: ByteOffset, lengthBytes: ByteLength, extentsMax: number): Promise<BlockStatusExtent[]>;
  /** What `blockMarks` can tell of this volume. */
  readonly marks: readonly BlockMark[];
  /** As blockStatus; `mark` is one of `marks`. Whole blocks are marked, or not. */
  blockMarks(
    mark: BlockMark,
    offset: ByteOffset,
    lengthBytes: ByteLength,
    extentsMax: number,
  ): Promise<BlockMarkExtent[]>;
}
