/** What a store or a network may do wrong, played by a small HTTP server: each ends as one GatewayError, untried again. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { IncomingHttpHeaders, RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, beforeEach, describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import type { ErrorCode } from '../../../src/base/errors.js';
import { parseS3Url, S3Store } from '../../../src/platform/s3-store.js';

describe('S3 store', () => {
  let store: S3Store;
  let endpoint: string;
  let answer: RequestListener;
  let requests: { method: string; url: string; headers: IncomingHttpHeaders }[];
  const server = createServer((request, response) => {
    requests.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers });
    request.resume();
    answer(request, response);
  });

  before(async () => {
    process.env['AWS_ACCESS_KEY_ID'] = 'id';
    process.env['AWS_SECRET_ACCESS_KEY'] = 'secret';
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    store = new S3Store({
      url: 's3://bucket/pre/fix',
      endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      silenceMsMax: 300,
    });
  });
  after(async () => {
    await store.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  beforeEach(() => {
    requests = [];
  });

  const failing =
    (status: number, code: string): RequestListener =>
    (_, response) => {
      response.writeHead(status, { 'content-type': 'application/xml' });
      response.end(
        code === '' ? '' : `<?xml version="1.0"?><Error><Code>${code}</Code><Message>said</Message></Error>`,
      );
    };
  const put = () => store.put('key', new Uint8Array(10), { ifAbsent: true });
  const fails = async (request: Promise<unknown>, code: ErrorCode): Promise<void> => {
    await assert.rejects(request, (error) => {
      assert.ok(error instanceof GatewayError, String(error));
      assert.equal(error.code, code, error.message);
      assert.match(error.message, /^s3:\/\/bucket\/pre\/fix\/key: [^\n]+$/);
      return true;
    });
  };

  it('maps what the store says, without trying again', async () => {
    const table: [number, string, ErrorCode][] = [
      [403, 'AccessDenied', 'store-forbidden'],
      [403, 'SignatureDoesNotMatch', 'store-forbidden'],
      [404, 'NoSuchBucket', 'store-bucket-missing'],
      [404, 'NoSuchKey', 'object-missing'],
      [409, 'ConditionalRequestConflict', 'store-failed'],
      [500, 'InternalError', 'store-failed'],
      [500, '', 'store-failed'],
      [501, 'NotImplemented', 'store-no-conditional-put'],
      [503, 'SlowDown', 'store-slow-down'],
      [503, '', 'store-slow-down'],
      [429, 'TooManyRequests', 'store-slow-down'],
    ];
    for (const [status, code, expected] of table) {
      answer = failing(status, code);
      requests = [];
      await fails(put(), expected);
      assert.equal(requests.length, 1, code);
    }
  });

  it('takes 412 for "exists", of a conditional PUT only', async () => {
    answer = failing(412, 'PreconditionFailed');
    assert.equal(await put(), 'exists');
    await fails(store.put('key', new Uint8Array(1), { ifAbsent: false }), 'store-failed');
    assert.deepEqual(
      requests.map(({ headers }) => headers['if-none-match']),
      ['*', undefined],
    );
  });

  it('sends what every S3 takes: no checksum headers, no Expect, the length, the prefix', async () => {
    answer = (_, response) => response.end();
    assert.equal(await store.put('key', new Uint8Array(3_000_000), { ifAbsent: true }), 'stored');
    const [request] = requests;
    assert.ok(request !== undefined);
    assert.equal(request.url.split('?')[0], '/bucket/pre/fix/key');
    assert.equal(request.headers['content-length'], '3000000');
    assert.equal(request.headers.expect, undefined);
    assert.deepEqual(
      Object.keys(request.headers).filter((name) => name.includes('checksum')),
      [],
    );
    assert.equal(request.headers['x-amz-trailer'], undefined);
  });

  const range = { start: 100, lengthBytes: 50 };
  const part =
    (contentRange: string, lengthBytes: number, sent = lengthBytes): RequestListener =>
    (_, response) => {
      response.writeHead(206, { 'content-range': contentRange, 'content-length': lengthBytes });
      response.write(Buffer.alloc(sent));
      if (sent < lengthBytes) response.socket?.destroySoon();
      else response.end();
    };

  it('refuses a body that is shorter than it must be', async () => {
    answer = part('bytes 100-149/1000', 50, 20);
    await fails(store.get('key', { range }), 'store-unreachable');
    answer = part('bytes 100-149/1000', 20);
    await fails(store.get('key', { range }), 'store-failed');
    answer = part('bytes 100-149/1000', 60);
    await fails(store.get('key', { range }), 'store-failed');
    answer = part('bytes 100-149/1000', 50);
    assert.equal((await store.get('key', { range })).length, 50);
  });

  it('refuses another range than it asked for, and one that is ignored', async () => {
    answer = part('bytes 0-49/1000', 50);
    await fails(store.get('key', { range }), 'store-failed');
    answer = (_, response) => response.end(Buffer.alloc(1000));
    await fails(store.get('key', { range }), 'store-failed');
  });

  it('knows an object that ends inside the range, and one that ends before it', async () => {
    answer = part('bytes 100-119/120', 20);
    await fails(store.get('key', { range }), 'object-damaged');
    assert.equal((await store.get('key', { range: { ...range, orLess: true } })).length, 20);
    answer = failing(416, 'InvalidRange');
    await fails(store.get('key', { range }), 'object-damaged');
    assert.equal((await store.get('key', { range: { ...range, orLess: true } })).length, 0);
  });

  it('gives up on a store that falls silent, before or inside its answer', async () => {
    answer = () => undefined;
    await fails(put(), 'store-unreachable');
    answer = (_, response) => {
      response.writeHead(200, { 'content-length': 100 });
      response.write(Buffer.alloc(10));
    };
    await fails(store.get('key'), 'store-unreachable');
  });

  it('gives up on a store that is not there', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as AddressInfo;
    await new Promise((resolve) => other.close(resolve));
    const absent = new S3Store({ url: 's3://bucket/pre/fix', endpoint: `http://127.0.0.1:${port}`, region: 'x' });
    await fails(absent.get('key'), 'store-unreachable');
    await absent.close();
  });

  it('is aborted with the signal’s own reason', async () => {
    const controller = new AbortController();
    const reason = new Error('stopping');
    answer = () => controller.abort(reason);
    await assert.rejects(store.get('key', { signal: controller.signal }), reason);
    assert.equal(requests.length, 1);
  });

  it('follows the pages of a listing, and refuses one that names no next', async () => {
    const page = (key: string, next: string): string =>
      `<?xml version="1.0"?><ListBucketResult><IsTruncated>${next !== ''}</IsTruncated>` +
      `<Contents><Key>pre/fix/${key}</Key><Size>7</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>` +
      `${next === '' || next === 'none' ? '' : `<NextContinuationToken>${next}</NextContinuationToken>`}</ListBucketResult>`;
    const collect = async (after: string): Promise<string[]> => {
      const keys: string[] = [];
      for await (const { key, sizeBytes, modifiedMs } of store.list('k', { after })) {
        keys.push(key);
        assert.deepEqual([sizeBytes, modifiedMs], [7, Date.parse('2026-01-01')]);
      }
      return keys;
    };
    answer = (request, response) =>
      response.end(request.url?.includes('continuation-token=t1') === true ? page('k2', '') : page('k1', 't1'));
    assert.deepEqual(await collect('k0'), ['k1', 'k2']);
    const query = new URL(requests[0]?.url ?? '', endpoint).searchParams;
    assert.deepEqual([query.get('prefix'), query.get('start-after')], ['pre/fix/k', 'pre/fix/k0']);
    answer = (_, response) => response.end(page('k1', 'none'));
    await assert.rejects(collect(''), { code: 'store-failed' });
  });
});

describe('S3 URL', () => {
  it('names bucket and prefix', () => {
    assert.deepEqual(parseS3Url('s3://bucket'), { bucket: 'bucket', prefix: '' });
    assert.deepEqual(parseS3Url('s3://bucket/'), { bucket: 'bucket', prefix: '' });
    assert.deepEqual(parseS3Url('s3://my.bucket-1/a/b/'), { bucket: 'my.bucket-1', prefix: 'a/b' });
  });

  it('is refused when it names none', () => {
    for (const url of [
      '',
      's3://',
      's3:///x',
      's3://B/x',
      's3://ab',
      'https://bucket/x',
      's3://bucket//x',
      's3://bucket/a//b',
    ]) {
      assert.throws(() => parseS3Url(url), { code: 'config-invalid' }, url);
    }
  });
});
