/**
 * `upload: auto` of a real gateway beside other traffic, over a line whose queue delays answers: it finds the line's rate,
 * gives way, and takes it again. The line takes everything at once, so nothing but answers tells of the queue: one for each
 * segment, be it small or large. The longer runs only (`npm run test:long`). In virtual time, over lines of many kinds: test/unit/bandwidth/auto-rate.test.ts.
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
const long = process.env['KEEPGATE_TEST_LONG'] === '1';

describe('automatic bandwidth beside other traffic', () => {
  for (const segmentSize of ['256KiB', '8MiB']) {
    it(
      `fills the line, gives way while others fill it, and fills it again: segments of ${segmentSize}`,
      { skip: !long },
      async (t) => {
        const bytesPerSecond = 4e6;
        const s3 = await startDiskS3();
        const line = await SlowLine.start(s3.port, bytesPerSecond, { deep: true });
        const gateway = await TestGateway.start({
          volumes: [
            { name: 'disk', size: '1GiB', buffer: { size: '2GiB' }, replicate: { interval: '1s', segmentSize } },
          ],
          store: { url: 's3://bucket/prefix', endpoint: line.endpoint, forcePathStyle: true },
          bandwidth: { upload: 'auto' },
          env,
        });
        /** The share of what the line carried that was the gateway's, of its capacity too. */
        const share = async (seconds: number): Promise<{ ofLine: number; ofCarried: number }> => {
          const [own, others, beganMs] = [line.carriedBytes, line.othersBytes, performance.now()];
          await delay(seconds * 1000);
          const capacity = (bytesPerSecond * (performance.now() - beganMs)) / 1000;
          const [ownBytes, othersBytes] = [line.carriedBytes - own, line.othersBytes - others];
          const result = { ofLine: ownBytes / capacity, ofCarried: ownBytes / Math.max(1, ownBytes + othersBytes) };
          t.diagnostic(JSON.stringify(result));
          return result;
        };
        const until = async (what: string, holds: (found: Awaited<ReturnType<typeof share>>) => boolean) => {
          for (let span = 0; span < 30; span++) if (holds(await share(5))) return;
          assert.fail(`never: ${what}\n${gateway.log()}`);
        };
        try {
          const nbd = await NbdClient.connect(gateway.nbdPort, 'disk');
          for (let at = 0; at < 900; at += 4) await nbd.write(at * mebibyte, randomBytes(4 * mebibyte));
          await nbd.flush();
          await nbd.close();
          await until('most of an idle line', ({ ofLine }) => ofLine > 0.6);
          line.othersQueueMs = 200;
          await until('little beside others', ({ ofCarried }) => ofCarried < 0.3);
          line.othersQueueMs = 0;
          await until('most of the line again', ({ ofLine }) => ofLine > 0.6);
        } finally {
          await gateway.dispose();
          await line.stop();
          await s3.stop();
        }
      },
    );
  }
});
