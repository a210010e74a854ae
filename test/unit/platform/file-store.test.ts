/** What the object-store suite does not see: what lies on the disk, and what a crash leaves there. */
import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { FileStore } from '../../../src/platform/file-store.js';
import { SeededRandom } from '../../fake/random.js';

const body = new TextEncoder().encode('content');

describe('directory store', () => {
  let scratch: string;
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'keepgate-file-store-'));
  });
  after(() => rm(scratch, { recursive: true }));

  const open = (name: string, seed = 1, create = true) =>
    FileStore.open({ location: join(scratch, name), create, random: new SeededRandom(seed) });

  it('keeps an object as the file of its name, for its owner only', async () => {
    const store = await FileStore.open({
      location: pathToFileURL(join(scratch, 'plain')).href,
      create: true,
      random: new SeededRandom(1),
    });
    assert.equal(store.description, pathToFileURL(join(scratch, 'plain')).href);
    await store.put('a/b', body, { ifAbsent: true });
    assert.deepEqual(await readFile(join(scratch, 'plain/a/b')), Buffer.from(body));
    assert.deepEqual(await readdir(join(scratch, 'plain/.tmp')), []);
  });

  it('refuses keys that would leave the directory, or hide in it', async () => {
    const store = await open('keys');
    const wrong = [
      '',
      '/',
      '/etc/passwd',
      '..',
      '../x',
      'a/../../x',
      'a//b',
      'a/',
      '.tmp/x',
      'a/.hidden',
      'a\0b',
      'a\\b',
      'ü',
      'x'.repeat(256),
    ];
    for (const key of wrong) {
      await assert.rejects(store.put(key, body, { ifAbsent: false }), { code: 'invalid-request' }, key);
      await assert.rejects(store.get(key), { code: 'invalid-request' }, key);
      await assert.rejects(store.delete(key), { code: 'invalid-request' }, key);
    }
    assert.deepEqual(await readdir(join(scratch, 'keys')), []);
  });

  it('does not show what a crash left half-written, and removes it once it is old', async () => {
    const store = await open('crash');
    await store.put('a', body, { ifAbsent: true });
    const temporary = join(scratch, 'crash/.tmp');
    await writeFile(join(temporary, 'old'), 'half');
    await writeFile(join(temporary, 'fresh'), 'half');
    await utimes(join(temporary, 'old'), 1, 1);
    const again = await open('crash', 2);
    assert.deepEqual(await readdir(temporary), ['fresh']);
    const keys: string[] = [];
    for await (const { key } of again.list('')) keys.push(key);
    assert.deepEqual(keys, ['a']);
  });

  it('is shared by two processes: one conditional PUT wins', async () => {
    const [one, other] = [await open('shared', 1), await open('shared', 2)];
    const answers = await Promise.all(
      [one, other, one, other].map((store) => store.put('k', body, { ifAbsent: true })),
    );
    assert.equal(answers.filter((answer) => answer === 'stored').length, 1);
  });

  it('does not make a directory that it was only to read', async () => {
    await assert.rejects(open('absent', 1, false), { code: 'store-bucket-missing' });
    await writeFile(join(scratch, 'a-file'), '');
    await assert.rejects(open('a-file', 1, false), { code: 'store-bucket-missing' });
    assert.ok(!(await readdir(scratch)).includes('absent'));
  });

  it('tells an object that is missing from a directory that is gone', async () => {
    const store = await open('gone');
    await store.put('a/b', body, { ifAbsent: true });
    assert.equal(await store.head('a/c'), undefined);
    await assert.rejects(store.get('a/c'), { code: 'object-missing' });
    await rename(join(scratch, 'gone'), join(scratch, 'away'));
    for (const ask of [store.get('a/b'), store.head('a/b'), store.delete('a/b')])
      await assert.rejects(ask, { code: 'store-bucket-missing' });
    await rename(join(scratch, 'away'), join(scratch, 'gone'));
    assert.deepEqual(Buffer.from(await store.get('a/b')), Buffer.from(body));
  });

  it('ignores what is not a plain file, and names that it cannot have made', async () => {
    const store = await open('foreign');
    await store.put('mine', body, { ifAbsent: true });
    await symlink('/etc/passwd', join(scratch, 'foreign/link'));
    await writeFile(join(scratch, 'foreign/lost+found~'), '');
    await mkdir(join(scratch, 'foreign/empty'));
    const keys: string[] = [];
    for await (const { key } of store.list('')) keys.push(key);
    assert.deepEqual(keys, ['mine']);
  });

  it('says that it is forbidden', { skip: process.getuid?.() === 0 ? 'root may do everything' : false }, async () => {
    const store = await open('forbidden');
    await chmod(join(scratch, 'forbidden'), 0o500);
    await assert.rejects(store.put('a', body, { ifAbsent: true }), { code: 'store-forbidden' });
    await chmod(join(scratch, 'forbidden'), 0o700);
  });
});
