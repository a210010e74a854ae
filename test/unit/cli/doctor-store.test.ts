/** What `keepgate doctor` says of a store's permissions: each line from a store that answers so. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { startDiskS3, type DiskS3Options } from '../../fake/disk-s3.js';
import { attempt } from '../../tool/process.js';

const main = resolve(import.meta.dirname, '../../../src/cli/main.js');

/** The line about the store, and what is left of the probe there. */
async function storeLine(options: DiskS3Options, compaction: 'on' | 'off'): Promise<{ line: string; left: number }> {
  const store = await startDiskS3(options);
  const folder = await mkdtemp(join(tmpdir(), 'keepgate-doctor-'));
  try {
    const keyFile = join(folder, 'key');
    await writeFile(keyFile, `${Buffer.alloc(32, 7).toString('base64')}\n`, { mode: 0o600 });
    const path = join(folder, 'keepgate.yaml');
    const settings = {
      dataDir: join(folder, 'data'),
      keyFile,
      nbd: { listen: ['127.0.0.1:0'] },
      iscsi: { listen: ['127.0.0.1:0'] },
      api: { listen: '127.0.0.1:0' },
      store: { url: 's3://bucket/prefix', endpoint: store.endpoint, forcePathStyle: true },
      volumes: [{ name: 'disk', size: '16MiB', compaction }],
    };
    await writeFile(path, JSON.stringify(settings));
    const env = { AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'secret', AWS_REGION: 'us-east-1' };
    const { stdout, stderr } = await attempt(process.execPath, [main, 'doctor', '--config', path], { env });
    const line = stdout.split('\n').find((each) => / store: /.test(each));
    assert.ok(line !== undefined, `${stdout}${stderr}`);
    return { line, left: store.keys().length };
  } finally {
    await store.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

const forbidden = { refuseDeletes: [403, 'AccessDenied'] } as const;

describe('doctor on a store', () => {
  it('finds out that what is absent is called forbidden, which would look like a refusal for ever', async () => {
    const { line } = await storeLine({ hideAbsent: true }, 'on');
    assert.match(
      line,
      /^wrong {2}store: .* 403 AccessDenied.*: what is absent must be answered with 404: allow s3:ListBucket/,
    );
  });
});

describe('doctor on a store that forbids deletes', () => {
  it('says what that means where something is to be deleted, and what to do', async () => {
    const { line } = await storeLine(forbidden, 'on');
    assert.match(
      line,
      /^note {3}store: s3:\/\/bucket\/prefix answers; 1 of 8 racing PUTs .*; it lets nobody delete, so that the bucket grows with every write: allow s3:DeleteObject, or say that this is meant by compaction: off/,
    );
  });

  it('finds nothing wrong with it where compaction is off, and does not even try', async () => {
    const { line, left } = await storeLine(forbidden, 'off');
    assert.match(line, /^ok {5}store: s3:\/\/bucket\/prefix answers; 1 of 8 racing PUTs with If-None-Match won$/);
    assert.equal(left, 1);
  });

  it('takes no failure for a prohibition', async () => {
    const { line } = await storeLine({ refuseDeletes: [501, 'NotImplemented'] }, 'on');
    assert.match(line, /^ok {5}store: /);
  });

  it('is content with one that deletes, and leaves nothing there', async () => {
    const { line, left } = await storeLine({}, 'on');
    assert.match(line, /^ok {5}store: /);
    assert.equal(left, 0);
  });
});
