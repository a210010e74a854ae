/**
 * `upload: auto` of a real gateway over a slow line: it finds the line's rate and fills it. How it gives way is shown in
 * virtual time (test/unit/bandwidth/auto-rate.test.ts), and over a line that keeps its queue itself
 * (auto-competition.test.ts): on loopback the kernel holds megabytes for a reader that is slow, which no sender can see.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from '../crash/nbd-client.js';
import { startDiskS3 } from '../fake/disk-s3.js';
import { TestGateway } from '../tool/gateway.js';
import { SlowLine } from '../tool/slow-line.js';

const mebibyte = 1024 * 1024;
const env = { AWS_ACCESS_KEY_ID: 'any', AWS_SECRET_ACCESS_KEY: 'any', AWS_REGION: 'us-east-1' };

describe('automatic bandwidth over a slow line', () => {
  it('uses most of it', async (t) => {
    const bytesPerSecond = 4e6;
    const s3 = await startDiskS3();
    const line = await SlowLine.start(s3.port, bytesPerSecond);
    const gateway = await TestGateway.start({
      volumes: [{ name: 'disk', size: '512MiB', buffer: { size: '1GiB' }, replicate: { interval: '1s' } }],
      store: { url: 's3://bucket/prefix', endpoint: line.endpoint, forcePathStyle: true },
      bandwidth: { upload: 'auto' },
      env,
    });
    /** What it takes of the line, and what it allows itself of it. */
    const shares = async (seconds: number): Promise<{ own: number; limit: number }> => {
      const [own, beganMs] = [line.carriedBytes, performance.now()];
      await delay(seconds * 1000);
      const carried = (bytesPerSecond * (performance.now() - beganMs)) / 1000;
      const limit = (await gateway.metric('keepgate_upload_limit_bytes_per_second')) / bytesPerSecond;
      const share = { own: (line.carriedBytes - own) / carried, limit };
      t.diagnostic(JSON.stringify(share));
      return share;
    };
    /** The first time span in which it holds, of many. */
    const untilShare = async (what: string, holds: (share: Awaited<ReturnType<typeof shares>>) => boolean) => {
      for (let span = 0; span < 50; span++) if (holds(await shares(2))) return; // As long as there is something to send.
      assert.fail(`never: ${what}\n${gateway.log()}`);
    };
    try {
      const nbd = await NbdClient.connect(gateway.nbdPort, 'disk');
      for (let at = 0; at < 400; at += 4) await nbd.write(at * mebibyte, randomBytes(4 * mebibyte));
      await nbd.flush();
      await nbd.close();
      await untilShare('most of an idle line', ({ own }) => own > 0.6);
    } finally {
      await gateway.dispose();
      await line.stop();
      await s3.stop();
    }
  });
});
