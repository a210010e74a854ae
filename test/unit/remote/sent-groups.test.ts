import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import type { Disk, DiskFile } from '../../../src/ports/disk.js';
import { SentGroups } from '../../../src/remote/sent-groups.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { SeededRandom } from '../../fake/random.js';

const SECTOR = 512;
const noted = 20;

function group(number: number): { epoch: number; number: number; link: Uint8Array } {
  return { epoch: 3, number, link: new Uint8Array(32).fill(number) };
}

/** The power is lost while one more entry is being written. */
async function cutOff(seed: number): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  const sent = await SentGroups.open(disk, plainChecksums);
  for (let number = 1; number <= noted; number++) await sent.add(group(number));
  disk.hook = (operation) => {
    if (operation === 'sync') throw new GatewayError('disk-failed', 'the power is gone');
  };
  await assert.rejects(sent.add(group(noted + 1)));
  disk.hook = () => undefined;
  disk.crash(new SeededRandom(seed));
  return disk;
}

async function assertNoted(disk: Disk): Promise<void> {
  const sent = await SentGroups.open(disk, plainChecksums);
  for (let number = 1; number <= noted; number++) assert.ok(sent.has(group(number)), `group ${number}`);
  assert.ok(!sent.has({ ...group(noted), link: new Uint8Array(32) }));
  assert.ok(!sent.has({ ...group(noted), epoch: 4 }));
  await sent.close();
}

describe('the groups that were sent', () => {
  it('have the bytes of docs/formats.md', async () => {
    const disk = new MemoryDisk();
    const sent = await SentGroups.open(disk, plainChecksums);
    for (let number = 1; number <= 2; number++) await sent.add(group(number));
    const file = await disk.readSmall('sent');
    assert.deepEqual(Buffer.from(file), Buffer.concat([entry(1), entry(2)]));
  });

  it('stay noted when the power is lost while one more is written', async () => {
    for (let seed = 1; seed <= 40; seed++) await assertNoted(await cutOff(seed));
  });

  it('stay noted when the sector that was being written cannot be read', async () => {
    const disk = await cutOff(1);
    const open = async (...args: Parameters<Disk['open']>): Promise<DiskFile> => {
      const file = await disk.open(...args);
      const read: DiskFile['read'] = async (target, start, lengthBytes, position) => {
        if (position + lengthBytes > noted * SECTOR) throw new GatewayError('disk-failed', 'a sector cannot be read');
        return file.read(target, start, lengthBytes, position);
      };
      return new Proxy(file, { get: (of, name) => (name === 'read' ? read : bound(of, name)) });
    };
    await assertNoted(new Proxy<Disk>(disk, { get: (of, name) => (name === 'open' ? open : bound(of, name)) }));
  });

  it('are let go from the oldest on', async () => {
    const disk = new MemoryDisk();
    await disk.writeSmall('sent', Buffer.concat(Array.from({ length: 4096 }, (_, at) => entry(at + 1))));
    const sent = await SentGroups.open(disk, plainChecksums);
    const known = (): boolean[] => [1, 3072, 3073, 4097].map((number) => sent.has(group(number)));
    assert.deepEqual(known(), [true, true, true, false]);
    await sent.add(group(4097));
    assert.deepEqual(known(), [false, false, true, true]);
    await sent.close();
    assert.deepEqual(
      await disk.readSmall('sent'),
      new Uint8Array(Buffer.concat(Array.from({ length: 1025 }, (_, at) => entry(at + 3073)))),
    );
  });
});

/** By docs/formats.md. */
function entry(number: number): Buffer {
  const bytes = Buffer.alloc(SECTOR);
  bytes.write('KGSENT02');
  bytes.writeBigUInt64LE(3n, 8);
  bytes.writeBigUInt64LE(BigInt(number), 16);
  bytes.set(group(number).link, 24);
  bytes.writeUInt32LE(plainChecksums.crc32c(0, bytes, 0, 60), 60);
  return bytes;
}

function bound(of: object, name: string | symbol): unknown {
  const value: unknown = Reflect.get(of, name);
  return typeof value === 'function' ? (value.bind(of) as unknown) : value;
}
