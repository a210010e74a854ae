/**
 * An initiator's view of a logical unit: the unit attention conditions that it has not been told yet (SAM-5 5.14), and
 * the capacity it knows.
 */
import type { ByteLength } from '../base/units.js';
import { sense } from './sense.js';
import type { Sense } from './sense.js';

/** All conditions that there are; each is pending at most once. */
const ATTENTIONS_MAX = 16;

export class Nexus {
  /** The name of the initiator port, by which registrations know it (transport-id.ts). */
  readonly initiatorPort: string;
  knownSizeBytes: ByteLength;
  /** What reservations deny it now: bits of `need` (reservation-type.ts). */
  denied = 0;
  readonly #attentions: Sense[] = [sense.powerOn];

  constructor(initiatorPort: string, sizeBytes: ByteLength) {
    this.initiatorPort = initiatorPort;
    this.knownSizeBytes = sizeBytes;
  }

  get hasAttention(): boolean {
    return this.#attentions.length > 0;
  }

  establish(what: Sense): void {
    // A reset makes everything older moot (SAM-5 5.14.1, precedence).
    if (what === sense.logicalUnitReset || what === sense.targetReset) this.#attentions.length = 0;
    if (this.#attentions.includes(what) || this.#attentions.length >= ATTENTIONS_MAX) return;
    this.#attentions.push(what);
  }

  /** The oldest condition, which is thereby told. */
  takeAttention(): Sense | undefined {
    return this.#attentions.shift();
  }
}
