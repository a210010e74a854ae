/** A broken invariant. The composition root ends the process on it: going on could expose or destroy data. */
export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

/** Stays on in production. `message` is a constant sentence, so that a passing check builds no string. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/** Marks a switch as exhaustive: the compiler refuses a case that was forgotten. */
export function assertNever(value: never): never {
  throw new InvariantError(`unexpected value ${String(value)}`);
}
