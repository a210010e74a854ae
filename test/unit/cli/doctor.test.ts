/** `keepgate doctor` on a machine where something is amiss: what it says, what it mends, and what it never touches. */
import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { attempt } from '../../tool/process.js';
import type { Finished } from '../../tool/process.js';

const main = resolve(import.meta.dirname, '../../../src/cli/main.js');
const key = `${Buffer.alloc(32, 7).toString('base64')}\n`;

let root: string;
let folder: string;
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'keepgate-doctor-'));
  // No module of this machine's kernel is loaded by a test.
  await mkdir(join(root, 'bin'));
  await writeFile(join(root, 'bin/modprobe'), '#!/bin/sh\nexit 0\n', { mode: 0o755 });
});
beforeEach(async () => {
  folder = await mkdtemp(join(root, 'case-'));
  await mkdir(join(folder, 'store'));
  await writeFile(join(folder, 'keepgate.yaml'), JSON.stringify(settings()));
});
after(() => rm(root, { recursive: true, force: true }));

const at = (name: string): string => join(folder, name);

function settings(): object {
  return {
    dataDir: at('data'),
    keyFile: at('key'),
    nbd: { listen: ['127.0.0.1:0'] },
    iscsi: { listen: ['127.0.0.1:0'], discoveryChap: { user: 'someone', secretFile: at('chap') } },
    api: { listen: `unix:${at('api.sock')}`, tokenFile: at('token') },
    store: { url: `file://${at('store')}` },
    volumes: [{ name: 'disk0', size: '16MiB', buffer: { size: '64MiB' } }],
  };
}

function doctor(...flags: string[]): Promise<Finished> {
  const env = { PATH: `${join(root, 'bin')}${delimiter}${process.env['PATH'] ?? ''}` };
  return attempt(process.execPath, [main, 'doctor', '--config', at('keepgate.yaml'), ...flags], { env });
}

/** Secrets that everybody can read. */
async function openSecrets(): Promise<void> {
  for (const [name, content] of [
    ['key', key],
    ['token', `${'t'.repeat(43)}\n`],
    ['chap', 'twelve bytes and more\n'],
  ] as const) {
    await writeFile(at(name), content);
    await chmod(at(name), 0o644);
  }
}

const rightsOf = async (name: string): Promise<number> => (await stat(at(name))).mode & 0o777;
const lineOf = ({ stdout }: Finished, what: string): string =>
  stdout.split('\n').find((line) => line.includes(`  ${what}: `)) ?? '';

describe('doctor', () => {
  it('names what is wrong with what to do and why it matters, and exits with 1', async () => {
    await writeFile(at('chap'), 'twelve bytes and more\n', { mode: 0o600 });
    await rm(at('store'), { recursive: true });
    const ended = await doctor();
    assert.equal(ended.status, 1);
    assert.match(lineOf(ended, 'nbd.listen'), /^ok .* is free$/);
    assert.match(lineOf(ended, 'CHAP secret of discovery'), /^ok .* can be used$/);
    assert.match(lineOf(ended, 'key'), /^wrong .* there is no key here\. Name the right file/);
    assert.match(lineOf(ended, 'store'), /^wrong .* Create the bucket .*or correct store\.url\.$/);
    assert.match(lineOf(ended, 'kernel module nbd'), /^(ok|note) /);
    assert.match(ended.stdout, /^wrong {2}key: .*\n {7}why: what lies in the bucket opens with this key alone/m);
  });

  it('says how it would mend what is safe, and changes nothing', async () => {
    await openSecrets();
    const ended = await doctor();
    assert.equal(ended.status, 1);
    for (const [what, name] of [
      ['key', 'key'],
      ['API token', 'token'],
      ['CHAP secret of discovery', 'chap'],
    ] as const) {
      assert.match(lineOf(ended, what), /^wrong .*group or world can use this .* \(mode 0644\)/);
      assert.ok(
        ended.stdout.includes(`\n       fix: keepgate doctor --fix does this: chmod 600 ${at(name)}\n`),
        ended.stdout,
      );
      assert.equal(await rightsOf(name), 0o644);
    }
    assert.match(lineOf(ended, 'data directory'), /^note .* is not there yet: the gateway makes it/);
    assert.ok(ended.stdout.includes(`does this: mkdir -p -m 700 ${at('data')}\n`));
    await assert.rejects(stat(at('data')), { code: 'ENOENT' });
  });

  it('mends that with --fix, looks again, and is content the next time', async () => {
    await openSecrets();
    const fixed = await doctor('--fix');
    assert.equal(fixed.status, 0, fixed.stdout);
    for (const [what, name] of [
      ['key', 'key'],
      ['API token', 'token'],
      ['CHAP secret of discovery', 'chap'],
    ] as const) {
      assert.ok(fixed.stdout.includes(`fixed  ${what}: chmod 600 ${at(name)}\nok     ${what}: `), fixed.stdout);
      assert.equal(await rightsOf(name), 0o600);
    }
    assert.ok(fixed.stdout.includes(`fixed  data directory: mkdir -p -m 700 ${at('data')}\nok     data directory: `));
    assert.equal(await rightsOf('data'), 0o700);
    assert.equal(await readFile(at('key'), 'utf8'), key);
    const again = await doctor();
    assert.equal(again.status, 0);
    assert.doesNotMatch(again.stdout, /fixed|wrong/);
  });

  it('makes neither a key nor a store with --fix: they are somebody’s choice', async () => {
    await writeFile(at('chap'), 'twelve bytes and more\n', { mode: 0o600 });
    await rm(at('store'), { recursive: true });
    const ended = await doctor('--fix');
    assert.equal(ended.status, 1);
    for (const name of ['key', 'store', 'token']) await assert.rejects(stat(at(name)), { code: 'ENOENT' });
  });

  it('offers no directory where a parent is a file', async () => {
    await writeFile(at('data'), '');
    const config = { ...settings(), dataDir: at('data/below') };
    await writeFile(at('keepgate.yaml'), JSON.stringify(config));
    const ended = await doctor('--fix');
    assert.match(lineOf(ended, 'data directory'), /^wrong .* it, or a parent, is a file \(dataDir\)/);
    assert.doesNotMatch(ended.stdout, /mkdir/);
  });

  it('says all of it as JSON', async () => {
    await openSecrets();
    const { stdout } = await doctor('--json');
    type Found = { verdict: string; what: string; text: string; why: string | null; fix: object | null };
    const all = JSON.parse(stdout) as Found[];
    const found = all.find(({ what }) => what === 'key');
    assert.equal(found?.verdict, 'wrong');
    assert.match(found.why ?? '', /opens with this key alone/);
    assert.deepEqual(found.fix, { command: `chmod 600 ${at('key')}`, done: false, problem: null });
    const fixed = JSON.parse((await doctor('--json', '--fix')).stdout) as Found[];
    assert.equal(fixed.find(({ what }) => what === 'key')?.verdict, 'ok');
    assert.deepEqual(fixed.find(({ what }) => what === 'key')?.fix, {
      command: `chmod 600 ${at('key')}`,
      done: true,
      problem: null,
    });
  });
});
