import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import type { ErrorCode } from '../../../src/base/errors.js';
import { NativeDisk } from '../../../src/platform/native-disk.js';
import type { DiskFile } from '../../../src/ports/disk.js';

const diskModule = new URL('../../../src/platform/native-disk.js', import.meta.url).href;
const failure = (code: ErrorCode, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof GatewayError, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, message);
  return true;
};

let root: string;
let disk: NativeDisk;
before(() => {
  root = mkdtempSync(join(tmpdir(), 'keepgate-disk-'));
  disk = new NativeDisk(root);
});
after(() => rmSync(root, { recursive: true }));

async function withFile(name: string, use: (file: DiskFile) => Promise<void> | void): Promise<void> {
  const file = await disk.open(name, { mode: 'write', create: true });
  try {
    await use(file);
  } finally {
    await file.close();
  }
}

describe('files', () => {
  it('hold what was written, at once or on a thread', () =>
    withFile('written', async (file) => {
      file.writeNow([Buffer.from('hello '), new Uint8Array(0), Buffer.from('world')], 10);
      await file.write([Buffer.from('!'), Buffer.from('?')], 21);
      assert.equal(await file.sizeBytes(), 23);
      const target = new Uint8Array(32).fill(0x2e);
      assert.equal(await file.read(target, 2, 13, 10), 13);
      assert.equal(Buffer.from(target).toString('latin1', 0, 17), '..hello world!?..');
      assert.equal(await file.read(target, 0, 32, 10), 13);
      assert.equal(await file.read(target, 0, 32, 100), 0);
      await file.sync();
    }));

  it('are read without waiting only when all of it is in the page cache', () =>
    withFile('cached', (file) => {
      const bytes = new Uint8Array(8192).map((_, index) => index);
      file.writeNow([bytes], 0);
      const target = new Uint8Array(8192);
      assert.equal(file.readNow(target, 0, 8192, 0), true);
      assert.deepEqual(target, bytes);
      assert.equal(file.readNow(target, 0, 8192, 4096), false, 'past the end');
      assert.equal(file.readNow(target, 0, 1, 8192), false, 'at the end');
      assert.equal(file.readNow(target, 8192, 0, 0), true, 'nothing');
    }));

  it('take many runs in one go', () =>
    withFile('runs', async (file) => {
      const source = new Uint8Array(3000).map((_, index) => index >> 4);
      const runs = new Float64Array([0, 1000, 5000, 2000, 1000, 6000, 1000, 1000, 0, 9, 9, 9]);
      await file.writeScattered(source, runs, 3);
      const target = new Uint8Array(7000);
      assert.equal(await file.read(target, 0, 7000, 0), 7000);
      assert.deepEqual(target.subarray(0, 1000), source.subarray(1000, 2000));
      assert.deepEqual(target.subarray(5000, 6000), source.subarray(0, 1000));
      assert.deepEqual(target.subarray(6000), source.subarray(2000));
      await assert.rejects(file.writeScattered(source, runs, 5), RangeError);
      await assert.rejects(file.writeScattered(source, new Float64Array([2999, 2, 0]), 1), RangeError);
      await assert.rejects(file.writeScattered(source, new Float64Array([0, 1.5, 0]), 1), RangeError);
    }));

  it('fill many places in one go, whatever lies between', () =>
    withFile('scattered', async (file) => {
      const bytes = new Uint8Array(400_000).map((_, index) => (index * 31 + (index >> 12)) & 0xff);
      file.writeNow([bytes], 0);
      // Together in file and memory, together in the file alone, small gaps, a large one, backwards, twice, empty.
      const runs: readonly (readonly [start: number, lengthBytes: number, position: number])[] = [
        [0, 100, 50],
        [100, 200, 150],
        [1000, 50, 350],
        [500, 70, 500],
        [600, 10, 20_000],
        [700, 20, 390_000],
        [800, 30, 10],
        [900, 40, 10],
        [950, 0, 5000],
      ];
      const target = new Uint8Array(1100).fill(0xee);
      const expected = target.slice();
      for (const [start, lengthBytes, position] of runs)
        expected.set(bytes.subarray(position, position + lengthBytes), start);
      const wanted = runs.reduce((sum, [, lengthBytes]) => sum + lengthBytes, 0);
      assert.equal(await file.readScattered(target, Float64Array.from(runs.flat()), runs.length), wanted);
      assert.deepEqual(target, expected);
      assert.equal(await file.readScattered(target, new Float64Array(0), 0), 0);
      // More places than one system call takes.
      const many = Array.from({ length: 5000 }, (_, run) => [4999 - run, 1, run * 64]);
      const one = new Uint8Array(5000);
      assert.equal(await file.readScattered(one, Float64Array.from(many.flat()), many.length), 5000);
      assert.ok(one.every((byte, index) => byte === bytes[(4999 - index) * 64]));
    }));

  it('say how many of many places they could fill', () =>
    withFile('short', async (file) => {
      file.writeNow([new Uint8Array(10_000).fill(1)], 0);
      const target = new Uint8Array(4096);
      const read = (...runs: number[]): Promise<number> =>
        file.readScattered(target, Float64Array.from(runs), runs.length / 3);
      assert.ok((await read(0, 100, 0, 100, 100, 9950)) < 200);
      assert.equal(await read(0, 100, 9901), 0);
      assert.equal(await read(0, 100, 20_000), 0);
      await assert.rejects(read(4000, 100, 0), RangeError);
      await assert.rejects(read(0, 100, -1), RangeError);
      await assert.rejects(file.readScattered(target, new Float64Array(3), 2), RangeError);
    }));

  it('know their holes', () =>
    withFile('holes', async (file) => {
      await file.truncate(1 << 20);
      assert.equal(await file.nextData(0), undefined);
      await file.allocate(0, 65536);
      assert.equal(await file.sizeBytes(), 1 << 20);
      file.writeNow([new Uint8Array(131072).fill(1)], 262144);
      file.startWriteOut(262144, 131072);
      const data = await file.nextData(262144);
      assert.deepEqual(data, { start: 262144, end: 393216 });
      await file.punch(262144, 65536);
      const target = new Uint8Array(131072).fill(9);
      await file.read(target, 0, 131072, 262144);
      assert.ok(target.every((byte, index) => byte === (index < 65536 ? 0 : 1)));
    }));

  it('keep their space where they are to, whatever is punched out', async () => {
    const path = 'keeps';
    const thin = await disk.open(path, { mode: 'write', create: true });
    await thin.truncate(1 << 20);
    const allocated = (): number => statSync(join(disk.root, path)).blocks * 512;
    if (!(await thin.reserve(0, 1 << 20))) return;
    const file = await disk.open(path, { mode: 'write', keepsSpace: true });
    file.writeNow([new Uint8Array(131072).fill(1)], 0);
    await file.punch(0, 65536);
    const target = new Uint8Array(131072).fill(9);
    await file.read(target, 0, 131072, 0);
    assert.ok(target.every((byte, index) => byte === (index < 65536 ? 0 : 1)));
    assert.ok(allocated() >= 1 << 20);
    await thin.punch(0, 1 << 20);
    assert.ok(allocated() < 1 << 19);
    await Promise.all([file.close(), thin.close()]);
  });

  it('answer many operations at once', () =>
    withFile('many', async (file) => {
      await Promise.all(Array.from({ length: 500 }, (_, k) => file.write([new Uint8Array(64).fill(k)], k * 64)));
      const targets = Array.from({ length: 500 }, () => new Uint8Array(64));
      const counts = await Promise.all(targets.map((target, k) => file.read(target, 0, 64, k * 64)));
      assert.ok(counts.every((count) => count === 64));
      targets.forEach((target, k) => assert.ok(target.every((byte) => byte === (k & 0xff))));
    }));

  it('refuse arguments outside the buffer before the disk sees them', () =>
    withFile('bounds', async (file) => {
      const target = new Uint8Array(16);
      for (const [start, length] of [
        [0, 17],
        [16, 1],
        [17, 0],
        [-1, 1],
        [0.5, 1],
        [NaN, 1],
      ] as const) {
        assert.throws(() => file.readNow(target, start, length, 0), RangeError);
        await assert.rejects(file.read(target, start, length, 0), RangeError);
      }
      assert.throws(() => file.readNow(target, 0, 1, -1), RangeError);
      assert.throws(() => file.writeNow([target], 2 ** 53), RangeError);
      assert.throws(() => file.writeNow([target, 'x' as unknown as Uint8Array], 0), TypeError);
      assert.throws(() => file.writeNow('x' as unknown as Uint8Array[], 0), TypeError);
      assert.throws(() => file.startWriteOut(Number.MAX_SAFE_INTEGER, 1), RangeError);
      assert.equal(await file.sizeBytes(), 0);
    }));

  it('look where the parts are only after reading the list of parts', () =>
    withFile('accessor', async (file) => {
      const taken = new Uint8Array(4096);
      const parts = [taken];
      Object.defineProperty(parts, 1, {
        get: () => {
          structuredClone(taken.buffer, { transfer: [taken.buffer] });
          return new Uint8Array(1);
        },
      });
      file.writeNow(parts, 0);
      assert.equal(await file.sizeBytes(), 1);
    }));

  it('cannot be written when opened for reading', async () => {
    writeFileSync(join(root, 'readable'), 'x');
    const file = await disk.open('readable', { mode: 'read' });
    assert.throws(
      () => file.writeNow([new Uint8Array(1)], 0),
      failure('disk-failed', /^pwritev readable at 0: bad file/),
    );
    await file.close();
  });
});

describe('closing', () => {
  it('waits for operations under way, and refuses later ones', async () => {
    const file = await disk.open('closing', { mode: 'write', create: true });
    file.writeNow([new Uint8Array(65536)], 0);
    const target = new Uint8Array(65536);
    const order: string[] = [];
    const reads = Array.from({ length: 20 }, () => file.read(target, 0, 65536, 0).then(() => order.push('read')));
    const closes = [file.close(), file.close()].map((close) => close.then(() => order.push('closed')));
    await assert.rejects(file.read(target, 0, 1, 0), failure('disk-failed', /^pread closing at 0: .*\(EBADF\)$/));
    await Promise.all([...reads, ...closes]);
    assert.deepEqual(order, [...Array<string>(20).fill('read'), 'closed', 'closed']);
    assert.equal(file.readNow(target, 0, 1, 0), false);
    assert.throws(() => file.writeNow([target], 0), failure('disk-failed', /EBADF/));
    await assert.rejects(file.sync(), failure('disk-failed', /^fdatasync closing: bad file descriptor \(EBADF\)$/));
    await assert.rejects(file.nextData(0), failure('disk-failed', /EBADF/));
    file.startWriteOut(0, 1);
  });
});

describe('paths', () => {
  it('lead to what was made, for its owner only', async () => {
    await disk.makeDirectory('deep/er/est');
    await disk.makeDirectory('deep/er/est');
    await (await disk.open('deep/er/b', { mode: 'write', create: true })).close();
    await (await disk.open('deep/er/a', { mode: 'write', create: true })).close();
    assert.deepEqual(await disk.list('deep/er'), ['a', 'b', 'est']);
    assert.deepEqual(await disk.list('nowhere'), []);
    assert.equal(statSync(join(root, 'deep')).mode & 0o777, 0o700);
    assert.equal(statSync(join(root, 'deep/er/a')).mode & 0o777, 0o600);
    await disk.rename('deep/er/a', 'deep/er/b');
    assert.equal(await disk.exists('deep/er/a'), false);
    assert.equal(await disk.exists('deep/er'), true);
    await disk.syncDirectory('deep/er');
    await disk.remove('deep/er/b');
    await assert.rejects(disk.remove('deep/er/b'), failure('not-found', /^unlink deep\/er\/b: no such file/));
    assert.ok((await disk.freeBytes()) > 0);
  });

  it('never lead out of the root', async () => {
    for (const path of ['..', '../x', '/etc/passwd', 'deep/../../x', './..']) {
      await assert.rejects(disk.exists(path), { name: 'InvariantError' });
      await assert.rejects(disk.open(path, { mode: 'read' }), { name: 'InvariantError' });
    }
    await assert.rejects(disk.exists('a\0b'), RangeError);
    symlinkSync('/etc/passwd', join(root, 'link'));
    await assert.rejects(disk.open('link', { mode: 'read' }), failure('disk-failed', /^open link: .*\(ELOOP\)$/));
    await assert.rejects(disk.readSmall('link'), failure('disk-failed', /ELOOP/));
  });

  it('say which of them failed, and why', async () => {
    await assert.rejects(
      disk.open('missing', { mode: 'read' }),
      failure('not-found', /^open missing: no such file or directory \(ENOENT\)$/),
    );
    await assert.rejects(disk.open('.', { mode: 'read' }), failure('disk-failed', /EISDIR/));
    await (await disk.open('there', { mode: 'write', create: true })).close();
    await assert.rejects(disk.open('there', { mode: 'write', create: true }), failure('disk-failed', /EEXIST/));
    await assert.rejects(disk.makeDirectory('there/below'), failure('disk-failed', /ENOTDIR/));
  });
});

describe('small files', () => {
  it('are replaced whole', async () => {
    await disk.writeSmall('small', Buffer.from('one'));
    await disk.writeSmall('small', Buffer.from('two!'));
    assert.equal(Buffer.from(await disk.readSmall('small')).toString(), 'two!');
    assert.equal(statSync(join(root, 'small')).mode & 0o777, 0o600);
    assert.equal(await disk.exists('small.tmp'), false);
    await disk.writeSmall('small', new Uint8Array(0));
    assert.equal((await disk.readSmall('small')).length, 0);
  });

  it('do not overtake one another', async () => {
    await Promise.all(Array.from({ length: 20 }, (_, k) => disk.writeSmall('counter', Buffer.from(String(k)))));
    assert.equal(readFileSync(join(root, 'counter'), 'utf8'), '19');
  });

  it('are small', async () => {
    writeFileSync(join(root, 'large'), new Uint8Array((1 << 20) + 1));
    await assert.rejects(disk.readSmall('large'), failure('disk-failed', /^read large: file too large \(EFBIG\)$/));
    await assert.rejects(disk.writeSmall('large', new Uint8Array((1 << 20) + 1)), { name: 'InvariantError' });
  });
});

describe('the lock', () => {
  it('excludes this process and others, and says who has it', async () => {
    const lock = await disk.lock('lock');
    await assert.rejects(
      disk.lock('lock'),
      failure('volume-locked', new RegExp(`/lock is locked by process ${process.pid}$`)),
    );
    await assert.rejects(new NativeDisk(root).lock('lock'), failure('volume-locked', /locked/));
    const code = `import { NativeDisk } from ${JSON.stringify(diskModule)};
      await new NativeDisk(${JSON.stringify(root)}).lock('lock').then(() => console.log('got it'), (error) => console.log(error.message));`;
    const other = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' });
    assert.match(other.stdout, new RegExp(`is locked by process ${process.pid}\n$`), other.stderr);
    await lock.release();
    await (await disk.lock('lock')).release();
  });

  it('goes with the process that held it, however that ends', async () => {
    const code = `import { NativeDisk } from ${JSON.stringify(diskModule)};
      globalThis.kept = await new NativeDisk(${JSON.stringify(root)}).lock('killed');
      console.log('locked');
      setInterval(() => {}, 1000);`;
    const holder = spawn(process.execPath, ['--input-type=module', '-e', code], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    await assert.rejects(disk.lock('killed'), failure('volume-locked', new RegExp(`process ${holder.pid}$`)));
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    await (await disk.lock('killed')).release();
  });
});

describe('a disk that is full or not to be written', () => {
  /** Runs `script` as a module in a mount namespace of its own, with a tmpfs of 256 KiB at its first argument. */
  function onSmallFileSystem(
    options: string,
    script: string,
  ): { status: number | null; output: string; reason: string } {
    const mountPoint = mkdtempSync(join(root, 'mount-'));
    const shell = 'mount -t tmpfs -o "$1" tmpfs "$2" || exit 77; shift; exec "$0" --input-type=module -e "$2" "$1"';
    const user = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'];
    const result = spawnSync(
      'unshare',
      [...user, '--mount', 'sh', '-c', shell, process.execPath, options, mountPoint, script],
      { encoding: 'utf8' },
    );
    return { status: result.status, output: result.stdout, reason: result.error?.message ?? result.stderr };
  }
  const load = `import { NativeDisk } from ${JSON.stringify(diskModule)};
    const disk = new NativeDisk(process.argv[1]);
    const report = (error) => console.log(error.code + ' ' + error.retryable + ' ' + error.message);`;

  it('says so with the code for it', (context) => {
    const script = `${load}
      const file = await disk.open('f', { mode: 'write', create: true });
      try { file.writeNow([new Uint8Array(1 << 20)], 4096); } catch (error) { report(error); }
      await file.write([new Uint8Array(1 << 20)], 0).catch(report);
      await file.allocate(1 << 20, 1 << 20).catch(report);
      await disk.writeSmall('small', new Uint8Array(1 << 19)).catch(report);
      console.log(await disk.exists('small'), await disk.exists('small.tmp'));`;
    const { status, output, reason } = onSmallFileSystem('size=256k', script);
    if (status === 77 || status === null) return context.skip(`no small file system can be mounted: ${reason}`);
    assert.deepEqual(
      output.split('\n'),
      [
        'disk-full true pwritev f at 4096: no space left on device (ENOSPC)',
        'disk-full true pwritev f at 0: no space left on device (ENOSPC)',
        'disk-full true fallocate f at 1048576: no space left on device (ENOSPC)',
        'disk-full true write small: no space left on device (ENOSPC)',
        'false false',
        '',
      ],
      reason,
    );
  });

  it('is unwritable when it is read-only', (context) => {
    const script = `${load}
      await disk.open('f', { mode: 'write', create: true }).catch(report);
      await disk.lock('lock').catch(report);
      await disk.makeDirectory('d').catch(report);`;
    const { status, output, reason } = onSmallFileSystem('size=256k,ro', script);
    if (status === 77 || status === null) return context.skip(`no small file system can be mounted: ${reason}`);
    assert.deepEqual(
      output.split('\n'),
      [
        'directory-unwritable false open f: read-only file system (EROFS)',
        'directory-unwritable false open lock: read-only file system (EROFS)',
        'directory-unwritable false mkdir d: read-only file system (EROFS)',
        '',
      ],
      reason,
    );
  });
});
