/** Tells the gateway which snapshots there are in a volume's committed history, once the bucket was read, and whenever they change. */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES } from '../base/units.js';
import type { Lsn } from '../base/units.js';
import type { Clock } from '../ports/clock.js';
import type { Log } from '../ports/log.js';
import type { BookKeeper } from './book-keeper.js';
import type { FromReplicator } from './replication-messages.js';
import type { RemoteBook } from './remote-map-book.js';
import { MapDoubtError } from './remote-map-header.js';
import type { Incarnation } from './replicator-incarnation.js';
import type { Snapshot } from './snapshots.js';

/** The bucket could not be read. */
const AGAIN_MS = 5000;

export interface SnapshotNewsOptions {
  readonly keeper: BookKeeper;
  readonly clock: Clock;
  readonly incarnation: Incarnation;
  readonly log: Log;
  readonly emit: (message: FromReplicator) => void;
  /** A broken invariant. */
  readonly failed: (error: unknown) => void;
}

export class SnapshotNews {
  readonly #options: SnapshotNewsOptions;
  #told: readonly Snapshot[] | undefined;
  #throughLsn: Lsn = 0;
  #exclusive: ReadonlyMap<number, number> = new Map();

  constructor(options: SnapshotNewsOptions) {
    this.#options = options;
  }

  /** Reads the bucket until that succeeded once. */
  begin(): void {
    void this.#first().catch((error: unknown) => this.#options.failed(error));
  }

  tell({ snapshots, position }: RemoteBook): void {
    // A book that is made again passes through what was told before.
    if (snapshots === this.#told || position.lsn < this.#throughLsn) return;
    this.#told = snapshots;
    this.#throughLsn = position.lsn;
    this.#emit(snapshots);
  }

  /** What each snapshot alone keeps in the bucket, by the segment numbers of their points. */
  weighed(bytes: ReadonlyMap<number, number>): void {
    const same = [...bytes].every(([number, weight]) => this.#exclusive.get(number) === weight);
    if (same && bytes.size === this.#exclusive.size) return;
    this.#exclusive = bytes;
    if (this.#told !== undefined && this.#told.length > 0) this.#emit(this.#told);
  }

  #emit(snapshots: readonly Snapshot[]): void {
    this.#options.emit({
      type: 'snapshots',
      throughLsn: this.#throughLsn,
      snapshots: snapshots.map(({ name, lsn, point, sizeBytes, root }) => ({
        name,
        lsn,
        pointLsn: point.lsn,
        wallMs: point.wallMs,
        sizeBytes,
        referencedBytes: root === undefined ? undefined : root.mappedBlocks * BLOCK_BYTES,
        exclusiveBytes: this.#exclusive.get(point.number),
      })),
    });
  }

  async #first(): Promise<void> {
    const { keeper, clock, incarnation, log } = this.#options;
    const stopped = (): boolean => incarnation.stopped;
    while (this.#told === undefined && !stopped()) {
      try {
        await keeper.use((book) => {
          this.tell(book);
          return Promise.resolve();
        });
      } catch (error) {
        if (stopped()) return;
        if (!(error instanceof GatewayError) && !(error instanceof MapDoubtError)) throw error;
        log.warn(`the list of snapshots cannot be read, and is tried again: ${error.message}`);
        await clock.sleep(AGAIN_MS, incarnation.signal).catch(() => undefined);
      }
    }
  }
}
