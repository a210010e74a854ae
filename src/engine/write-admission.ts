/**
 * The way of writes that cannot go straight into the batch being staged: payloads that came in pieces, edges to merge,
 * blocks that are locked, or no room in the log. They wait here in order of arrival and are appended piece by piece.
 */
import type { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, type BlockNumber } from '../base/units.js';
import type { Completion } from '../ports/block-device.js';
import type { BlockLocks } from './block-lock.js';
import type { BlockReader } from './block-reader.js';
import type { Log } from './log.js';
import type { BlockWrite } from './partial-write.js';

/** One request of the queue: `append` is called again and again, while there is room, until it says that it is through. */
interface Waiting {
  readonly append: () => boolean;
  readonly fail: (error: GatewayError) => void;
}

export class WriteAdmission {
  private readonly log: Log;
  private readonly locks: BlockLocks;
  private readonly reader: BlockReader;
  private readonly hasRoom: () => boolean;
  private readonly onQueued: () => void;
  private readonly queue: Waiting[] = [];
  /** Set when nothing more may be appended: what is still being merged fails when it arrives. */
  private refusal: GatewayError | undefined;
  private readonly scratch = new Uint8Array(BLOCK_BYTES);

  constructor(options: {
    readonly log: Log;
    readonly locks: BlockLocks;
    readonly reader: BlockReader;
    readonly hasRoom: () => boolean;
    /** Something was queued or appended, perhaps long after its request's turn: it wants to be committed and acknowledged. */
    readonly onQueued: () => void;
  }) {
    this.log = options.log;
    this.locks = options.locks;
    this.reader = options.reader;
    this.hasRoom = options.hasRoom;
    this.onQueued = options.onQueued;
  }

  get isEmpty(): boolean {
    return this.queue.length === 0;
  }

  /** Takes a submitted write through merge and append to its completion. */
  write(write: BlockWrite): void {
    this.locks.whenFree(write, () => {
      if (write.edges.length === 0) {
        this.enqueueWrite(write);
        return;
      }
      // What is staged but not yet written must be seen by the merge.
      this.log.commit();
      if (write.edges.every((block) => this.mergeNow(write, block))) this.enqueueWrite(write);
      else void this.mergeSlowly(write);
    });
  }

  /** Reads what the write covers, under its lock, and appends what `change` makes of it, or nothing. */
  update(write: BlockWrite, change: (bytes: Uint8Array) => boolean): void {
    this.locks.whenFree(write, () => {
      this.log.commit();
      void this.readAndChange(write, change);
    });
  }

  /** Appends a trim or zero record over whole blocks once they are free and there is room, or at once where it `mayPass`. */
  record(
    kind: 'trim' | 'zero',
    first: BlockNumber,
    count: number,
    keepAllocated: boolean,
    durable: boolean,
    completion: Completion,
    mayPass: () => boolean,
  ): void {
    const range = { firstBlock: first, endBlock: first + count };
    this.locks.whenFree(range, () => {
      const append = (): boolean => {
        this.log.stageRecord(kind, first, count, keepAllocated, durable, completion);
        this.locks.unlock(range);
        return true;
      };
      if (mayPass() && this.refusal === undefined) {
        append();
        this.onQueued();
        return;
      }
      this.enqueue({
        append,
        fail: (error) => {
          this.locks.unlock(range);
          completion.done(error);
        },
      });
    });
  }

  /** There may be room: appends what waits. */
  pump(): void {
    while (this.queue.length > 0 && this.hasRoom()) {
      const entry = this.queue[0];
      if (entry?.append() !== false) this.queue.shift();
    }
  }

  /** Fails everything that waits; its buffers are given back. */
  failAll(error: GatewayError): void {
    // Those that waited for one of them follow it into the queue, and out of it.
    for (let entry = this.queue.shift(); entry !== undefined; entry = this.queue.shift()) entry.fail(error);
  }

  /** Fails what waits, and whatever comes later. */
  close(error: GatewayError): void {
    this.refusal = error;
    this.failAll(error);
  }

  private enqueueWrite(write: BlockWrite): void {
    let next = 0;
    const end = (): void => {
      write.release();
      this.locks.unlock(write);
    };
    this.enqueue({
      append: () => {
        const piece = write.pieces[next++];
        const last = next === write.pieces.length;
        if (piece === undefined) return true;
        const completion = last ? write.completion : undefined;
        this.log.appendWrite(
          piece.first,
          piece.count,
          piece.bytes,
          piece.sums,
          last && write.forceUnitAccess,
          completion,
        );
        if (last) end();
        return last;
      },
      fail: (error) => {
        end();
        write.completion?.done(error);
      },
    });
  }

  private enqueue(entry: Waiting): void {
    const { refusal } = this;
    if (refusal !== undefined) {
      queueMicrotask(() => entry.fail(refusal));
      return;
    }
    this.queue.push(entry);
    if (this.queue.length === 1) this.pump();
    this.onQueued();
  }

  private mergeNow(write: BlockWrite, block: BlockNumber): boolean {
    if (!this.reader.readNow(block, 1, this.scratch, 0)) return false;
    write.merge(block, this.scratch);
    return true;
  }

  private async readAndChange(write: BlockWrite, change: (bytes: Uint8Array) => boolean): Promise<void> {
    try {
      for (const { first, count, bytes } of write.pieces) await this.reader.read(first, count, bytes, 0);
    } catch (error) {
      this.over(write, error as GatewayError);
      return;
    }
    if (write.change(change)) this.enqueueWrite(write);
    else this.over(write, undefined);
  }

  /** Ends a write of which nothing is in the log. */
  private over(write: BlockWrite, error: GatewayError | undefined): void {
    write.release();
    this.locks.unlock(write);
    write.completion?.done(error);
  }

  private async mergeSlowly(write: BlockWrite): Promise<void> {
    const old = new Uint8Array(BLOCK_BYTES);
    try {
      for (const block of write.edges) {
        await this.reader.read(block, 1, old, 0);
        write.merge(block, old);
      }
    } catch (error) {
      this.over(write, error as GatewayError);
      return;
    }
    this.enqueueWrite(write);
  }
}
