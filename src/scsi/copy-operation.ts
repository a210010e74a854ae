/**
 * EXTENDED COPY while it runs: segments one after another, each in pieces that are read whole and then written whole, so
 * that a copy takes one buffer whatever its length, and ends soon after it was aborted. Pieces go in the direction in
 * which a destination that overlaps its source never covers what is still to be read.
 *
 * A failure leaves the segments before it copied, and its own in part; it names the segment (SPC-4 6.3, 6.18.5).
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { LOGICAL_BLOCK_BYTES } from '../base/units.js';
import type { Completion } from '../ports/block-device.js';
import type { UnitContext } from './command.js';
import type { Segment } from './copy-descriptor.js';
import type { CopyProgress } from './copy-results.js';
import { errorSense } from './error-sense.js';
import { isInRange } from './medium-command.js';
import { sense, senseKey, scsiStatus } from './sense.js';
import type { Sense } from './sense.js';
import type { ScsiTask } from './task.js';

export class CopyOperation implements Completion, CopyProgress {
  /** Complete ones. */
  segmentsDone = 0;
  copiedBytes = 0;
  readonly #unit: UnitContext;
  readonly #task: ScsiTask;
  readonly #segments: readonly Segment[];
  readonly #onEnd: (failure: Sense | undefined) => void;
  readonly #buffer: Uint8Array;
  /** Of the segment under way. */
  #doneInSegment = 0;
  #pieceBytes = 0;
  #isRead = false;
  #to = 0;

  /** `onEnd` is told before the task is: undefined, or what it failed with. */
  constructor(
    unit: UnitContext,
    task: ScsiTask,
    segments: readonly Segment[],
    onEnd: (failure: Sense | undefined) => void,
  ) {
    this.#unit = unit;
    this.#task = task;
    this.#segments = segments;
    this.#onEnd = onEnd;
    const longest = Math.max(0, ...segments.map(({ blocks }) => blocks * LOGICAL_BLOCK_BYTES));
    this.#buffer = new Uint8Array(Math.min(limits.recordBytesMax, longest));
  }

  /** ScsiTask.done follows, never from inside the call. */
  start(): void {
    setImmediate(() => this.#goOn(() => this.#step()));
  }

  done(error: GatewayError | undefined): void {
    if (error !== undefined) {
      this.#fail(errorSense[error.code]);
    } else if (this.#isRead) {
      this.#doneInSegment += this.#pieceBytes;
      this.copiedBytes += this.#pieceBytes;
      this.start();
    } else {
      this.#isRead = true;
      this.#goOn(() => this.#write());
    }
  }

  #goOn(work: () => void): void {
    if (this.#task.aborted) {
      this.#end(sense.copyAborted);
      return;
    }
    // Reserved meanwhile: others may write already.
    if (this.#task.isKeptFromWriting) {
      this.#fail(sense.reservationConflict);
      return;
    }
    try {
      work();
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      this.#fail(errorSense[error.code]);
    }
  }

  /** The next piece; skips what is complete. */
  #step(): void {
    for (;;) {
      const segment = this.#segments[this.segmentsDone];
      if (segment === undefined) {
        this.#end(undefined);
        return;
      }
      const { blocks, fromLba, toLba } = segment;
      const inRange = isInRange(this.#unit, fromLba, blocks) && isInRange(this.#unit, toLba, blocks);
      const problem = segment.problem ?? (inRange ? undefined : sense.copyAborted);
      if (problem !== undefined) {
        this.#fail(problem);
        return;
      }
      const leftBytes = blocks * LOGICAL_BLOCK_BYTES - this.#doneInSegment;
      if (leftBytes > 0) {
        this.#read(segment, leftBytes);
        return;
      }
      this.#doneInSegment = 0;
      this.segmentsDone++;
    }
  }

  #read({ fromLba, toLba }: Segment, leftBytes: number): void {
    this.#pieceBytes = Math.min(this.#buffer.length, leftBytes);
    const at = toLba > fromLba ? leftBytes - this.#pieceBytes : this.#doneInSegment;
    this.#to = toLba * LOGICAL_BLOCK_BYTES + at;
    this.#isRead = this.#unit.device.read(fromLba * LOGICAL_BLOCK_BYTES + at, this.#pieceBytes, this.#buffer, 0, this);
    if (this.#isRead) this.#write();
  }

  /** Zeros take no space at their destination either. */
  #write(): void {
    const { device, modes } = this.#unit;
    const piece = this.#buffer.subarray(0, this.#pieceBytes);
    const isZero = piece[0] === 0 && Buffer.compare(piece.subarray(1), piece.subarray(0, -1)) === 0;
    if (!(isZero ? device.zeroable : device.writable)) {
      device.onceWritable(() => this.#goOn(() => this.#write()));
      return;
    }
    if (isZero) device.trim(this.#to, piece.length, !modes.writeCacheEnabled, this);
    else device.write(this.#to, piece.length, piece, 0, !modes.writeCacheEnabled, this);
  }

  /** COPY ABORTED, which segment it was, and what is wrong with it (SPC-4 6.3). */
  #fail(what: Sense): void {
    const isCheck = what.status === scsiStatus.checkCondition;
    const told = isCheck ? { ...what, key: senseKey.copyAborted, commandInformation: this.segmentsDone } : what;
    this.#task.fail(told);
    this.#end(told);
  }

  #end(failure: Sense | undefined): void {
    this.#onEnd(failure);
    this.#task.done(undefined);
  }
}
