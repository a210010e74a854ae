/**
 * What was flushed outlives a power loss on a real file system, in order, and nothing is invented (P1, P5). Only in the
 * long run: a machine that starts in software emulation takes most of a minute, and each cut needs one.
 */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { guestImage, guestTools, type GuestImage } from '../guest/guest-image.js';
import { suite } from '../tool/suite.js';
import { powerLossRounds } from './power-loss.js';

const long = process.env['KEEPGATE_TEST_LONG'] === '1';
const skip = long ? false : 'only in the long run: npm run test:long';
const cuts = 20;
const image = await guestImage();
const seed = Number(process.env['KEEPGATE_TEST_SEED'] ?? process.pid);

suite(
  `power cut under load, ${cuts} times`,
  guestTools,
  () => {
    it('what was flushed is there, in order, and nothing that was never written', { skip }, async (t) => {
      await powerLossRounds({ image: image as GuestImage, cuts, seed, say: (line) => t.diagnostic(line) });
    });

    it('would be seen to fail if fdatasync did nothing', { skip }, async (t) => {
      const patches = [
        {
          file: 'src/platform/native-file.js',
          find: "this.#checked('fdatasync', undefined, await this.#addon.sync(this.#handle));",
          replace: 'await Promise.resolve();',
        },
      ];
      const say = (line: string): void => t.diagnostic(line);
      // Either the ledger finds it, or the gateway itself, which then refuses to serve.
      await assert.rejects(
        powerLossRounds({ image: image as GuestImage, cuts: 5, seed, say, patches }),
        /answered before|was forced|never written|is damaged|lost data that it had promised|volume\.json|superblock/,
      );
    });
  },
  () => (typeof image === 'string' ? image : undefined),
);
