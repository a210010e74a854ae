/**
 * Reads a range of the medium in pieces, each of which the volume checks against its checksums, compares it with what
 * it should be where that is given, and ends the command: MISCOMPARE names the first byte that differs.
 *
 * Pieces are read one after another with a turn of the event loop in between, so that a long range keeps nobody waiting.
 */
import type { GatewayError } from '../base/errors.js';
import { KIB } from '../base/units.js';
import type { BlockDevice, Completion } from '../ports/block-device.js';
import { miscompareAt } from './sense.js';
import type { ScsiTask } from './task.js';
import { goOn } from './task-turn.js';

const PIECE_BYTES = 64 * KIB;

export class MediumComparison implements Completion {
  readonly #device: BlockDevice;
  readonly #task: ScsiTask;
  /** The content of the range, or of each of its blocks; undefined: it only has to be readable. */
  readonly #expected: Uint8Array | undefined;
  readonly #lengthBytes: number;
  readonly #piece: Uint8Array;
  #compared = 0;

  /** Of the task's range its first `lengthBytes`. */
  constructor(device: BlockDevice, task: ScsiTask, expected: Uint8Array | undefined, lengthBytes: number) {
    this.#device = device;
    this.#task = task;
    this.#expected = expected;
    this.#lengthBytes = lengthBytes;
    this.#piece = new Uint8Array(Math.min(PIECE_BYTES, lengthBytes));
  }

  /** Begins, and goes on; ScsiTask.done follows, never from inside the call. */
  start(): void {
    setImmediate(() => goOn(this.#task, () => this.#next()));
  }

  done(error: GatewayError | undefined): void {
    if (error === undefined) this.#compare();
    else this.#task.done(error);
  }

  get #pieceBytes(): number {
    return Math.min(this.#piece.length, this.#lengthBytes - this.#compared);
  }

  #next(): void {
    const offset = this.#task.offset + this.#compared;
    if (this.#compared === this.#lengthBytes) this.#task.done(undefined);
    else if (this.#device.read(offset, this.#pieceBytes, this.#piece, 0, this)) this.#compare();
  }

  #compare(): void {
    const pieceBytes = this.#pieceBytes;
    if (this.#expected !== undefined) {
      const at = this.#firstDifference(this.#expected, pieceBytes);
      if (at !== pieceBytes) {
        this.#task.fail(miscompareAt(this.#compared + at));
        this.#task.done(undefined);
        return;
      }
    }
    this.#compared += pieceBytes;
    this.start();
  }

  #firstDifference(expected: Uint8Array, pieceBytes: number): number {
    for (let at = 0; at < pieceBytes;) {
      const from = (this.#compared + at) % expected.length;
      const run = Math.min(pieceBytes - at, expected.length - from);
      const same = equalBytesBefore(this.#piece.subarray(at, at + run), expected.subarray(from, from + run));
      if (same !== run) return at + same;
      at += run;
    }
    return pieceBytes;
  }
}

/** How many bytes are equal before the first that differs. */
export function equalBytesBefore(left: Uint8Array, right: Uint8Array): number {
  if (Buffer.compare(left, right) === 0) return left.length;
  let at = 0;
  while (left[at] === right[at]) at++;
  return at;
}
