import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { loadAddon } from '../../../src/platform/addon.js';

describe('a new file', () => {
  const addon = loadAddon();
  const lane = addon.lane('new-file test', 'new-file', 4);
  let folder: string;
  before(async () => {
    // Beside the build: a temporary directory may lie in memory.
    folder = await mkdtemp(join(import.meta.dirname, 'new-'));
  });
  after(() => rm(folder, { recursive: true }));
  const sample = (bytes: Uint8Array): Uint8Array => {
    for (let at = 0; at < bytes.length; at++) bytes[at] = (at * 31 + (at >> 12)) & 0xff;
    return bytes;
  };

  for (const lengthBytes of [0, 1, 4096, 1_048_575, 1_048_576, 1_048_577, 3_333_333, 8_400_000]) {
    it(`has exactly its ${lengthBytes} bytes, wherever they lie in memory`, async () => {
      const bodies = {
        page: sample(addon.alignedBuffer(lengthBytes)),
        odd: sample(addon.alignedBuffer(lengthBytes + 1).subarray(1)),
      };
      for (const [name, body] of Object.entries(bodies)) {
        const path = join(folder, `${name}-${lengthBytes}`);
        assert.equal(await addon.writeNewFile(lane, path, body), 0);
        assert.ok((await readFile(path)).equals(body));
        assert.equal((await stat(path)).mode & 0o777, 0o600);
      }
    });
  }

  it('does not mix with others that are written at once', async () => {
    const bodies = Array.from({ length: 8 }, (_, number) => Buffer.alloc(2_000_000 + number, number + 1));
    const paths = bodies.map((_, number) => join(folder, `many-${number}`));
    const done = await Promise.all(bodies.map((body, number) => addon.writeNewFile(lane, paths[number] ?? '', body)));
    assert.ok(done.every((result) => result === 0));
    for (const [number, body] of bodies.entries()) {
      assert.ok((await readFile(paths[number] ?? '')).equals(body), String(number));
    }
  });

  it('replaces nothing', async () => {
    const path = join(folder, 'there');
    await writeFile(path, 'old');
    assert.equal(await addon.writeNewFile(lane, path, Buffer.alloc(4096)), -constants.errno.EEXIST);
    assert.equal(await readFile(path, 'utf8'), 'old');
    assert.equal(
      await addon.writeNewFile(lane, join(folder, 'no', 'folder'), Buffer.alloc(1)),
      -constants.errno.ENOENT,
    );
  });
});
