/**
 * What the log has behind the newest committed group, durable or not: blocks that a compaction must not take from the image, which may
 * have them already. What the image holds beyond the newest committed group is in the log, because log space goes only after
 * the bucket has it (P4).
 */
import type { Lsn } from '../base/units.js';
import { Overlay } from '../engine/overlay.js';
import type { LogCursor } from '../ports/replication.js';
import type { LogSource } from './group-collector.js';

/** What the local copy is, from when its blocks are read. */
export interface LocalCopy {
  readonly source: LogSource;
  /** Behind the newest committed group; the log still has everything from here on. */
  readonly cursor: LogCursor;
  /** Asked before anything is read. */
  readonly destagedLsn: () => Lsn;
  /** Asked when everything was read: the log is longer. */
  readonly durableLsn: () => Lsn;
}

/** Beyond, the log is not walked: everything comes from the bucket. */
const BATCHES_MAX = 16_384;

export class PendingLog {
  /** Records that so many batches had where the walk was last given up. */
  #recordsMax = Infinity;

  /** Whether a walk would be given up again, by all that is known: not worth a look at the image either. */
  isTooLong({ cursor, durableLsn }: LocalCopy): boolean {
    return durableLsn() - cursor.lsn >= this.#recordsMax;
  }

  /** Every block that the log touches behind `cursor`; undefined: it cannot be told. */
  async blocks({ source, cursor, durableLsn }: LocalCopy): Promise<Overlay | undefined> {
    const overlay = new Overlay();
    let at = cursor;
    for (let batches = 0; batches < BATCHES_MAX; batches++) {
      const batch = await source.next(at);
      // An end before what is durable is none: a page could not be read.
      if (batch === undefined) {
        this.#recordsMax = Infinity;
        return at.lsn > durableLsn() ? overlay : undefined;
      }
      overlay.replay(batch);
      at = batch.next;
    }
    this.#recordsMax = at.lsn - cursor.lsn;
    return undefined;
  }
}
