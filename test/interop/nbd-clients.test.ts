/** The NBD clients that people use, each against a real gateway: libnbd's, QEMU's, fio's. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { requiredTool } from '../tool/clients.js';
import { TestGateway } from '../tool/gateway.js';
import { run } from '../tool/process.js';
import { suite } from '../tool/suite.js';

const mebibyte = 1024 * 1024;
const sizeMiB = 64;

suite('NBD clients', ['nbdinfo', 'nbdcopy', 'qemu-io', 'qemu-img', 'fio'], () => {
  let gateway: TestGateway;
  let uri: string;
  before(async () => {
    const buffer = { size: '256MiB' };
    gateway = await TestGateway.start({
      volumes: [
        { name: 'disk', size: `${sizeMiB}MiB`, buffer },
        { name: 'large', size: '512MiB', buffer },
      ],
    });
    uri = gateway.nbdUri('disk');
  });
  after(async () => {
    await gateway.dispose();
  });

  it('nbdinfo tells size, block sizes and what the volume can do', async () => {
    const text = await run(requiredTool('nbdinfo'), ['--json', uri]);
    const [shown] = (JSON.parse(text) as { exports: Record<string, unknown>[] }).exports;
    assert.equal(shown?.['export-size'], sizeMiB * mebibyte);
    assert.equal(shown['export-name'], 'disk');
    assert.equal(shown['is_read_only'], false);
    for (const ability of ['can_flush', 'can_fua', 'can_multi_conn', 'can_trim', 'can_zero']) {
      assert.equal(shown[ability], true, ability);
    }
  });

  it('nbdinfo lists the volumes', async () => {
    const text = await run(requiredTool('nbdinfo'), ['--list', '--json', `nbd://127.0.0.1:${gateway.nbdPort}`]);
    const { exports } = JSON.parse(text) as { exports: Record<string, unknown>[] };
    assert.deepEqual(exports.map((each) => each['export-name']).sort(), ['disk', 'large']);
  });

  it('nbdcopy in and out gives the same bytes', async () => {
    const from = join(gateway.folder, 'in');
    const to = join(gateway.folder, 'out');
    const contents = Buffer.concat([randomBytes(40 * mebibyte), Buffer.alloc(24 * mebibyte)]);
    await writeFile(from, contents);
    await run(requiredTool('nbdcopy'), ['--flush', from, uri]);
    await run(requiredTool('nbdcopy'), [uri, to]);
    assert(contents.equals(await readFile(to)));
  });

  it('qemu-io finds its patterns, after writes, zeros and discards', async () => {
    const commands = [
      'write -P 0x11 0 1M',
      'write -P 0x22 5000 3000', // Not on any boundary of a block.
      'write -f -P 0x33 2M 64k',
      'write -z 512k 256k',
      'discard 2M 32k',
      'flush',
      'read -P 0x11 0 5000',
      'read -P 0x22 5000 3000',
      'read -P 0x11 8000 64k',
      'read -P 0 512k 256k',
      'read -P 0x11 768k 256k',
      'read -P 0 2M 32k',
      'read -P 0x33 2080k 32k',
    ];
    const args = ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri];
    const text = await run(requiredTool('qemu-io'), args);
    assert.doesNotMatch(text, /failed|error/i);
  });

  it('qemu-img convert to and from the volume, and compare', async () => {
    const from = join(gateway.folder, 'in');
    await writeFile(from, randomBytes(sizeMiB * mebibyte));
    await run(requiredTool('qemu-img'), ['convert', '-n', '-f', 'raw', '-O', 'raw', from, uri]);
    await run(requiredTool('qemu-img'), ['compare', '-f', 'raw', '-F', 'raw', from, uri]);
  });

  it('fio verifies 512 MiB of random writes at depth 32', async () => {
    const text = await run(
      requiredTool('fio'),
      [
        ...['--name=verify', '--ioengine=nbd', `--uri=${gateway.nbdUri('large')}`, '--rw=randwrite', '--bs=4k'],
        ...['--iodepth=32', '--verify=crc32c', '--do_verify=1', '--size=512m', '--output-format=json'],
      ],
      { timeoutMs: 240_000, cwd: gateway.folder },
    );
    const { jobs } = JSON.parse(text.slice(text.indexOf('{'))) as { jobs: { error: number }[] };
    assert.equal(jobs[0]?.error, 0, text);
  });
});
