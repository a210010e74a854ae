/**
 * A volume as front ends see it, where somebody may have to be kept from it: what `guard` answers refuses each request,
 * and each write whose payload was still coming.
 */
import type { GatewayError } from '../base/errors.js';
import type { ByteLength, ByteOffset } from '../base/units.js';
import type {
  BlockDevice,
  BlockMark,
  BlockMarkExtent,
  BlockStatusExtent,
  Completion,
  PartialWrite,
} from '../ports/block-device.js';

export class GuardedDevice implements BlockDevice {
  /** What is behind the guard. */
  readonly device: BlockDevice;
  readonly #guard: () => GatewayError | undefined;

  constructor(device: BlockDevice, guard: () => GatewayError | undefined) {
    this.device = device;
    this.#guard = guard;
  }

  get name(): string {
    return this.device.name;
  }
  get uuid(): string {
    return this.device.uuid;
  }
  get readOnly(): boolean {
    return this.device.readOnly;
  }
  get sizeBytes(): ByteLength {
    return this.device.sizeBytes;
  }
  /** True as well where the write itself is refused. */
  get writable(): boolean {
    return this.device.writable || this.#guard() !== undefined;
  }
  get zeroable(): boolean {
    return this.device.zeroable || this.#guard() !== undefined;
  }

  onceWritable(listener: () => void): void {
    this.device.onceWritable(listener);
  }

  read(
    offset: ByteOffset,
    lengthBytes: ByteLength,
    target: Uint8Array,
    targetStart: number,
    completion: Completion,
  ): boolean {
    this.#check();
    return this.device.read(offset, lengthBytes, target, targetStart, completion);
  }

  write(
    offset: ByteOffset,
    lengthBytes: ByteLength,
    source: Uint8Array,
    sourceStart: number,
    forceUnitAccess: boolean,
    completion: Completion,
  ): void {
    this.#check();
    this.device.write(offset, lengthBytes, source, sourceStart, forceUnitAccess, completion);
  }

  openWrite(offset: ByteOffset, lengthBytes: ByteLength): PartialWrite {
    this.#check();
    return new GuardedWrite(this.device.openWrite(offset, lengthBytes), this.#guard);
  }

  update(
    offset: ByteOffset,
    lengthBytes: ByteLength,
    change: (bytes: Uint8Array) => boolean,
    forceUnitAccess: boolean,
    completion: Completion,
  ): void {
    this.#check();
    this.device.update(offset, lengthBytes, change, forceUnitAccess, completion);
  }

  trim(offset: ByteOffset, lengthBytes: ByteLength, forceUnitAccess: boolean, completion: Completion): void {
    this.#check();
    this.device.trim(offset, lengthBytes, forceUnitAccess, completion);
  }

  zeroIsFast(offset: ByteOffset, lengthBytes: ByteLength): boolean {
    return this.device.zeroIsFast(offset, lengthBytes);
  }

  zero(
    offset: ByteOffset,
    lengthBytes: ByteLength,
    mayPunch: boolean,
    forceUnitAccess: boolean,
    completion: Completion,
  ): void {
    this.#check();
    this.device.zero(offset, lengthBytes, mayPunch, forceUnitAccess, completion);
  }

  /** Never refused: what was acknowledged before may always be asked to be durable. */
  flush(completion: Completion): void {
    this.device.flush(completion);
  }

  cache(offset: ByteOffset, lengthBytes: ByteLength, completion: Completion): void {
    this.#check();
    this.device.cache(offset, lengthBytes, completion);
  }

  commit(): void {
    this.device.commit();
  }

  blockStatus(offset: ByteOffset, lengthBytes: ByteLength, extentsMax: number): Promise<BlockStatusExtent[]> {
    this.#check();
    return this.device.blockStatus(offset, lengthBytes, extentsMax);
  }

  get marks(): readonly BlockMark[] {
    return this.device.marks;
  }

  blockMarks(
    mark: BlockMark,
    offset: ByteOffset,
    lengthBytes: ByteLength,
    extentsMax: number,
  ): Promise<BlockMarkExtent[]> {
    this.#check();
    return this.device.blockMarks(mark, offset, lengthBytes, extentsMax);
  }

  #check(): void {
    const refusal = this.#guard();
    if (refusal !== undefined) throw refusal;
  }
}

class GuardedWrite implements PartialWrite {
  readonly #write: PartialWrite;
  readonly #guard: () => GatewayError | undefined;

  constructor(write: PartialWrite, guard: () => GatewayError | undefined) {
    this.#write = write;
    this.#guard = guard;
  }

  get remainingBytes(): ByteLength {
    return this.#write.remainingBytes;
  }

  fill(source: Uint8Array, start: number, end: number): void {
    this.#write.fill(source, start, end);
  }

  submit(forceUnitAccess: boolean, completion: Completion): void {
    const refusal = this.#guard();
    if (refusal === undefined) {
      this.#write.submit(forceUnitAccess, completion);
      return;
    }
    // A submit ends it either way.
    this.#write.abandon();
    throw refusal;
  }

  abandon(): void {
    this.#write.abandon();
  }
}
