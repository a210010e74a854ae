/** Loading a module: what modprobe is asked, and what becomes of what it says; with a modprobe that loads nothing. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { loadKernelModule } from '../../../src/platform/kernel-module.js';

describe('a kernel module', () => {
  const path = process.env['PATH'] ?? '';
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'keepgate-modprobe-'));
    process.env['PATH'] = `${folder}${delimiter}${path}`;
  });
  after(async () => {
    process.env['PATH'] = path;
    await rm(folder, { recursive: true, force: true });
  });
  const modprobe = (script: string): Promise<void> =>
    writeFile(join(folder, 'modprobe'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });

  it('is loaded by its name', async () => {
    await modprobe(`echo "$@" > '${join(folder, 'asked')}'`);
    await loadKernelModule('iscsi_tcp');
    assert.equal(await readFile(join(folder, 'asked'), 'utf8'), '-- iscsi_tcp\n');
  });

  it('that cannot be loaded is an error with what modprobe says', async () => {
    await modprobe('echo "modprobe: FATAL: Module nbd not found." >&2; exit 1');
    await assert.rejects(loadKernelModule('nbd'), {
      code: 'not-supported',
      message: 'modprobe: FATAL: Module nbd not found.',
    });
  });
});
