/**
 * How the S3 client reaches a store and what it says there, recorded by HTTP servers: headers of the configuration,
 * credentials that expire, a clock that is wrong, a private authority, a proxy, a limit.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingHttpHeaders, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { BandwidthBudget } from '../../../src/bandwidth/budget.js';
import { UNLIMITED } from '../../../src/ports/bandwidth.js';
import { S3Store } from '../../../src/platform/s3-store.js';
import type { S3StoreOptions } from '../../../src/platform/s3-store.js';
import { SystemClock } from '../../../src/platform/system-clock.js';

const owner = '123456789012';
const credentials = { accessKeyId: 'id', secretAccessKey: 'secret' };

interface Recorded {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

async function close(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

describe('the S3 client', () => {
  let requests: Recorded[];
  let answer: RequestListener;
  let endpoint: string;
  let store: S3Store | undefined;
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? '', 'http://localhost').pathname;
    requests.push({ method: request.method ?? '', path, headers: request.headers });
    request.resume();
    request.on('end', () => answer(request, response));
  });
  before(async () => {
    endpoint = `http://127.0.0.1:${await listen(server)}`;
  });
  after(() => close(server));
  beforeEach(() => {
    requests = [];
    answer = (request, response) => {
      if (request.method === 'GET' && !(request.url ?? '').includes('list-type')) {
        response.writeHead(200, { 'content-length': 1 }).end('x');
      } else response.end(request.method === 'GET' ? '<ListBucketResult></ListBucketResult>' : '');
    };
  });
  afterEach(async () => {
    await store?.close();
    store = undefined;
  });
  const open = (options: Partial<S3StoreOptions> = {}): S3Store => {
    store = new S3Store({
      url: 's3://bucket/pre',
      endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      credentials,
      ...options,
    });
    return store;
  };
  const everything = async (target: S3Store): Promise<void> => {
    await target.put('key', Buffer.from('body'), { ifAbsent: true });
    await target.get('key');
    await target.head('key');
    for await (const object of target.list('')) assert.fail(object.key);
    await target.delete('key');
  };

  it('says encryption and storage class with each PUT, owner and payer with every request', async () => {
    await everything(
      open({
        storageClass: 'STANDARD_IA',
        serverSideEncryption: 'aws:kms',
        kmsKeyId: 'arn:aws:kms:eu-west-1:123456789012:key/abc',
        requestPayer: 'requester',
        expectedBucketOwner: owner,
      }),
    );
    assert.deepEqual(
      requests.map(({ method }) => method),
      ['PUT', 'GET', 'HEAD', 'GET', 'DELETE'],
    );
    for (const { method, headers } of requests) {
      const put = method === 'PUT';
      assert.equal(headers['x-amz-expected-bucket-owner'], owner, method);
      assert.equal(headers['x-amz-request-payer'], 'requester', method);
      assert.equal(headers['x-amz-storage-class'], put ? 'STANDARD_IA' : undefined);
      assert.equal(headers['x-amz-server-side-encryption'], put ? 'aws:kms' : undefined);
      const key = headers['x-amz-server-side-encryption-aws-kms-key-id'];
      assert.equal(key, put ? 'arn:aws:kms:eu-west-1:123456789012:key/abc' : undefined);
    }
  });

  it('says none of it by itself', async () => {
    await everything(open());
    for (const { headers } of requests) {
      const unusual = Object.keys(headers).filter((name) => /owner|payer|storage|encryption|checksum/.test(name));
      assert.deepEqual(unusual, []);
    }
  });

  it('renews credentials of the default chain when they expire', async () => {
    const before = { ...process.env };
    let issued = 0;
    const source = createServer((_, response) => {
      issued += 1;
      // Less time left than the SDK wants: the next request needs new ones.
      const Expiration = new Date(Date.now() + 60_000).toISOString();
      response.end(JSON.stringify({ AccessKeyId: `KEY${issued}`, SecretAccessKey: 's', Token: 't', Expiration }));
    });
    const others = Object.entries(process.env).filter(([name]) => !name.startsWith('AWS_') || name.includes('WARNING'));
    process.env = Object.fromEntries(others);
    process.env['AWS_CONTAINER_CREDENTIALS_FULL_URI'] = `http://127.0.0.1:${await listen(source)}/`;
    process.env['AWS_SHARED_CREDENTIALS_FILE'] = '/dev/null';
    process.env['AWS_CONFIG_FILE'] = '/dev/null';
    try {
      const target = new S3Store({ url: 's3://bucket/pre', endpoint, region: 'us-east-1', forcePathStyle: true });
      store = target;
      for (let at = 0; at < 3; at++) await target.head('key');
      const keys = requests.map(({ headers }) => /Credential=(\w+)/.exec(headers.authorization ?? '')?.[1]);
      assert.equal(keys[0], 'KEY1');
      assert.ok(new Set(keys).size > 1, `never renewed: ${keys.join(' ')}`);
      for (const { headers } of requests) assert.equal(headers['x-amz-security-token'], 't');
    } finally {
      process.env = before;
      await close(source);
    }
  });

  it('signs with the store’s time after the store found the clock wrong', async () => {
    const aheadMs = 3 * 3_600_000;
    answer = (request, response) => {
      const stamp = String(request.headers['x-amz-date']);
      const signedMs = Date.parse(stamp.replace(/(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/, '$1-$2-$3T$4:$5:$6Z'));
      const storeMs = Date.now() + aheadMs;
      response.setHeader('date', new Date(storeMs).toUTCString());
      if (Math.abs(signedMs - storeMs) < 900_000) return void response.end();
      response.writeHead(403, { 'content-type': 'application/xml' });
      response.end('<?xml version="1.0"?><Error><Code>RequestTimeTooSkewed</Code><Message>no</Message></Error>');
    };
    const target = open();
    const put = () => target.put('key', Buffer.from('x'), { ifAbsent: true });
    await assert.rejects(put(), { code: 'store-failed', retryable: true });
    assert.equal(await put(), 'stored');
  });

  it('keeps a body to the limit, signed as a whole', async () => {
    const clock = new SystemClock();
    const budget = (limit: number) => new BandwidthBudget({ clock, limit, onRate: () => undefined });
    const arrivals: number[] = [];
    let received = 0;
    const spread = createServer((request, response) => {
      request.on('data', (chunk: Buffer) => {
        arrivals.push(performance.now());
        received += chunk.length;
      });
      request.on('end', () => response.end());
    });
    try {
      const target = open({
        endpoint: `http://127.0.0.1:${await listen(spread)}`,
        paces: { upload: budget(1_000_000), download: budget(UNLIMITED) },
      });
      const beganMs = performance.now();
      await target.put('key', Buffer.alloc(400_000), { ifAbsent: true });
      assert.equal(received, 400_000);
      // The burst of 64 KiB passes at once, the rest takes at least its time, however slow the machine is.
      assert.ok((arrivals.at(-1) ?? 0) - beganMs >= 280, 'the body came at once');
      assert.ok(arrivals.length > 10, `in ${arrivals.length} pieces`);
    } finally {
      await close(spread);
    }
  });

  describe('over TLS', () => {
    let folder: string;
    let secure: Server;
    let port: number;
    before(async () => {
      folder = await mkdtemp(join(tmpdir(), 'keepgate-tls-'));
      const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
      const subject = ['-subj', '/CN=private', '-addext', 'subjectAltName=IP:127.0.0.1'];
      const kind = [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '2',
      ];
      await promisify(execFile)('openssl', [...kind, ...subject, '-keyout', key, '-out', cert]);
      secure = createTlsServer({ key: await readFile(key), cert: await readFile(cert) }, (request, response) => {
        requests.push({ method: request.method ?? '', path: request.url ?? '', headers: request.headers });
        request.resume().on('end', () => response.end());
      });
      port = await listen(secure);
    });
    after(async () => {
      await close(secure);
      await rm(folder, { recursive: true });
    });

    it('trusts a private authority that caFile names, and no other', async () => {
      const stranger = open({ endpoint: `https://127.0.0.1:${port}` });
      await assert.rejects(stranger.head('key'), { code: 'store-unreachable' });
      await stranger.close();
      const target = open({ endpoint: `https://127.0.0.1:${port}`, caFile: join(folder, 'cert.pem') });
      assert.equal((await target.head('key'))?.key, 'key');
    });

    it('says what is wrong with caFile', async () => {
      const empty = join(folder, 'empty.pem');
      await writeFile(empty, 'nothing');
      for (const [caFile, message] of [
        [empty, /^store.caFile: .*empty.pem holds no certificate; write PEM$/],
        [join(folder, 'absent.pem'), /^store.caFile: .*absent.pem cannot be read$/],
      ] as const) {
        assert.throws(() => open({ caFile }), { code: 'config-invalid', message });
      }
    });

    it('goes through a proxy, to which only the host is known', async () => {
      const asked: string[] = [];
      const proxy = createServer((_, response) => response.writeHead(500).end());
      proxy.on('connect', (request, client) => {
        asked.push(request.url ?? '');
        const upstream = connect(port, '127.0.0.1', () => {
          client.write('HTTP/1.1 200 OK\r\n\r\n');
          upstream.pipe(client).pipe(upstream);
        });
        for (const socket of [upstream, client]) socket.on('error', () => undefined);
      });
      try {
        const target = open({
          endpoint: `https://127.0.0.1:${port}`,
          caFile: join(folder, 'cert.pem'),
          proxy: `http://127.0.0.1:${await listen(proxy)}`,
        });
        assert.equal(await target.put('key', Buffer.from('x'), { ifAbsent: true }), 'stored');
        assert.deepEqual(asked, [`127.0.0.1:${port}`]);
        assert.equal(requests.at(-1)?.headers['if-none-match'], '*');
      } finally {
        await store?.close();
        await close(proxy);
      }
    });
  });
});
