/**
 * The README on a clean machine with a kernel of its own: its lines lead from the demonstration to a mounted LUKS disk, over NBD,
 * without nbd-watch, and over iSCSI. In the long test the file that was written also comes back from bucket and key.
 */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { suite } from '../tool/suite.js';
import { guestImage, guestTools, type GuestImage } from './guest-image.js';
import { runOneMachine } from './one-machine.js';
import { linesInGuest, readmeScript } from './readme-script.js';

const image = await guestImage();

suite(
  'the README in a real kernel',
  guestTools,
  () => {
    it('leads from the demonstration to a mounted LUKS disk, and back', async (t) => {
      const result = await runOneMachine(image as GuestImage, {
        script: readmeScript(),
        memoryMiB: 1280,
        timeoutMs: 600_000,
      });
      assert.equal(result.status, 0, result.output);
      const typed = [...result.output.matchAll(/^TYPED (.*)$/gm)].map(([, line = '']) => line);
      assert.deepEqual(new Set(typed), new Set(linesInGuest));
      for (const line of result.output.split('\n').filter((text) => / after \d+ s/.test(text))) t.diagnostic(line);
    });
  },
  () => (typeof image === 'string' ? image : undefined),
);
