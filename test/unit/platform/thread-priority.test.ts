import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';

const moduleUrl = new URL('../../../src/platform/thread-priority.js', import.meta.url).href;

/** proc(5): the nice value is the seventeenth field behind a thread's name. */
const fieldsBehindName = 16;
const niceNow = (): number => {
  const stat = readFileSync('/proc/thread-self/stat', 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[fieldsBehindName]);
};

describe('a thread that goes behind the clients', () => {
  it('is nicer than before, and no other is', async () => {
    const before = niceNow();
    const worker = new Worker(
      `const { workerData, parentPort } = require('node:worker_threads');
      const { readFileSync } = require('node:fs');
      import(workerData).then(({ goBehindClients }) => {
        goBehindClients();
        const stat = readFileSync('/proc/thread-self/stat', 'utf8');
        parentPort.postMessage(Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[${fieldsBehindName}]));
      });`,
      { eval: true, workerData: moduleUrl },
    );
    const [nice] = (await once(worker, 'message')) as [number];
    assert.equal(nice, Math.min(19, before + 5));
    assert.equal(niceNow(), before);
    await worker.terminate();
  });
});
