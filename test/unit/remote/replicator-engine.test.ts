import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LogReader } from '../../../src/engine/log-reader.js';
import { LOG_DIRECTORY, readIdentity } from '../../../src/engine/volume-directory-format.js';
import type { FromReplicator, ReplicationConfig } from '../../../src/remote/replication-messages.js';
import { ReplicationWorkerCore } from '../../../src/remote/replication-worker-core.js';
import { ObservedStore, StoreCounters } from '../../../src/remote/store-observe.js';
import { plainChecksums } from '../../fake/checksums.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryStore } from '../../fake/memory-store.js';
import { SeededRandom } from '../../fake/random.js';
import { remoteImage, testMaster } from '../../fake/replication-rig.js';
import { MIB, settle, VolumeHarness } from '../engine/volume-harness.js';

interface Change {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** A real volume, its log, and its replicator, on one simulated disk and store. */
class EngineRig {
  readonly harness: VolumeHarness;
  readonly store = new MemoryStore();
  /** Every operation of all lives that the local volume still has. */
  history: Change[] = [];
  messages: FromReplicator[] = [];
  core: ReplicationWorkerCore | undefined;
  uuid = '';

  constructor(seed: number) {
    this.harness = new VolumeHarness(seed);
    this.harness.overrides = { replicated: true };
  }

  async replicate(): Promise<void> {
    const { harness } = this;
    const { disk, clock, volume } = harness;
    this.uuid = (await readIdentity(disk))!.uuid;
    const counters = new StoreCounters();
    const messages: FromReplicator[] = [];
    this.messages = messages;
    const core = new ReplicationWorkerCore({
      store: new ObservedStore(this.store, { clock, counters }),
      counters,
      disk,
      source: new LogReader({ disk, checksums: plainChecksums, directory: LOG_DIRECTORY }),
      checksums: plainChecksums,
      clock,
      random: harness.random.fork(),
      log: new RecordedLog(),
      emit: (message) => {
        messages.push(message);
        if (message.type === 'state' || message.type === 'fenced') volume.replicated(message.state);
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
      owner: 'test',
    };
    core.receive({ type: 'start', config, replication: volume.replicationState(), durable: volume.durableState() });
    volume.onDurable((durable) => core.receive({ type: 'durable', durable }));
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

  /** Every replicated byte is a state that the volume has been in, and that it did not lose. */
  async assertRemoteIsPrefix(least = 0): Promise<number> {
    const { image } = await remoteImage(this.store, this.uuid, this.harness.sizeBytes);
    const changes = [...this.history, ...this.harness.operations];
    for (let count = changes.length; count >= least; count--) {
      const content = new Uint8Array(this.harness.sizeBytes);
      for (const { offset, bytes } of changes.slice(0, count)) content.set(bytes, offset);
      if (Buffer.compare(content, image) === 0) return count;
    }
    return assert.fail(`the bucket shows no prefix of at least ${least} of ${changes.length} operations`);
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
    await harness.open();
    const before = [...harness.operations];
    const kept = await harness.expectPrefix(how === 'killed' ? harness.acknowledged : harness.flushed);
    this.history.push(...before.slice(0, kept));
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

describe('replicator on the real engine', () => {
  it('keeps the bucket at a prefix that the volume does not lose, over kills and power losses', async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const random = new SeededRandom(seed);
      const rig = new EngineRig(seed);
      await rig.harness.create();
      await rig.replicate();
      for (let life = 0; life < 6; life++) {
        rig.store.fault = () => {
          const fate = random.fraction();
          return fate < 0.06
            ? { failAfter: 'store-unreachable' }
            : fate < 0.12
              ? { failBefore: 'store-failed' }
              : undefined;
        };
        for (let change = random.below(60); change >= 0; change--) {
          await rig.change(random);
          if (random.fraction() < 0.1) rig.harness.clock.advance(random.below(700));
        }
        if (random.fraction() < 0.5) await settle();
        await rig.die(random.fraction() < 0.5 ? 'killed' : 'power loss', random);
        rig.store.fault = () => undefined;
        if (rig.store.keys(`${rig.uuid}/volume`).length > 0) await rig.assertRemoteIsPrefix();
        await rig.replicate();
        if (random.fraction() < 0.3) {
          await rig.drain();
          await rig.assertRemoteIsPrefix(rig.history.length);
        }
      }
      await rig.drain();
      await rig.assertRemoteIsPrefix(rig.history.length + rig.harness.operations.length);
      assert.ok(!rig.messages.some(({ type }) => type === 'fatal' || type === 'fenced'));
      rig.core!.receive({ type: 'stop' });
      await rig.harness.volume.close();
    }
  });

  it('lets log space go as it drains', async () => {
    const random = new SeededRandom(40);
    const rig = new EngineRig(40);
    await rig.harness.create();
    await rig.replicate();
    for (let round = 0; round < 60; round++) {
      await rig.harness.write((round % 2) * MIB, new Uint8Array(MIB).fill(1 + random.below(255)));
      if (round % 8 === 7) await rig.drain();
    }
    await rig.drain();
    await rig.assertRemoteIsPrefix(60);
    assert.equal(rig.harness.volume.status().pendingBytes, 0);
    rig.core!.receive({ type: 'stop' });
    await rig.harness.volume.close();
  });
});
