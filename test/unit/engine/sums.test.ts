/** The checksums in memory against the file, while pages come and go. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { limits } from '../../../src/base/limits.js';
import { SECTOR_BYTES } from '../../../src/base/units.js';
import { Sums, SUMS_PER_PAGE } from '../../../src/engine/sums.js';
import type { DiskFile } from '../../../src/ports/disk.js';
import { plainChecksums } from '../../fake/checksums.js';
import { settle } from './volume-harness.js';

/** A file of zeros but for what was written, whose operations end when the test says so. */
class HeldFile {
  readonly path = 'sums';
  /** Whether readNow finds something. */
  cached = true;
  private readonly sectors = new Map<number, Uint8Array>();
  private readonly held: { readonly operation: string; readonly end: () => void }[] = [];
  holding: readonly string[] = [];

  /** Lets the oldest operation of this kind end. */
  async end(operation: string): Promise<void> {
    const index = this.held.findIndex((one) => one.operation === operation);
    assert.ok(index >= 0, `a ${operation} is under way`);
    this.held.splice(index, 1)[0]?.end();
    await settle();
  }

  private async hold<T>(operation: string, value: T): Promise<T> {
    if (this.holding.includes(operation)) {
      await new Promise<void>((end) => this.held.push({ operation, end }));
    }
    return value;
  }

  private get(target: Uint8Array, start: number, length: number, position: number): number {
    target.fill(0, start, start + length);
    for (let at = 0; at < length; at += SECTOR_BYTES) {
      const sector = this.sectors.get((position + at) / SECTOR_BYTES);
      if (sector !== undefined) target.set(sector, start + at);
    }
    return length;
  }

  readNow(target: Uint8Array, start: number, length: number, position: number): boolean {
    return this.cached && this.get(target, start, length, position) === length;
  }

  /** Reads at once, and answers later. */
  read(target: Uint8Array, start: number, length: number, position: number): Promise<number> {
    return this.hold('read', this.get(target, start, length, position));
  }

  async write(parts: readonly Uint8Array[], position: number): Promise<void> {
    await this.hold('write', undefined);
    let sector = position / SECTOR_BYTES;
    for (const part of parts) {
      for (let at = 0; at < part.length; at += SECTOR_BYTES) {
        this.sectors.set(sector++, part.slice(at, at + SECTOR_BYTES));
      }
    }
  }

  punch(position: number, length: number): Promise<void> {
    for (const sector of this.sectors.keys()) {
      if (sector * SECTOR_BYTES >= position && sector * SECTOR_BYTES < position + length) this.sectors.delete(sector);
    }
    return this.hold('punch', undefined);
  }

  sync(): Promise<void> {
    return Promise.resolve();
  }
}

function open(): { file: HeldFile; sums: Sums } {
  const file = new HeldFile();
  const sums = new Sums({
    file: file as unknown as DiskFile,
    checksums: plainChecksums,
    holes: 'zero',
    onRot: () => assert.fail('nothing is damaged'),
  });
  return { file, sums };
}

async function setSum(sums: Sums, block: number, sum: number): Promise<void> {
  await sums.page(block);
  sums.set(block, sum);
}

const pagesInMemory = Math.ceil(limits.sumsCacheBytesMax / (SUMS_PER_PAGE * 4));

describe('checksums in memory', () => {
  it('stay there until they are written, however many other pages are read meanwhile', async () => {
    const { file, sums } = open();
    await setSum(sums, 5, 77);
    file.holding = ['write'];
    const flushed = sums.flush();
    await settle();
    for (let page = 1; page <= 2 * pagesInMemory; page++) await sums.page(page * SUMS_PER_PAGE);
    assert.equal((await sums.page(5))[5], 77);
    await file.end('write');
    await flushed;
    for (let page = 1; page <= 2 * pagesInMemory; page++) await sums.page(page * SUMS_PER_PAGE);
    assert.equal((await sums.page(5))[5], 77);
  });

  it('are never those that a slow read found before they were freed', async () => {
    const { file, sums } = open();
    await setSum(sums, 5, 77);
    await sums.flush();
    for (let page = 1; page <= 2 * pagesInMemory; page++) await sums.page(page * SUMS_PER_PAGE);
    file.cached = false;
    file.holding = ['read'];
    const loading = sums.page(5);
    await settle();
    await sums.setZero(0, SUMS_PER_PAGE);
    await file.end('read');
    file.holding = [];
    if ((await Promise.race([loading, settle()])) === undefined) await file.end('read');
    assert.equal((await loading)[5], 0);
    assert.equal((await sums.page(5))[5], 0);
  });

  it('are never those that a slow read found before they were changed, written and let go', async () => {
    const { file, sums } = open();
    file.cached = false;
    file.holding = ['read'];
    const loading = sums.page(5);
    await settle();
    file.cached = true;
    await setSum(sums, 5, 77);
    await sums.flush();
    for (let page = 1; page <= 2 * pagesInMemory; page++) await sums.page(page * SUMS_PER_PAGE);
    file.holding = [];
    await file.end('read');
    assert.equal((await loading)[5], 77);
    assert.equal((await sums.page(5))[5], 77);
  });
});
