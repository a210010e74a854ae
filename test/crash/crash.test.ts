/** A killed process loses no acknowledged write, flushed or not (P1), and the bucket can give all of it back (P2). */
import { describe, it } from 'node:test';
import { crashRounds } from './rounds.js';

const long = process.env['KEEPGATE_TEST_LONG'] === '1';
const rounds = long ? 25 : 6;

describe(`SIGKILL under load, ${rounds} times`, () => {
  it('every acknowledged write is there after each restart, and after a restore', async (t) => {
    const seed = Number(process.env['KEEPGATE_TEST_SEED'] ?? process.pid);
    await crashRounds({ rounds, seed, say: (line) => t.diagnostic(line) });
  });

  it('uploads that a limit stretches are continued after each kill', async (t) => {
    const seed = Number(process.env['KEEPGATE_TEST_SEED'] ?? process.pid) + 1;
    await crashRounds({ rounds, seed, say: (line) => t.diagnostic(line), bandwidth: { upload: '8MB/s' } });
  });
});
