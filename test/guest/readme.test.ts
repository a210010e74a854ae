/**
 * The README on a clean machine with a kernel of its own: its lines lead from the demonstration to a mounted LUKS disk, over NBD,
 * without nbd-watch, and over iSCSI. In the long test the file that was written also comes back from bucket and key.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { suite } from '../tool/suite.js';
import { guestImage, guestTools, type GuestImage } from './guest-image.js';
import { runGuest } from './kernel-guest.js';
import { linesInGuest, readmeScript } from './readme-script.js';
import { makeRuntimeImage } from './runtime-image.js';

const image = await guestImage();

suite(
  'the README in a real kernel',
  guestTools,
  () => {
    it('leads from the demonstration to a mounted LUKS disk, and back', async (t) => {
      const folder = await mkdtemp(join(tmpdir(), 'keepgate-readme-guest-'));
      try {
        const runtime = join(folder, 'runtime.img');
        const data = join(folder, 'data.img');
        await makeRuntimeImage(runtime);
        await writeFile(data, '');
        await truncate(data, 6 * 1024 ** 3);
        const result = await runGuest(image as GuestImage, {
          script: readmeScript(),
          memoryMiB: 1280,
          processors: 2,
          timeoutMs: 600_000,
          disks: [
            { path: runtime, readOnly: true },
            { path: data, readOnly: false },
          ],
        });
        assert.equal(result.status, 0, result.output);
        const typed = [...result.output.matchAll(/^TYPED (.*)$/gm)].map(([, line = '']) => line);
        assert.deepEqual(new Set(typed), new Set(linesInGuest));
        for (const line of result.output.split('\n').filter((text) => / after \d+ s/.test(text))) t.diagnostic(line);
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    });
  },
  () => (typeof image === 'string' ? image : undefined),
);
