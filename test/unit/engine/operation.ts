/** What was asked of a volume, as the model of a test keeps it. */
import { BLOCK_BYTES } from '../../../src/base/units.js';

export interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** The records that an operation becomes. What was not flushed may lose any of them to a power cut, not all or none. */
export type Operation = readonly Piece[];

/** Zeros: a record for the whole blocks, and a small write for what is left at each end. */
export function zeroOperation(offset: number, length: number): Operation {
  const end = offset + length;
  const first = Math.ceil(offset / BLOCK_BYTES) * BLOCK_BYTES;
  const last = Math.floor(end / BLOCK_BYTES) * BLOCK_BYTES;
  const cuts = first >= last ? [offset, end] : [offset, first, last, end];
  return cuts
    .slice(1)
    .map((to, index) => ({ offset: cuts[index]!, bytes: new Uint8Array(to - cuts[index]!) }))
    .filter(({ bytes }) => bytes.length > 0);
}

export function apply(content: Uint8Array, operations: readonly Operation[]): void {
  for (const operation of operations) for (const { offset, bytes } of operation) content.set(bytes, offset);
}

/**
 * The longest history of at least `least` operations, and perhaps records of the one behind them, that makes `found` of
 * `base`; undefined: there is none.
 */
export function findPrefix(
  base: Uint8Array,
  operations: readonly Operation[],
  least: number,
  found: Uint8Array,
): readonly Operation[] | undefined {
  for (let count = operations.length; count >= least; count--) {
    const kept = operations.slice(0, count);
    for (const some of someOf(operations[count] ?? [])) {
      const history = some.length > 0 ? [...kept, some] : kept;
      const content = base.slice();
      apply(content, history);
      if (Buffer.compare(content, found) === 0) return history;
    }
  }
  return undefined;
}

/** Some of an operation's records, not all of them: without any first. */
function someOf(operation: Operation): Operation[] {
  const subsets = Math.max(1, 2 ** operation.length - 1);
  return Array.from({ length: subsets }, (_, subset) => operation.filter((_, piece) => (subset >> piece) & 1));
}
