/** The addon's life with its environments: workers that end, garbage that is collected, a process that exits. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';

const moduleUrl = (name: string): string => new URL(`../../../src/platform/${name}.js`, import.meta.url).href;
const load = `const { NativeDisk } = await import(${JSON.stringify(moduleUrl('native-disk'))});
  const { loadAddon } = await import(${JSON.stringify(moduleUrl('addon'))});`;

let root: string;
before(() => {
  root = mkdtempSync(join(tmpdir(), 'keepgate-addon-'));
});
after(() => rmSync(root, { recursive: true }));

function run(script: string, options: { flags?: string[]; env?: Record<string, string> } = {}) {
  return spawnSync(
    process.execPath,
    [...(options.flags ?? []), '--input-type=module', '-e', `${load}\n${script}`, root],
    {
      encoding: 'utf8',
      env: { ...process.env, ...options.env },
      timeout: 60_000,
    },
  );
}

describe('a wait for the kernel’s messages', () => {
  // Every kernel has this family.
  const open = "const link = loadAddon().openNetlink('nlctrl', 'notify'); const next = loadAddon().netlinkNext(link);";

  it('keeps the process until it is cancelled', () => {
    const ended = run(`${open} setImmediate(() => loadAddon().cancelNetlink(link)); console.log(await next);`);
    assert.equal(ended.stderr, '');
    assert.equal(ended.stdout, `${-constants.errno.ECANCELED}\n`);
  });

  it('does not keep a process that exits, nor one whose link nobody holds any more', () => {
    assert.equal(run(`${open} setImmediate(() => process.exit(7));`).status, 7);
    const forgotten = `${open} setImmediate(() => { globalThis.gc(); process.exit(8); });`;
    assert.equal(run(`{ ${forgotten} }`, { flags: ['--expose-gc'] }).status, 8);
  });

  it('is refused what is no link', () => {
    const ended = run('try { loadAddon().netlinkNext({}); } catch (error) { console.log(error.code, error.message); }');
    assert.equal(ended.stdout, 'ERR_INVALID_ARG_TYPE link must come from openNetlink\n');
    assert.equal(run("console.log(loadAddon().openNetlink('none', 'none'));").stdout, `${-constants.errno.ENOENT}\n`);
  });
});

describe('the addon in worker threads', () => {
  /** Keeps operations of every kind under way, for ever. */
  const busy = `(async () => {
    const { workerData, parentPort } = await import('node:worker_threads');
    ${load}
    const disk = new NativeDisk(workerData);
    await disk.makeDirectory('.');
    const file = await disk.open('busy', { mode: 'write', create: true });
    file.writeNow([new Uint8Array(1 << 20)], 0);
    const aligned = loadAddon().alignedBuffer(1 << 16);
    const forEver = async (operation) => { for (;;) await operation(); };
    for (let k = 0; k < 16; k++) {
      const target = new Uint8Array(65536);
      void forEver(() => file.read(target, 0, 65536, 0));
      void forEver(() => file.write([aligned], 65536 * (k % 16)));
      void forEver(() => file.sync());
      void forEver(() => disk.list('.'));
    }
    file.startWriteOut(0, 1 << 20);
    parentPort.postMessage('busy');
  })();`;

  it('survives their end with operations under way', async () => {
    for (let round = 0; round < 5; round++) {
      const worker = new Worker(busy, { eval: true, workerData: join(root, `worker-${round}`) });
      await once(worker, 'message');
      assert.equal(await worker.terminate(), 1);
    }
  });

  it('serves several at once', async () => {
    const script = `(async () => {
      const { workerData, parentPort } = await import('node:worker_threads');
      ${load}
      const disk = new NativeDisk(workerData.root);
      const file = await disk.open(workerData.name, { mode: 'write', create: true });
      for (let k = 0; k < 50; k++) await file.write([new Uint8Array(4096).fill(k)], k * 4096);
      await file.sync();
      const size = await file.sizeBytes();
      await file.close();
      parentPort.postMessage(size);
    })();`;
    const workers = ['a', 'b', 'c'].map((name) => new Worker(script, { eval: true, workerData: { root, name } }));
    const exits = workers.map((worker) => once(worker, 'exit'));
    const sizes = await Promise.all(workers.map(async (worker) => (await once(worker, 'message')) as [number]));
    assert.deepEqual(sizes.flat(), [204_800, 204_800, 204_800]);
    assert.deepEqual((await Promise.all(exits)).flat(), [0, 0, 0]);
  });

  it('lets a file be used only in the thread that opened it', async () => {
    const script = `(async () => {
      const { workerData, parentPort } = await import('node:worker_threads');
      ${load}
      const results = [];
      for (let handle = 0; handle < 100; handle++) results.push(await loadAddon().fileSize(handle));
      parentPort.postMessage(results.every((result) => result === -9));
    })();`;
    const worker = new Worker(script, { eval: true });
    const exit = once(worker, 'exit'); // before the message: both may be there at once
    assert.deepEqual(await once(worker, 'message'), [true]);
    await exit;
  });
});

describe('the addon and its process', () => {
  it('keeps buffers from the garbage collector while operations use them', () => {
    const script = `
      const disk = new NativeDisk(process.argv[1]);
      const file = await disk.open('collected', { mode: 'write', create: true });
      const writes = [];
      for (let k = 0; k < 200; k++) {
        writes.push(file.write([new Uint8Array(65536).fill(k), loadAddon().alignedBuffer(65536).fill(k)], k * 131072));
        if (k % 20 === 0) globalThis.gc();
      }
      globalThis.gc();
      await Promise.all(writes);
      const target = new Uint8Array(131072);
      for (let k = 0; k < 200; k++) {
        await file.read(target, 0, target.length, k * 131072);
        if (!target.every((byte) => byte === k)) throw new Error('block ' + k + ' was overwritten');
      }
      await file.close();
      console.log('intact');`;
    const result = run(script, { flags: ['--expose-gc'] });
    assert.equal(result.stdout, 'intact\n', result.stderr);
  });

  it('gives aligned buffers back when they are collected', () => {
    const script = `
      const { setImmediate } = await import('node:timers/promises');
      for (let k = 0; k < 300; k++) {
        loadAddon().alignedBuffer(4 << 20).fill(1);
        if (k % 10 === 9) { globalThis.gc(); await setImmediate(); await setImmediate(); }
      }
      console.log(process.memoryUsage().rss < 400 * 2 ** 20);`;
    const result = run(script, { flags: ['--expose-gc'] });
    assert.equal(result.stdout, 'true\n', result.stderr);
  });

  it('lives until what is under way is over, and no longer', () => {
    const script = `
      const disk = new NativeDisk(process.argv[1]);
      const file = await disk.open('pending', { mode: 'write', create: true });
      process.on('exit', () => console.log('exit'));
      void file.write([new Uint8Array(1 << 20)], 0).then(() => file.sync()).then(() => console.log('synced'));`;
    const result = run(script);
    assert.equal(result.stdout, 'synced\nexit\n', result.stderr);
    assert.equal(result.status, 0);
  });

  it('exits at once when told to, operations or not', () => {
    const script = `
      const disk = new NativeDisk(process.argv[1]);
      const file = await disk.open('exiting', { mode: 'write', create: true });
      for (let k = 0; k < 64; k++) void file.write([new Uint8Array(65536)], k * 65536);
      void file.sync();
      process.exit(7);`;
    const result = run(script);
    assert.equal(result.status, 7, result.stderr);
  });

  it('says in one line that it was not built', () => {
    const script = `try { loadAddon(); } catch (error) { console.log(error.code, error.message); }`;
    const result = run(script, { env: { KEEPGATE_ADDON: join(root, 'none.node') } });
    assert.match(result.stdout, /^addon-missing the native addon cannot be loaded: [^\n]*none\.node[^\n]*\n$/);
  });
});
