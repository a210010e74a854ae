/** A killed process loses no acknowledged write, flushed or not (P1), and the bucket can give all of it back (P2). */
import { describe, it } from 'node:test';
import { crashRounds } from './rounds.js';
import { chosenSeed, withSeed } from './seed.js';

const long = process.env['KEEPGATE_TEST_LONG'] === '1';
const rounds = long ? 300 : 6;
const limitedRounds = long ? 25 : 4;

describe('SIGKILL under load', () => {
  it(`${rounds} times: every acknowledged write is there after each restart, and after a restore`, async (t) => {
    await withSeed(chosenSeed(), (seed) => crashRounds({ rounds, seed, say: (line) => t.diagnostic(line) }));
  });

  it(`${limitedRounds} times: uploads that a limit stretches are continued after each kill`, async (t) => {
    await withSeed(chosenSeed(), (seed) =>
      crashRounds({
        rounds: limitedRounds,
        seed,
        say: (line) => t.diagnostic(line),
        bandwidth: { upload: '8MB/s' },
      }),
    );
  });
});
