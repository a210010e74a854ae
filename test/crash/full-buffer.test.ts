/** A full buffer is all read again after a kill: every acknowledged write is there, then in the bucket too (P1, P2). */
import { describe, it } from 'node:test';
import { recoverFullBuffer } from './full-buffer.js';
import { chosenSeed, withSeed } from './seed.js';

const bufferMiB = process.env['KEEPGATE_TEST_LONG'] === '1' ? 1024 : 64;

describe('a process killed with its buffer full', () => {
  it(`${bufferMiB} MiB, the store away`, async () => {
    await withSeed(chosenSeed(), async (seed) => {
      await recoverFullBuffer({ seed, bufferMiB, sizeMiB: 1.5 * bufferMiB, connections: 3, requestsPerClient: 32 });
    });
  });
});
