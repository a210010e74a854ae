/** The machine's randomness: the Random port over node:crypto. */
import { randomBytes, randomInt, randomUUID } from 'node:crypto';
import type { Random } from '../ports/random.js';

const steps = 2 ** 47;

export class SystemRandom implements Random {
  bytes(count: number): Uint8Array {
    return randomBytes(count);
  }

  fraction(): number {
    return randomInt(steps) / steps;
  }

  uuid(): string {
    return randomUUID();
  }
}
