import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { LogReader } from '../../../src/engine/log-reader.js';
import type { Disk, DiskFile } from '../../../src/ports/disk.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MemoryDisk } from '../../fake/memory-disk.js';

const BLOCK = 4096;

describe('payload that is read in many runs at once', () => {
  const bytes = Uint8Array.from({ length: 20 * BLOCK }, (_, at) => (at * 31 + (at >> 12)) & 0xff);
  const runs: readonly (readonly [start: number, blocks: number, page: number])[] = [
    [3, 2, 1],
    [0, 1, 4],
    [6, 3, 17],
  ];
  const columns = Float64Array.from(
    runs.flatMap(([start, blocks, page]) => [start, blocks, page].map((n) => n * BLOCK)),
  );

  /** What a log file that fails in this way gives. */
  async function read(change: (file: DiskFile) => Partial<DiskFile>, wanted = columns): Promise<Uint8Array> {
    const disk = new MemoryDisk();
    await disk.makeDirectory('log');
    const file = await disk.open('log/00000007', { mode: 'write', create: true });
    await file.write([bytes], 0);
    const openInner = disk.open.bind(disk);
    const open: Disk['open'] = async (...options) => {
      const inner = await openInner(...options);
      return { ...inner, ...change(inner) };
    };
    const reader = new LogReader({ disk: Object.assign(disk, { open }), checksums: plainChecksums, directory: 'log' });
    const target = new Uint8Array(9 * BLOCK);
    await reader.readRuns(7, target, wanted, wanted.length / 3);
    await reader.close();
    return target;
  }

  const expected = new Uint8Array(9 * BLOCK);
  for (const [start, blocks, page] of runs)
    expected.set(bytes.subarray(page * BLOCK, (page + blocks) * BLOCK), start * BLOCK);
  const failed = (): Promise<never> => Promise.reject(new GatewayError('disk-failed', 'a sector cannot be read'));

  it('lies where it belongs', async () => {
    assert.deepEqual(await read(() => ({})), expected);
  });

  it('is read run by run where a sector between them cannot be read', async () => {
    assert.deepEqual(await read(() => ({ readScattered: failed })), expected);
  });

  it('fails as it does run by run where a sector of its own cannot be read', async () => {
    const refused = read(() => ({ readScattered: failed, read: failed }));
    await assert.rejects(refused, (error) => error instanceof GatewayError && error.code === 'disk-failed');
  });

  it('is not there behind the end of the file', async () => {
    const behind = read(() => ({}), Float64Array.of(0, BLOCK, 0, BLOCK, 2 * BLOCK, 19 * BLOCK));
    await assert.rejects(behind, (error) => error instanceof GatewayError && error.code === 'log-damaged');
  });

  it('fails with what is no failed read', async () => {
    const refused = read(() => ({ readScattered: () => Promise.reject(new TypeError('a mistake')) }));
    await assert.rejects(refused, TypeError);
  });
});
