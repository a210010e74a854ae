import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { GIB } from '../../../src/base/units.js';
import { DrainOperation } from '../../../src/gateway/drain-operation.js';
import type { Drainable } from '../../../src/gateway/drain-operation.js';
import { idleReplication, openingStatus } from '../../../src/gateway/volume-placeholder.js';
import type { ReplicationMode } from '../../../src/ports/replication.js';
import type { VolumeState, VolumeStatus } from '../../../src/ports/volume-status.js';
import { ManualClock } from '../../fake/clock.js';

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

class FakeVolume implements Drainable {
  readonly name = 'v';
  state: VolumeState = 'online';
  mode: ReplicationMode = 'draining';
  reason: string | undefined;
  replicatedLsn = 100;
  pendingBytes = 1000;
  asked: number | undefined;
  replicate!: { resolve: () => void; reject: (error: Error) => void };

  status(): VolumeStatus {
    const empty = openingStatus({ sizeBytes: GIB, bufferBytes: GIB } as Parameters<typeof openingStatus>[0]);
    return {
      ...empty,
      name: this.name,
      uuid: '',
      readOnly: false,
      clients: [],
      state: this.state,
      reason: this.reason,
      pendingBytes: this.pendingBytes,
      lsn: { ...empty.lsn, replicated: this.replicatedLsn },
      hydration: undefined,
      reservation: undefined,
      replication: { ...idleReplication, mode: this.mode, reason: this.reason },
    };
  }
  forceFlush(): Promise<number> {
    return Promise.resolve(200);
  }
  replicateTo(lsn: number): Promise<void> {
    this.asked = lsn;
    return new Promise((resolve, reject) => {
      this.replicate = { resolve, reject };
    });
  }
}

describe('a drain', () => {
  let volume: FakeVolume;
  let clock: ManualClock;
  let operation: DrainOperation;
  beforeEach(async () => {
    volume = new FakeVolume();
    clock = new ManualClock();
    operation = new DrainOperation({ id: 'op', volume, clock });
    await settled();
  });

  it('asks for what was durable when it began, and shows how far that is, whatever is written meanwhile', () => {
    assert.equal(volume.asked, 200);
    volume.replicatedLsn = 150;
    volume.pendingBytes = 9000;
    clock.advance(1000);
    assert.deepEqual(operation.report(), {
      id: 'op',
      kind: 'drain',
      volume: 'v',
      state: 'running',
      totalBytes: 1000,
      doneBytes: 500,
      bytesPerSecond: 500,
      reason: undefined,
    });
  });

  it('ends when the replicator says so', async () => {
    volume.replicate.resolve();
    await settled();
    assert.equal(operation.report().state, 'done');
    assert.equal(operation.report().doneBytes, 1000);
  });

  it('goes on, with the reason, while the store does not answer', () => {
    volume.mode = 'blocked';
    volume.reason = 'no route';
    const { state, reason } = operation.report();
    assert.deepEqual({ state, reason }, { state: 'running', reason: 'no route' });
  });

  it('fails when the replicator ends, and keeps that', async () => {
    volume.replicate.reject(new GatewayError('remote-ahead', 'the bucket is newer'));
    await settled();
    assert.equal(operation.report().state, 'failed');
    volume.reason = 'something else';
    assert.equal(operation.report().reason, 'the bucket is newer');
  });

  for (const state of ['fenced', 'failed'] as const) {
    it(`fails once the volume is ${state}`, () => {
      volume.state = state;
      volume.reason = 'because';
      const report = operation.report();
      assert.deepEqual([report.state, report.reason], ['failed', 'because']);
    });
  }
});
