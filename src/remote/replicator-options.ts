/** What a life of the replicator is given. */
import type { Checksums } from '../ports/checksum.js';
import type { Clock } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { FrameCipher } from '../ports/frame-cipher.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import type { DurableState, ReplicationState } from '../ports/replication.js';
import type { LogSource } from './group-collector.js';
import type { NeighbourSurvey } from './neighbours.js';
import type { FromReplicator, ReplicationConfig } from './replication-messages.js';
import type { RoundLink } from './round-link.js';
import type { StoreCounters } from './store-observe.js';

export interface ReplicatorPorts {
  readonly store: ObjectStore;
  /** Of the observing decorator inside `store`; retries are the replicator's own business. */
  readonly counters: StoreCounters;
  /** Rooted at the volume's directory. */
  readonly disk: Disk;
  readonly source: LogSource;
  readonly checksums: Checksums;
  readonly clock: Clock;
  readonly random: Random;
  /** Of what is sealed; default: node:crypto. */
  readonly cipher?: FrameCipher | undefined;
  /** Shared by the volumes of a gateway. */
  readonly neighbours: NeighbourSurvey;
  readonly log: Log;
}

export interface ReplicatorOptions extends ReplicatorPorts {
  readonly config: ReplicationConfig;
  readonly replication: ReplicationState;
  readonly durable: DurableState;
  readonly emit: (message: FromReplicator) => void;
  readonly rounds: RoundLink;
  /** This life is to own the remote volume although the directory was fenced; answered with `tookOver` of this id. */
  readonly takeOver?: number;
}
