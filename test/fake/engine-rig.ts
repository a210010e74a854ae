/** A real volume, its log, its replicator and the way back from the bucket, on one simulated disk and store. */
import assert from 'node:assert/strict';
import { LogReader } from '../../src/engine/log-reader.js';
import { LOG_DIRECTORY, readIdentity } from '../../src/engine/volume-directory-format.js';
import { FollowerLine } from '../../src/gateway/follower-line.js';
import { RemoteCopyLine } from '../../src/gateway/remote-copy-line.js';
import type { FromReplicator, ReplicationConfig, ToReplicator } from '../../src/remote/replication-messages.js';
import { answerRound } from '../../src/remote/round-answer.js';
import { NeighbourSurvey } from '../../src/remote/neighbours.js';
import { ReplicationWorkerCore } from '../../src/remote/replication-worker-core.js';
import { ObservedStore, StoreCounters } from '../../src/remote/store-observe.js';
import { plainChecksums } from './checksums.js';
import { RecordedLog } from './log.js';
import { MemoryStore } from './memory-store.js';
import { SeededRandom } from './random.js';
import { remoteImage, testMaster } from './replication-rig.js';
import { findPrefix } from '../unit/engine/operation.js';
import type { Operation } from '../unit/engine/operation.js';
import { settle, VolumeHarness } from '../unit/engine/volume-harness.js';

/** A real volume, its log, and its replicator, on one simulated disk and store. */
export class EngineRig {
  readonly harness: VolumeHarness;
  readonly store = new MemoryStore();
  /** Every operation of all lives that the local volume still has. */
  history: Operation[] = [];
  messages: FromReplicator[] = [];
  core: ReplicationWorkerCore | undefined;
  uuid = '';
  readonly remoteCopy: RemoteCopyLine;
  follower = new FollowerLine();

  constructor(seed: number) {
    this.harness = new VolumeHarness(seed);
    this.remoteCopy = new RemoteCopyLine(this.harness.clock);
    this.harness.overrides = { replicated: true, remoteCopy: this.remoteCopy, follower: this.follower };
  }

  /** A buffer of 2 MiB that is let go when it is full. Before the volume is created. */
  track(): void {
    this.harness.overrides = { ...this.harness.overrides, whenFull: 'track', bufferBytes: 2 * 1024 * 1024 };
  }

  async replicate(): Promise<void> {
    const { harness } = this;
    const { disk, clock, volume } = harness;
    const { checksums = plainChecksums } = harness.overrides;
    this.uuid = (await readIdentity(disk))!.uuid;
    const counters = new StoreCounters();
    const messages: FromReplicator[] = [];
    this.messages = messages;
    const core = new ReplicationWorkerCore({
      store: new ObservedStore(this.store, { clock, counters }),
      counters,
      disk,
      source: new LogReader({ disk, checksums, directory: LOG_DIRECTORY }),
      checksums,
      clock,
      neighbours: new NeighbourSurvey(),
      random: harness.random.fork(),
      log: new RecordedLog(),
      emit: (message) => {
        messages.push(message);
        if (message.type === 'state' || message.type === 'fenced') volume.replication.heard(message.state);
        if (message.type === 'fetched') this.remoteCopy.answered(message);
        if (message.type === 'revoked') this.follower.revoked(message.id);
        if (message.type === 'round') {
          const { id, ask } = message;
          void answerRound(volume.replication.rounds, ask).then((answer) =>
            core.receive({ type: 'round', id, answer }),
          );
        }
      },
    });
    this.core = core;
    const config: ReplicationConfig = {
      name: 'disk0',
      uuid: this.uuid,
      createdSizeBytes: harness.sizeBytes,
      logicalBlockBytes: 512,
      masters: [testMaster()],
      intervalMs: 500,
      segmentBytes: 16 * 4096,
      fencing: 'auto',
      allowNew: false,
      compaction: true,
      owner: 'test',
    };
    const line = { send: (message: ToReplicator): void => core.receive(message) };
    this.follower.start(line, volume, () => {
      core.receive({
        type: 'start',
        config,
        replication: volume.replication.state,
        durable: volume.replication.durableState(),
      });
    });
    volume.replication.onDurable((durable) => core.receive({ type: 'durable', durable }));
    this.remoteCopy.connect((message) => core.receive(message));
  }

  async change(random: SeededRandom): Promise<void> {
    const { harness } = this;
    const offset = random.below(harness.sizeBytes - 40_000);
    const kind = random.fraction();
    if (kind < 0.2) await harness.zero(offset, 1 + random.below(30_000), random.fraction() < 0.5);
    else if (kind < 0.3) await harness.flush();
    else {
      const length = 1 + random.below(random.fraction() < 0.3 ? 30_000 : 600);
      await harness.write(offset, new Uint8Array(length).fill(1 + random.below(255)), random.fraction() < 0.1);
    }
  }

  /** Every replicated byte is a state that the volume has been in, and that it did not lose. Returns how much of it is there. */
  async assertRemoteIsPrefix(least = 0): Promise<number> {
    const { sizeBytes, operations } = this.harness;
    const { image } = await remoteImage(this.store, this.uuid, sizeBytes);
    const changes = [...this.history, ...operations];
    const kept = findPrefix(new Uint8Array(sizeBytes), changes, least, image);
    return (
      kept?.length ?? assert.fail(`the bucket shows no prefix of at least ${least} of ${changes.length} operations`)
    );
  }

  async die(how: 'killed' | 'power loss', random: SeededRandom): Promise<void> {
    const { harness } = this;
    this.core?.receive({ type: 'stop' });
    this.core = undefined;
    if (how === 'killed') harness.disk.kill();
    else {
      harness.disk.crash(random);
      harness.bootId = harness.random.uuid();
    }
    await settle();
    this.follower = new FollowerLine();
    harness.overrides = { ...harness.overrides, follower: this.follower };
    await harness.open();
    const kept = await harness.expectPrefix(how === 'killed' ? harness.acknowledged : harness.flushed);
    this.history.push(...kept);
  }

  async until(condition: () => boolean): Promise<void> {
    for (let round = 0; round < 2000; round++) {
      if (condition()) return;
      await settle();
      this.harness.clock.advance(20);
    }
    const end = this.messages.find(({ type }) => type === 'fatal' || type === 'fenced');
    assert.fail(`waited in vain; ${JSON.stringify(end)}; ${String(this.harness.fatal)}`);
  }

  async drain(): Promise<void> {
    const lsn = await this.harness.volume.forceFlush();
    this.core!.receive({ type: 'drain', id: lsn, lsn });
    await this.until(() => this.messages.some((message) => message.type === 'drained' && message.id === lsn));
  }
}
