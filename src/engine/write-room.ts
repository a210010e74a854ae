/**
 * The room that writes need: in the log, in memory for records, on the disk, and memory for payloads that are arriving or
 * wait to be appended (limits.heldWriteBytesMax). Who finds none waits, and is woken when there may be some.
 *
 * Reads and flushes need none. Trims and zeros take no disk space, and pass those that wait for it.
 */
import { limits } from '../base/limits.js';
import type { BlockWrite } from './partial-write.js';
import type { VolumeParts } from './volume-open.js';

export class WriteRoom {
  private readonly parts: Pick<VolumeParts, 'log' | 'overlay' | 'reclaimer'>;
  private readonly isWritable: () => boolean;
  private readonly waiting: (() => void)[] = [];
  private heldBytes = 0;

  constructor(parts: Pick<VolumeParts, 'log' | 'overlay' | 'reclaimer'>, isWritable: () => boolean) {
    this.parts = parts;
    this.isWritable = isWritable;
  }

  /** For any record. */
  get isThere(): boolean {
    return this.parts.log.hasRoom && !this.parts.overlay.isFull && this.parts.reclaimer.stalled === undefined;
  }

  /** Disk space is missing: for trims and zeros only, which may be what frees it. */
  get isForZerosOnly(): boolean {
    const { reclaimer, log, overlay } = this.parts;
    return reclaimer.stalled !== undefined && log.hasRoomForZeros && !overlay.isFull;
  }

  /** For another payload. */
  get hasMemory(): boolean {
    return this.heldBytes < limits.heldWriteBytesMax;
  }

  /** Takes a write's memory, until it is `released`. */
  hold(write: BlockWrite): void {
    this.heldBytes += write.heldBytes;
  }

  readonly released = (write: BlockWrite): void => {
    const wasFull = this.heldBytes >= limits.heldWriteBytesMax;
    this.heldBytes -= write.heldBytes;
    // At the end of the turn: whoever waits goes on by opening the next write.
    if (wasFull && this.hasMemory) queueMicrotask(() => this.isWritable() && this.wake());
  };

  /** Once, and then perhaps in vain. */
  onceWoken(listener: () => void): void {
    this.waiting.push(listener);
  }

  wake(): void {
    for (const listener of this.waiting.splice(0)) listener();
  }
}
