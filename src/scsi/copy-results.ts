/**
 * What the copies of each initiator did, kept for RECEIVE COPY RESULTS (SPC-4 6.18) under the identifiers that the
 * initiator gave them: until it gives an identifier again or was told why that copy failed, and no longer than its
 * session or until a reset. There are 256 identifiers, which bounds it.
 */
import { assert } from '../base/assert.js';
import type { Nexus } from './nexus.js';
import type { Sense } from './sense.js';

/** How far a copy is. */
export interface CopyProgress {
  /** Complete segments. */
  readonly segmentsDone: number;
  readonly copiedBytes: number;
}

export interface CopyRecord {
  readonly operation: CopyProgress;
  isRunning: boolean;
  failure: Sense | undefined;
}

export class CopyResults {
  #byNexus = new WeakMap<Nexus, Map<number, CopyRecord>>();
  #running = 0;

  /** Copies of all initiators that are under way. */
  get running(): number {
    return this.#running;
  }

  find(nexus: Nexus, listId: number): CopyRecord | undefined {
    return this.#byNexus.get(nexus)?.get(listId);
  }

  /** `listId` undefined: it only counts. The record is kept up by `ended`. */
  begun(nexus: Nexus, listId: number | undefined, operation: CopyProgress): CopyRecord {
    const record: CopyRecord = { operation, isRunning: true, failure: undefined };
    this.#running++;
    if (listId === undefined) return record;
    const records = this.#byNexus.get(nexus) ?? new Map<number, CopyRecord>();
    this.#byNexus.set(nexus, records.set(listId, record));
    return record;
  }

  ended(record: CopyRecord, failure: Sense | undefined): void {
    assert(record.isRunning, 'a copy ends once');
    record.isRunning = false;
    record.failure = failure;
    this.#running--;
  }

  /** Nobody asks for it any more. */
  forget(nexus: Nexus, listId: number): void {
    this.#byNexus.get(nexus)?.delete(listId);
  }

  /** What runs goes on, if the reset did not abort it; nobody is told of it. */
  reset(): void {
    this.#byNexus = new WeakMap();
  }
}
