import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { BufferPool } from '../../../src/engine/buffer-pool.js';
import type { ByteReader } from '../../../src/engine/byte-reader.js';
import { WaitingReads } from '../../../src/engine/waiting-reads.js';
import { plainChecksums } from '../../fake/checksums.js';
import { RecordedLog } from '../../fake/log.js';
import { settle } from './volume-harness.js';

function stage(): {
  readonly reads: WaitingReads;
  readonly log: RecordedLog;
  readonly answers: { readonly resolve: () => void; readonly reject: (error: Error) => void }[];
} {
  const log = new RecordedLog();
  const answers: { resolve: () => void; reject: (error: Error) => void }[] = [];
  const bytes = { read: () => new Promise<void>((resolve, reject) => answers.push({ resolve, reject })) };
  const pool = new BufferPool(plainChecksums);
  const options = { volume: 'disk0', bytes: bytes as unknown as ByteReader, pool, filled: undefined, log };
  return { reads: new WaitingReads(options), log, answers };
}

describe('reads that wait', () => {
  it('keep their volume open until the last of them is answered', async () => {
    const { reads, answers } = stage();
    await reads.idle();
    const ended: unknown[] = [];
    const completion = { done: (error: unknown): void => void ended.push(error) };
    for (let n = 0; n < 2; n++) void reads.read(0, 4096, new Uint8Array(4096), 0, completion);
    let idle = false;
    void reads.idle().then(() => (idle = true));
    answers[0]?.resolve();
    await settle();
    assert.deepEqual([ended, idle], [[undefined], false]);
    answers[1]?.reject(new GatewayError('checksum-mismatch', 'block 0 has rotted'));
    await settle();
    assert.equal(idle, true);
    assert.equal((ended[1] as GatewayError).code, 'checksum-mismatch');
  });

  it('that fail are a line in the log, and an error of the disk where nothing else is known', async () => {
    const { reads, answers, log } = stage();
    const failed = new Promise<GatewayError | undefined>((done) => {
      void reads.read(0, 4096, new Uint8Array(4096), 0, { done });
    });
    answers[0]?.reject(new Error('EIO'));
    assert.equal((await failed)?.code, 'disk-failed');
    const warmed = reads.warm(0, 4096);
    answers[1]?.reject(new GatewayError('store-unreachable', 'the bucket does not answer'));
    assert.equal((await warmed)?.code, 'store-unreachable');
    assert.match(log.lines.join('\n'), /EIO[^]*the bucket does not answer/);
  });

  it('hold nobody up while a range is only brought nearer', async () => {
    const { reads, answers } = stage();
    const warmed = reads.warm(0, 4096);
    await reads.idle();
    answers[0]?.resolve();
    assert.equal(await warmed, undefined);
  });
});
