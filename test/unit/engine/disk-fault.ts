/**
 * One fixed workload in which exactly one operation of the disk fails, and what must hold then, whichever it was:
 * nothing is acknowledged that is lost, nothing hangs, and either the volume stops for good or it goes on by itself.
 */
import assert from 'node:assert/strict';
import { GatewayError, type ErrorCode } from '../../../src/base/errors.js';
import { createVolume } from '../../../src/engine/volume-directory-format.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MIB, settle, VolumeHarness } from './volume-harness.js';

export type Fault = Extract<ErrorCode, 'disk-full' | 'disk-failed'>;

export interface FaultRun {
  /** Operations of the disk in the whole run. */
  readonly operations: number;
  /** Which one failed, "sync super.1". */
  readonly failed: string | undefined;
  readonly outcome: 'done' | 'not created' | 'not opened' | 'stopped for good' | 'not closed';
  /** Codes of requests that failed. */
  readonly refused: readonly ErrorCode[];
}

const volumeBytes = MIB;
/** Eight log files of 256 KiB, records of at most 16 blocks. */
const bufferBytes = 2 * MIB;
const blockBytes = 4096;
/** Simulated: well beyond the time after which a write that waits for space fails. */
const patienceMs = 60_000;

/** Fails the operation with that ordinal (from 1), or none; then ends by a kill or a power loss, and checks what is left. */
export async function runWithFault(ordinal: number, fault: Fault, end: 'kill' | 'power loss'): Promise<FaultRun> {
  const run = new Run(ordinal, fault);
  const outcome = await run.work();
  const { operations } = run;
  run.h.disk.hook = () => undefined;
  await run.reopen(outcome, end);
  return { operations, failed: run.failed, outcome, refused: run.refused };
}

class Run {
  readonly h = new VolumeHarness(77, volumeBytes);
  readonly refused: ErrorCode[] = [];
  failed: string | undefined;
  operations = 0;
  private acknowledgedAfterEnd = 0;

  constructor(ordinal: number, fault: Fault) {
    this.h.overrides = { bufferBytes };
    this.h.disk.hook = (operation, path) => {
      this.operations += 1;
      if (this.operations !== ordinal) return;
      this.failed = `${operation} ${path}`;
      throw new GatewayError(fault, `${operation} ${path}: made to fail`);
    };
  }

  async work(): Promise<FaultRun['outcome']> {
    const { h } = this;
    if (!(await this.succeeds(this.create()))) return 'not created';
    if (!(await this.succeeds(h.open()))) return 'not opened';
    for (const step of this.steps()) {
      if (typeof step === 'number') await this.time(step);
      else await this.request(step);
      if (h.fatal !== undefined) return this.expectSilence();
    }
    const closed = await this.succeeds(h.volume.close());
    if (h.fatal !== undefined) return this.expectSilence();
    return closed ? 'done' : 'not closed';
  }

  /** Writes of every kind, flushes, trims, milliseconds for the destager, enough bytes to use log files again. */
  private *steps(): Generator<number | (() => Promise<unknown>)> {
    const { h } = this;
    const { random } = h;
    const block = (n: number): number => n * blockBytes;
    yield () => h.write(block(3), random.bytes(block(16)));
    yield () => h.write(block(1) + 100, random.bytes(7000));
    yield () => h.flush();
    yield () => h.write(block(100), random.bytes(block(2)), true);
    yield () => h.zero(block(5), block(3), true);
    yield 6000;
    yield () => h.read(0, block(64));
    yield () => h.zero(block(20), block(200), false);
    yield () => h.zero(block(4) + 50, block(2), true);
    for (let n = 0; n < 40; n += 1) {
      yield () => h.write(block((n % 5) * 50), random.bytes(block(15)));
      if (n % 12 === 11) yield () => h.flush();
      if (n % 15 === 14) yield 1500;
    }
    yield 6000;
    yield () => h.write(block(7), random.bytes(block(1)), true);
    yield () => h.read(0, volumeBytes);
    yield 6000;
    yield () => h.zero(0, volumeBytes, true);
    yield () => h.write(block(9), random.bytes(block(1)));
    yield 6000;
  }

  private create(): Promise<unknown> {
    const { disk, random } = this.h;
    return createVolume({ disk, checksums: plainChecksums, random, name: 'disk0', sizeBytes: volumeBytes });
  }

  private async time(ms: number): Promise<void> {
    for (let at = 0; at < ms; at += 500) {
      this.h.clock.advance(500);
      await settle();
    }
  }

  /** A request ends, with whichever code, or the volume has stopped; it never hangs. */
  private async request(step: () => Promise<unknown>): Promise<void> {
    const before = this.h.operations.length;
    try {
      await this.ends(step());
    } catch (error) {
      if (error === stopped) return;
      assert(
        error instanceof GatewayError,
        `a request failed with ${String(error)} after ${this.failed ?? 'nothing'} failed`,
      );
      if (error.code === 'volume-closed' && this.h.fatal !== undefined) return;
      assert(
        ['disk-full', 'disk-failed'].includes(error.code),
        `a request failed with ${error.code}: ${error.message}`,
      );
      this.refused.push(error.code);
      this.h.operations.length = before; // Each is one record: refused, it left nothing behind.
    }
  }

  private async succeeds(action: Promise<unknown>): Promise<boolean> {
    try {
      await this.ends(action);
      return true;
    } catch (error) {
      assert(error === stopped || error instanceof Error, String(error));
      return false;
    }
  }

  /** Settles as the action does, or rejects with `stopped`; lets simulated time pass until then. */
  private async ends<T>(action: Promise<T>): Promise<T> {
    const state = { pending: true };
    const over = (): void => {
      state.pending = false;
    };
    action.then(over, over);
    await settle();
    for (let ms = 0; state.pending && ms < patienceMs; ms += 500) {
      if (this.h.fatal !== undefined) {
        action.then(
          () => (this.acknowledgedAfterEnd += 1),
          () => undefined,
        );
        throw stopped;
      }
      await this.time(500);
    }
    assert(!state.pending, `something hangs after ${this.failed ?? 'nothing'} failed`);
    return action;
  }

  /** After a volume stopped for good nothing is acknowledged, whatever happens. */
  private async expectSilence(): Promise<'stopped for good'> {
    const { h } = this;
    const acknowledged = h.acknowledged;
    h.disk.hook = () => undefined;
    await this.time(patienceMs);
    assert.equal(this.acknowledgedAfterEnd, 0, 'nothing is acknowledged after the end');
    assert.equal(h.acknowledged, acknowledged, 'nothing is acknowledged after the end');
    assert.equal(h.volume.status().state, 'failed');
    return 'stopped for good';
  }

  async reopen(outcome: FaultRun['outcome'], end: 'kill' | 'power loss'): Promise<void> {
    const { h } = this;
    const least = end === 'kill' ? h.acknowledged : h.flushed;
    if (outcome === 'not created') {
      await this.create(); // The directory is as empty as before.
    } else if (end === 'kill') {
      h.disk.kill();
    } else {
      h.disk.crash(h.random);
      h.bootId = h.random.uuid();
    }
    await this.ends(h.open());
    await h.expectPrefix(least);
    await h.write(0, h.random.bytes(blockBytes), true);
  }
}

const stopped = new Error('the volume has stopped for good');
