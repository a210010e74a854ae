/** A volume on a MemoryDisk with a byte-exact model of every operation beside it. */
import assert from 'node:assert/strict';

import type { GatewayError } from '../../../src/base/errors.js';
import { createHydrating } from '../../../src/engine/hydration-open.js';
import { Volume } from '../../../src/engine/volume.js';
import { createVolume } from '../../../src/engine/volume-directory-format.js';
import type { VolumeOptions } from '../../../src/engine/volume-open.js';
import { plainChecksums } from '../../fake/checksums.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { SeededRandom } from '../../fake/random.js';
import { apply, findPrefix, zeroOperation } from './operation.js';
import type { Operation } from './operation.js';

export const MIB = 1024 * 1024;

/** Lets everything that is ready run: microtasks, and what they queue. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}

export class VolumeHarness {
  readonly disk = new MemoryDisk();
  readonly clock = new ManualClock();
  readonly log = new RecordedLog();
  readonly random: SeededRandom;
  readonly sizeBytes: number;
  /** Operations in the order they were issued, and how many of them, from the first on, must survive. */
  operations: Operation[] = [];
  acknowledged = 0;
  flushed = 0;
  bootId = '00000000-0000-4000-8000-000000000001';
  volume!: Volume;
  fatal: Error | undefined;
  overrides: Partial<VolumeOptions> = {};
  private base: Uint8Array;

  constructor(seed: number, sizeBytes = 2 * MIB) {
    this.random = new SeededRandom(seed);
    this.sizeBytes = sizeBytes;
    this.base = new Uint8Array(sizeBytes);
  }

  async create(): Promise<void> {
    await createVolume({
      disk: this.disk,
      checksums: plainChecksums,
      random: this.random,
      name: 'disk0',
      sizeBytes: this.sizeBytes,
    });
    await this.open();
  }

  /** A volume that has `content` in a bucket, and nothing of it here yet. */
  async restored(content: Uint8Array): Promise<void> {
    const { disk, random, sizeBytes } = this;
    const recoveryPoint = { epoch: 1, number: 9, link: '00'.repeat(32), lsn: 77, wallMs: 1000 };
    const source = { uuid: random.uuid(), store: {}, recoveryPoint, pinFloor: 4, sizeBytes };
    const volume = { disk, checksums: plainChecksums, random, name: 'disk0', uuid: random.uuid(), sizeBytes };
    await createHydrating({ ...volume, source, pins: [] });
    this.base = content.slice();
    await this.open();
  }

  async open(): Promise<void> {
    this.fatal = undefined;
    this.volume = await Volume.open({
      disk: this.disk,
      checksums: plainChecksums,
      clock: this.clock,
      random: this.random,
      log: this.log,
      bootId: this.bootId,
      name: 'disk0',
      minimumSizeBytes: this.sizeBytes,
      bufferBytes: 32 * MIB,
      whenFull: 'throttle',
      fullTimeoutMs: 30_000,
      readOnly: false,
      replicated: false,
      provision: 'thin',
      onFatal: (error) => {
        this.fatal = error;
      },
      ...this.overrides,
    });
  }

  /** Issues one request; the promise settles with its completion. */
  request(issue: (completion: { done(error: GatewayError | undefined): void }) => void): Promise<void> {
    const { volume } = this;
    return new Promise((resolve, reject) => {
      issue({ done: (error) => (error === undefined ? resolve() : reject(error)) });
      volume.commit();
    });
  }

  async write(offset: number, bytes: Uint8Array, fua = false): Promise<void> {
    this.operations.push([{ offset, bytes: bytes.slice() }]);
    const index = this.operations.length;
    await this.request((completion) => this.volume.write(offset, bytes.length, bytes, 0, fua, completion));
    this.acknowledged = Math.max(this.acknowledged, index);
    if (fua) this.flushed = Math.max(this.flushed, index);
  }

  async zero(offset: number, length: number, trim: boolean): Promise<void> {
    this.operations.push(zeroOperation(offset, length));
    const index = this.operations.length;
    await this.request((completion) => {
      if (trim) this.volume.trim(offset, length, false, completion);
      else this.volume.zero(offset, length, true, false, completion);
    });
    this.acknowledged = Math.max(this.acknowledged, index);
  }

  async flush(): Promise<void> {
    const covered = this.acknowledged;
    await this.request((completion) => this.volume.flush(completion));
    this.flushed = Math.max(this.flushed, covered);
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const target = new Uint8Array(length);
    await new Promise<void>((resolve, reject) => {
      const done = (error: GatewayError | undefined): void => (error === undefined ? resolve() : reject(error));
      if (this.volume.read(offset, length, target, 0, { done })) resolve();
    });
    return target;
  }

  /** The content after the first `count` operations. */
  expected(count: number): Uint8Array {
    const content = this.base.slice();
    apply(content, this.operations.slice(0, count));
    return content;
  }

  /** The volume must equal a prefix of the operations that holds at least `least` of them (P1); it then counts as the whole history. */
  async expectPrefix(least: number): Promise<readonly Operation[]> {
    const found = await this.read(0, this.sizeBytes);
    const kept = findPrefix(this.base, this.operations, least, found);
    if (kept !== undefined) {
      this.base = found;
      this.operations = [];
      this.acknowledged = 0;
      this.flushed = 0;
      return kept;
    }
    assert.fail(`the volume equals no prefix of at least ${least} of ${this.operations.length} operations`);
  }
}
