import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { writeDirectly } from '../../../src/platform/direct-write.js';

describe('writing without the page cache', () => {
  let folder: string;
  before(async () => {
    // Beside the build: a temporary directory may lie in memory.
    folder = await mkdtemp(join(import.meta.dirname, 'direct-'));
  });
  after(() => rm(folder, { recursive: true }));

  for (const lengthBytes of [1, 4096, 1_048_576, 1_048_577, 3_333_333, 8_400_000]) {
    it(`leaves a file of exactly ${lengthBytes} bytes, or says that it cannot`, async () => {
      const body = Buffer.alloc(lengthBytes);
      for (let at = 0; at < lengthBytes; at++) body[at] = (at * 31 + (at >> 12)) & 0xff;
      const path = join(folder, String(lengthBytes));
      if (await writeDirectly(path, body)) assert.ok((await readFile(path)).equals(body));
    });
  }

  it('keeps several at once apart', async () => {
    const bodies = Array.from({ length: 8 }, (_, number) => Buffer.alloc(2_000_000 + number, number + 1));
    const paths = bodies.map((_, number) => join(folder, `many-${number}`));
    const done = await Promise.all(bodies.map((body, number) => writeDirectly(paths[number] ?? '', body)));
    for (const [number, body] of bodies.entries()) {
      if (done[number] === true) assert.ok((await readFile(paths[number] ?? '')).equals(body), String(number));
    }
  });

  it('replaces nothing', async () => {
    const path = join(folder, 'there');
    await writeFile(path, 'old');
    await assert.rejects(writeDirectly(path, Buffer.alloc(4096)), { code: 'EEXIST' });
    assert.equal(await readFile(path, 'utf8'), 'old');
  });
});
