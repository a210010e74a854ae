import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { isRotational, majorOf, minorOf } from '../../../src/platform/disk-kind.js';

describe('kind of a disk', () => {
  it('device numbers come apart as makedev(3) puts them together', () => {
    for (const [dev, major, minor] of [
      [0x801n, 8n, 1n],
      [0x11110370n, 259n, 70_000n],
      [316_662_230_500_830n, 0x12345n, 0xabcden],
    ] as const)
      assert.deepEqual([majorOf(dev), minorOf(dev)], [major, minor]);
  });

  it('what has no block device does not turn, and nothing is an error', async () => {
    assert.equal(await isRotational('/proc'), false);
    assert.equal(await isRotational('/does/not/exist'), false);
  });

  it('is what the kernel says of the disk under this folder, where there is one', async () => {
    const answers = new Set<boolean>();
    for (const name of await readdir('/sys/class/block').catch(() => [])) {
      const text = await readFile(`/sys/class/block/${name}/queue/rotational`, 'utf8').catch(() => undefined);
      if (text !== undefined) answers.add(text.trim() === '1');
    }
    answers.add(false);
    assert(answers.has(await isRotational('.')));
  });
});
