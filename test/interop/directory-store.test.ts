/** What a provider can read in a directory store: nothing that was written, no address, no name (P8). */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { NbdClient } from '../crash/nbd-client.js';
import { TestGateway } from '../tool/gateway.js';
import { foundInClear } from './bucket-contents.js';

describe('a directory store', () => {
  it('holds nothing in clear', async () => {
    const volumeName = 'quite-a-recognisable-name';
    const offset = 0x1a2b3c * 4096;
    const contents = randomBytes(1024 * 1024);
    const gateway = await TestGateway.start({
      volumes: [{ name: volumeName, size: '8GiB', buffer: { size: '64MiB' } }],
    });
    try {
      const nbd = await NbdClient.connect(gateway.nbdPort, volumeName);
      await nbd.write(offset, contents);
      await nbd.close();
      await gateway.drain(volumeName);
      await gateway.stop();
      const entries = await readdir(gateway.storeDirectory, { recursive: true, withFileTypes: true });
      const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
      const objects = await Promise.all(
        files.map(async (path) => ({ key: path.slice(gateway.storeDirectory.length), body: await readFile(path) })),
      );
      assert(objects.reduce((sum, { body }) => sum + body.length, 0) > contents.length, 'the store holds it all');
      assert.deepEqual(foundInClear(objects, { contents, offset, volumeName }), []);
    } finally {
      await gateway.dispose();
    }
  });

  it('is searched well enough: what is put there in clear is found', () => {
    const contents = randomBytes(4096);
    const offset = 0x1a2b3c * 4096;
    const address = Buffer.alloc(8);
    address.writeBigUInt64LE(BigInt(0x1a2b3c));
    const objects = [
      { key: 'a', body: Buffer.concat([randomBytes(33), contents.subarray(7, 23), randomBytes(20)]) },
      { key: 'b', body: Buffer.concat([randomBytes(5), address]) },
      { key: 'c', body: Buffer.from('volume my-name here') },
      { key: 'd', body: randomBytes(5000) },
    ];
    const found = foundInClear(objects, { contents, offset, volumeName: 'my-name' });
    assert.deepEqual(
      found.map((line) => line[0]),
      ['a', 'b', 'c'],
    );
  });
});
