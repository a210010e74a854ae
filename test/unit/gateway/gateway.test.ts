/** A whole gateway as a process: start, exclusive attachment, drain, restart, stop, and what it refuses. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { VolumeReport } from '../../../src/api/volume-report.js';
import { CMD, NbdClient } from '../../fake/nbd-client.js';
import { TestGateway, keepgatePath } from '../../tool/gateway.js';
import { attempt, eventually } from '../../tool/process.js';

const kib = 1024;
const disk = { name: 'disk0', size: '16MiB', buffer: { size: '64MiB' } };

function attach(gateway: TestGateway, volume = 'disk0'): Promise<NbdClient> {
  return NbdClient.attach({ host: '127.0.0.1', port: gateway.nbdPort }, volume);
}

async function read(gateway: TestGateway, offset: number, length: number, volume = 'disk0'): Promise<Buffer> {
  const client = await attach(gateway, volume);
  const reply = await client.request({ type: CMD.READ, offset, length });
  await client.disconnect();
  assert.equal(reply.error, 0);
  return reply.data;
}

describe('a gateway', () => {
  let gateway: TestGateway;
  before(async () => {
    gateway = await TestGateway.start({ volumes: [disk, { ...disk, name: 'local', replicate: { enabled: false } }] });
  });
  after(() => gateway.dispose());
  const report = async (name: string) => (await gateway.api(`/v1/volumes/${name}`)) as VolumeReport;

  it('keeps its secrets to its owner', async () => {
    for (const name of ['run.json', 'api-token', 'lock']) {
      assert.equal((await stat(join(gateway.dataDir, name))).mode & 0o077, 0, name);
    }
    const token = (await readFile(join(gateway.dataDir, 'api-token'), 'utf8')).trim();
    const key = (await readFile(gateway.keyFile, 'utf8')).trim();
    assert.ok(!gateway.log().includes(token));
    assert.ok(!gateway.log().includes(key));
  });

  it('drains what was written, and shows it', async () => {
    const client = await attach(gateway);
    const payload = randomBytes(256 * kib);
    const reply = await client.request({ type: CMD.WRITE, offset: 1024 * kib, payload });
    assert.equal(reply.error, 0);
    const during = await report('disk0');
    assert.equal(during.clients.length, 1);
    assert.deepEqual(await gateway.api('/v1/sessions'), [
      { id: 'disk0.1', volume: 'disk0', frontend: 'nbd', client: 'nbd 127.0.0.1', connections: 1 },
    ]);
    const drained = await gateway.command(['drain', 'disk0']);
    assert.equal(drained.stdout, 'disk0: all that was acknowledged is replicated\n');
    assert.equal(drained.status, 0);
    const { replication, lsn } = await report('disk0');
    assert.equal(replication.recoveryPoint?.lsn, lsn.replicated);
    assert.equal(replication.lagSeconds, 0);
    await client.disconnect();
    assert.deepEqual(await read(gateway, 1024 * kib, 256 * kib), payload);
  });

  it('refuses to drain what does not replicate, or is not there', async () => {
    const local = await gateway.command(['drain', 'local']);
    assert.equal(local.stderr, 'keepgate: volume local does not replicate: replicate.enabled is false\n');
    assert.equal(local.status, 2);
    const none = await gateway.command(['drain', 'none']);
    assert.match(none.stderr, /^keepgate: there is no volume "none"\. /);
    assert.equal(none.status, 2);
  });

  it('grows a volume while it is attached, for good', async () => {
    const grown = await gateway.command(['resize', 'local', '24MiB']);
    assert.match(grown.stdout, /^local has 24 MiB\n/);
    assert.equal(grown.status, 0);
    assert.equal((await report('local')).sizeBytes, 24 * 1024 * kib);
    const shrunk = await gateway.command(['resize', 'local', '16MiB']);
    assert.match(
      shrunk.stderr,
      /^keepgate: volume local has 25165824 bytes and cannot get 16777216: a volume only grows/,
    );
    assert.equal(shrunk.status, 2);
    const none = await gateway.command(['resize', 'local', 'huge']);
    assert.match(none.stderr, /^keepgate: size: "huge" is not a size/);
  });

  it('shows its volumes as a table and as JSON', async () => {
    const table = await gateway.command(['status']);
    assert.match(table.stdout, /disk0 +online +16 MiB /);
    assert.match(table.stdout, /local +online .* off /);
    assert.equal(table.status, 0);
    const json = await gateway.command(['status', '--json']);
    const names = (JSON.parse(json.stdout) as VolumeReport[]).map(({ name }) => name);
    assert.deepEqual(names, ['disk0', 'local']);
  });

  it('lists what is in the bucket', async () => {
    const listed = await gateway.command(['remote', 'ls', `file://${gateway.storeDirectory}`]);
    assert.match(listed.stdout, /^UUID +VOLUME +SIZE +RECOVERY POINT +OBJECTS +BYTES\n/);
    assert.match(listed.stdout, /^[0-9a-f-]{36} {2}disk0 +16 MiB {2}1-\d+ of .*Z +\d+ +[\d.]+ KiB$/m);
    assert.equal(listed.status, 0);
  });

  it('lists the keys that open a volume there, and says what is theirs as JSON', async () => {
    const args = ['key', 'list', 'disk0', '--from', `file://${gateway.storeDirectory}`];
    const listed = await gateway.command(args);
    assert.match(listed.stdout, /^KEY +WHAT IT IS\n[0-9a-f]{32} {2}the given key: opens\n$/);
    const json = JSON.parse((await gateway.command([...args, '--json'])).stdout) as object[];
    assert.deepEqual(json, [{ id: listed.stdout.split('\n')[1]?.split(' ')[0], opens: true }]);
  });

  it('keeps a second gateway off its data directory', async () => {
    const second = await attempt(process.execPath, [keepgatePath, 'serve', '--config', gateway.configFile]);
    const lines = second.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
    assert.deepEqual(lines, [
      `keepgate: ${gateway.dataDir} is in use by another gateway. Another gateway has this data directory open: stop that one.`,
    ]);
    assert.equal(second.status, 2);
    assert.equal((await fetch(`${gateway.apiUrl}/readyz`)).status, 200);
  });

  it('takes over a new upload limit on SIGHUP, names what needs a restart, and survives a wrong file', async () => {
    const content = JSON.parse(await readFile(gateway.configFile, 'utf8')) as Record<string, unknown>;
    const reread = async (changed: object, line: string): Promise<void> => {
      await writeFile(gateway.configFile, JSON.stringify(changed));
      process.kill(gateway.pid, 'SIGHUP');
      await eventually(line, () => gateway.log().includes(line));
    };
    await reread(
      {
        ...content,
        bandwidth: { upload: '8Mbit/s' },
        volumes: [disk, { ...disk, name: 'local', access: 'shared', replicate: { enabled: false } }],
      },
      'volumes: local changed in the configuration',
    );
    assert.equal(await gateway.metric('keepgate_upload_limit_bytes_per_second'), 1_000_000);
    await reread({ ...content, bandwidth: { upload: 'fast' } }, 'the configuration was not taken over');
    assert.equal(await gateway.metric('keepgate_upload_limit_bytes_per_second'), 1_000_000);
    const token = (await readFile(join(gateway.dataDir, 'api-token'), 'utf8')).trim();
    const answer = await fetch(`${gateway.apiUrl}/v1/bandwidth`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ upload: '2MB/s' }),
    });
    assert.equal(answer.status, 200);
    assert.equal(await gateway.metric('keepgate_upload_limit_bytes_per_second'), 2_000_000);
    // Who spoke last is obeyed.
    await reread(content, '"upload":"unlimited","download":"unlimited"');
    const unlimited = { limit: 'unlimited', by: 'configuration', bytesPerSecond: null };
    assert.deepEqual(await gateway.api('/v1/bandwidth'), { upload: unlimited, download: unlimited });
  });

  it('has everything that was acknowledged after SIGKILL, flushed or not', async () => {
    const client = await attach(gateway);
    const payload = randomBytes(64 * kib);
    assert.equal((await client.request({ type: CMD.WRITE, offset: 0, payload })).error, 0);
    await gateway.kill();
    client.destroy();
    await gateway.startAgain();
    assert.deepEqual(await read(gateway, 0, 64 * kib), payload);
  });

  it('ends on SIGTERM, with nothing left behind', async () => {
    const client = await attach(gateway);
    const payload = randomBytes(64 * kib);
    assert.equal((await client.request({ type: CMD.WRITE, offset: 4096, payload })).error, 0);
    await gateway.stop();
    client.destroy();
    assert.match(gateway.log(), /"msg":"stopped"/);
    await assert.rejects(stat(join(gateway.dataDir, 'run.json')), { code: 'ENOENT' });
    await gateway.startAgain();
    assert.deepEqual(await read(gateway, 4096, 64 * kib), payload);
  });
});

describe('a gateway without its store', () => {
  let gateway: TestGateway;
  before(async () => {
    gateway = await TestGateway.start({ volumes: [disk] });
  });
  after(() => gateway.dispose());

  it('serves what it had, says that replication is blocked, and stops in time', async () => {
    await gateway.stop();
    const hidden = `${gateway.storeDirectory}.hidden`;
    await rename(gateway.storeDirectory, hidden);
    await gateway.startAgain();
    const client = await attach(gateway);
    const payload = randomBytes(4096);
    assert.equal((await client.request({ type: CMD.WRITE, offset: 0, payload })).error, 0);
    const mode = async () => ((await gateway.api('/v1/volumes/disk0')) as VolumeReport).replication.mode;
    await eventually('replication is blocked', async () => (await mode()) === 'blocked');
    await client.disconnect();
    await rename(hidden, gateway.storeDirectory);
    await gateway.drain('disk0');
    await eventually('replication is no longer blocked', async () => (await mode()) !== 'blocked');
  });
});

describe('a gateway whose store accepts and never answers', () => {
  it('serves, and ends on SIGTERM all the same', async () => {
    const silent = createServer((socket) => socket.on('error', () => undefined));
    await new Promise<void>((done) => silent.listen(0, '127.0.0.1', done));
    const endpoint = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    const gateway = await TestGateway.start({ volumes: [disk] });
    try {
      await gateway.stop();
      await gateway.startAgain({
        store: { url: 's3://bucket/prefix', endpoint, forcePathStyle: true },
        env: { AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'secret' },
      });
      const client = await attach(gateway);
      const payload = randomBytes(4096);
      assert.equal((await client.request({ type: CMD.WRITE, offset: 0, payload })).error, 0);
      await gateway.stop();
      assert.match(gateway.log(), /"msg":"stopped"/);
      client.destroy();
    } finally {
      await gateway.dispose();
      silent.close();
    }
  });
});

describe('a new volume', () => {
  it('waits for a store that is not there, and is served once it is', async () => {
    const gateway = await TestGateway.start({ volumes: [disk] });
    try {
      await gateway.stop();
      await rm(join(gateway.dataDir, 'volumes'), { recursive: true });
      // The directory exists, so that this is no first start, which would make the store.
      await rename(gateway.storeDirectory, `${gateway.storeDirectory}.hidden`);
      await rm(`${gateway.storeDirectory}.hidden`, { recursive: true });
      const second = { ...disk, name: 'fresh' };
      await gateway.startAgain({ volumes: [second] });
      assert.equal(((await gateway.api('/v1/volumes/fresh')) as VolumeReport).state, 'online');
    } finally {
      await gateway.dispose();
    }
  });

  it('whose name is used in the bucket is refused, and leaves nothing', async () => {
    const gateway = await TestGateway.start({ volumes: [disk] });
    try {
      await gateway.stop();
      await rm(gateway.dataDir, { recursive: true });
      const again = await attempt(process.execPath, [keepgatePath, 'serve', '--config', gateway.configFile]);
      const lines = again.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
      assert.equal(lines.length, 1);
      assert.match(lines[0] ?? '', /^keepgate: volume disk0: .* already holds a volume disk0 /);
      assert.equal(again.status, 2);
      await assert.rejects(stat(join(gateway.dataDir, 'volumes', 'disk0', 'volume.json')), { code: 'ENOENT' });
    } finally {
      await gateway.dispose();
    }
  });
});
