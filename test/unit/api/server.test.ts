import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { request } from 'node:http';
import type { FastifyInstance } from 'fastify';
import { createApi } from '../../../src/api/server.js';
import type { ListenAddress } from '../../../src/config/listen-address.js';
import { createMetrics } from '../../../src/metrics/registry.js';
import { UNLIMITED } from '../../../src/ports/bandwidth.js';
import { ManualClock } from '../../fake/clock.js';
import { FakeGateway, receiptFields } from '../../fake/gateway-view.js';
import { RecordedLog } from '../../fake/log.js';
import type { ReservationStatus } from '../../../src/ports/volume-status.js';

const token = 'a-token-that-only-the-owner-knows';
const local: ListenAddress = { kind: 'tcp', host: '127.0.0.1', port: 9470 };
const wide: ListenAddress = { kind: 'tcp', host: '0.0.0.0', port: 9470 };

const none = { logins: 0, rejections: new Map<string, number>() };
const page = new Map([
  ['index.html', { contentType: 'text/html; charset=utf-8', content: Buffer.from('<p>page</p>') }],
]);

async function start(listen: ListenAddress): Promise<{ app: FastifyInstance; gateway: FakeGateway }> {
  const gateway = new FakeGateway();
  const metrics = createMetrics({
    version: '0.1.0',
    sessions: () => ({ nbd: none, iscsi: none }),
    volumes: () => gateway.volumes(),
    uploadLimit: () => undefined,
  });
  const app = await createApi({
    gateway,
    metrics,
    listen,
    token,
    page,
    log: new RecordedLog(),
    clock: new ManualClock(),
  });
  return { gateway, app };
}

describe('the API on loopback', () => {
  let app: FastifyInstance;
  let gateway: FakeGateway;
  before(async () => ({ app, gateway } = await start(local)));
  after(() => app.close());
  const get = (url: string, headers: Record<string, string> = {}) =>
    app.inject({ method: 'GET', url, headers: { host: '127.0.0.1:9470', ...headers } });
  const post = (url: string, headers: Record<string, string> = {}, payload?: string) =>
    app.inject({
      method: 'POST',
      url,
      headers: { host: 'localhost', ...headers },
      ...(payload === undefined ? {} : { payload }),
    });
  const authorization = `Bearer ${token}`;

  it('answers the probes', async () => {
    assert.equal((await get('/livez')).statusCode, 200);
    assert.equal((await get('/readyz')).statusCode, 200);
    gateway.isReady = false;
    assert.equal((await get('/readyz')).statusCode, 503);
    gateway.isReady = true;
  });

  for (const state of ['failed', 'fenced', 'stalled'] as const) {
    it(`is unhealthy, with the reason, while a volume is ${state}`, async () => {
      gateway.state = state;
      const answer = await get('/healthz');
      gateway.state = 'online';
      assert.equal(answer.statusCode, 503);
      assert.deepEqual(answer.json(), {
        status: 'unhealthy',
        reasons: [{ volume: 'disk0', state, reason: 'because' }],
      });
      assert.equal((await get('/healthz')).statusCode, 200);
    });
  }

  it('shows volumes, with null for what there is not', async () => {
    const [shown] = (await get('/v1/volumes')).json<Record<string, unknown>[]>();
    assert.deepEqual(shown, {
      name: 'disk0',
      uuid: '00000000-0000-4000-8000-000000000000',
      state: 'online',
      reason: null,
      readOnly: false,
      sizeBytes: 4096,
      lsn: { acknowledged: 4, durable: 3, destaged: 2, replicated: 1 },
      clients: [{ frontend: 'nbd', description: 'nbd 127.0.0.1', connections: 2 }],
      buffer: { capacityBytes: 100, usedBytes: 10, timeToFullSeconds: null },
      hydration: null,
      reservation: null,
      overlayBlocks: 1,
      trackedDirtyBlocks: 0,
      checksumErrors: 0,
      healedBlocks: 0,
      provision: { mode: 'thin', problem: null },
      replication: {
        mode: 'draining',
        reason: null,
        lagSeconds: 2,
        pendingBytes: 7,
        uploadBytesPerSecond: 0,
        uploadedBytes: 0,
        remoteBytes: 0,
        remoteObjects: 0,
        recoveryPoint: { lsn: 1, segment: 3, epoch: 2, time: '1970-01-01T00:00:00.000Z' },
      },
    });
    assert.deepEqual((await get('/v1/volumes/disk0')).json(), shown);
  });

  it('shows who has a volume reserved', async () => {
    const shown = async (reservation: ReservationStatus): Promise<unknown> => {
      gateway.reservation = reservation;
      const { reservation: said } = (await get('/v1/volumes/disk0')).json<{ reservation: unknown }>();
      gateway.reservation = undefined;
      return said;
    };
    const one = { type: 'write exclusive', holder: 'iqn.2026-11.test:a', registrations: 2 };
    assert.deepEqual(await shown(one), one);
    const all = { type: 'write exclusive, all registrants', holder: undefined, registrations: 3 };
    assert.deepEqual(await shown(all), { ...all, holder: null });
  });

  it('shows sessions', async () => {
    assert.deepEqual((await get('/v1/sessions')).json(), [
      { id: 'disk0.1', volume: 'disk0', frontend: 'nbd', client: 'nbd 127.0.0.1', connections: 2 },
    ]);
  });

  it('ends a session with the token, one that is there', async () => {
    const end = (id: string, headers = {}) =>
      app.inject({ method: 'DELETE', url: `/v1/sessions/${id}`, headers: { host: 'localhost', ...headers } });
    assert.equal((await end('disk0.1')).statusCode, 401);
    assert.equal((await end('disk0.2', { authorization })).statusCode, 404);
    assert.deepEqual((await end('disk0.1', { authorization })).json(), { id: 'disk0.1' });
    assert.deepEqual((await get('/v1/sessions')).json(), []);
  });

  it('serves its page under a policy that lets nothing else in', async () => {
    const answer = await get('/');
    assert.equal(answer.body, '<p>page</p>');
    assert.match(String(answer.headers['content-security-policy']), /^default-src 'none'; script-src 'self';/);
    assert.equal(answer.headers['x-content-type-options'], 'nosniff');
  });

  it('prints metrics as Prometheus text', async () => {
    const answer = await get('/metrics');
    assert.match(String(answer.headers['content-type']), /^text\/plain; version=0\.0\.4/);
    assert.match(answer.body, /^keepgate_volume_size_bytes\{volume="disk0"\} 4096$/m);
  });

  it('begins a drain with the token: 202, an operation, and where it is', async () => {
    const answer = await post('/v1/volumes/disk0/drain', { authorization });
    assert.equal(answer.statusCode, 202);
    assert.equal(answer.headers['location'], '/v1/operations/op-1');
    assert.deepEqual(gateway.drained, ['disk0']);
    const shown = await get('/v1/operations/op-1');
    assert.deepEqual(shown.json(), answer.json());
    assert.equal(shown.json<{ state: string }>().state, 'running');
  });

  for (const [what, headers] of [
    ['without a token', {}],
    ['with a wrong token', { authorization: 'Bearer wrong' }],
    ['with a token of another scheme', { authorization: `Basic ${token}` }],
  ] as const) {
    it(`refuses a change ${what}`, async () => {
      gateway.drained = [];
      const answer = await post('/v1/volumes/disk0/drain', headers);
      assert.equal(answer.statusCode, 401);
      assert.match(String(answer.headers['content-type']), /^application\/problem\+json/);
      assert.equal(answer.json<{ code: string }>().code, 'unauthorized');
      assert.deepEqual(gateway.drained, []);
    });
  }

  it('answers errors as problem+json with the code and what to do', async () => {
    const answer = await get('/v1/volumes/nothing');
    assert.equal(answer.statusCode, 404);
    assert.match(String(answer.headers['content-type']), /^application\/problem\+json/);
    assert.deepEqual(answer.json(), {
      type: 'urn:keepgate:error:not-found',
      title: 'Check the name; `keepgate status` lists the volumes.',
      status: 404,
      detail: 'there is no volume "nothing"',
      code: 'not-found',
    });
    assert.equal((await get('/nowhere')).json<{ code: string }>().code, 'not-found');
  });

  it('adds and removes a volume, with the token', async () => {
    const headers = { host: 'localhost' };
    const entry = { name: 'disk0', size: '1GiB' };
    const add = (payload: unknown, more: Record<string, string>) =>
      app.inject({ method: 'POST', url: '/v1/volumes', headers: { ...headers, ...more }, payload: payload as object });
    assert.equal((await add(entry, {})).statusCode, 401);
    assert.match((await add([entry], { authorization })).json<{ detail: string }>().detail, /^the body: write \{/);
    assert.deepEqual(gateway.added, []);
    const added = await add(entry, { authorization });
    assert.equal(added.statusCode, 201);
    assert.equal(added.headers.location, '/v1/volumes/disk0');
    assert.deepEqual(gateway.added, [entry]);
    const remove = (query: string, more: Record<string, string>) =>
      app.inject({ method: 'DELETE', url: `/v1/volumes/disk0${query}`, headers: { ...headers, ...more } });
    assert.equal((await remove('?confirm=disk0', {})).statusCode, 401);
    assert.deepEqual(gateway.removed, []);
    await remove('', { authorization });
    assert.deepEqual((await remove('?confirm=disk0&acceptLoss=true', { authorization })).json(), { name: 'disk0' });
    assert.deepEqual(gateway.removed, [
      { name: 'disk0', confirm: undefined, acceptLoss: false },
      { name: 'disk0', confirm: 'disk0', acceptLoss: true },
    ]);
  });

  it('grows a volume, with the token, to a size that is one', async () => {
    const patch = (payload: unknown, headers: Record<string, string> = { authorization }) =>
      app.inject({
        method: 'PATCH',
        url: '/v1/volumes/disk0',
        headers: { host: 'localhost', 'content-type': 'application/json', ...headers },
        payload: JSON.stringify(payload),
      });
    assert.equal((await patch({ size: '1GiB' }, {})).statusCode, 401);
    const grown = await patch({ size: '1GiB' });
    assert.equal(grown.statusCode, 200);
    assert.equal(grown.json<{ name: string }>().name, 'disk0');
    assert.equal((await patch({ size: 8192 })).statusCode, 200);
    assert.deepEqual(gateway.sizes, [1024 ** 3, 8192]);
    for (const wrong of [{}, { size: true }, { size: 'large' }, { size: '1GiB', nbd: false }, [], 7]) {
      const refused = await patch(wrong);
      assert.equal(refused.statusCode, 400, JSON.stringify(wrong));
      assert.equal(refused.json<{ code: string }>().code, 'invalid-request');
    }
    assert.equal((await patch({ size: 1 })).json<{ code: string }>().code, 'size-invalid');
  });

  it('takes, lists and deletes snapshots, and changes none without the token', async () => {
    const url = '/v1/volumes/disk0/snapshots';
    const headers = { host: 'localhost', authorization };
    const bare = { host: 'localhost' };
    assert.equal((await app.inject({ method: 'POST', url, headers: bare })).statusCode, 401);
    const taken = await app.inject({ method: 'POST', url, headers, payload: { name: 'one' } });
    assert.equal(taken.statusCode, 201);
    const one = {
      name: 'one',
      lsn: 7,
      time: '1970-01-01T00:00:00.000Z',
      state: 'pending',
      late: false,
      sizeBytes: 4096,
      referencedBytes: null,
      exclusiveBytes: null,
    };
    assert.deepEqual(taken.json(), one);
    assert.equal((await app.inject({ method: 'POST', url, headers })).json<{ name: string }>().name, 'by-time');
    assert.deepEqual((await get(url)).json<unknown[]>()[0], one);
    assert.equal((await app.inject({ method: 'DELETE', url: `${url}/one`, headers: bare })).statusCode, 401);
    assert.equal((await app.inject({ method: 'DELETE', url: `${url}/one`, headers })).statusCode, 200);
    assert.equal((await app.inject({ method: 'DELETE', url: `${url}/one`, headers })).statusCode, 404);
    const revert = (payload?: object) =>
      app.inject({ method: 'POST', url: `${url}/one/revert`, headers, ...(payload === undefined ? {} : { payload }) });
    assert.equal((await app.inject({ method: 'POST', url: `${url}/one/revert`, headers: bare })).statusCode, 401);
    assert.deepEqual((await revert()).json<{ kind: string; reason: string }>().reason, 'one true');
    assert.equal((await revert({ keepPresent: false })).json<{ reason: string }>().reason, 'one false');
    for (const payload of [{ keep: true }, { keepPresent: 'no' }, [true]])
      assert.equal((await revert(payload)).statusCode, 400);
    for (const payload of [{ nmae: 'x' }, { name: 7 }, ['x']]) {
      assert.equal((await app.inject({ method: 'POST', url, headers, payload })).statusCode, 400);
    }
  });

  it('begins a restore of what is asked for, refuses what makes no sense, and any without the token', async () => {
    const url = '/v1/restores';
    const headers = { host: 'localhost', authorization };
    const payload = {
      volume: 'disk0',
      from: 's3://b/p',
      as: 'copy0',
      takeOver: true,
      full: true,
      receipt: receiptFields,
    };
    assert.equal((await app.inject({ method: 'POST', url, headers: { host: 'localhost' }, payload })).statusCode, 401);
    const begun = await app.inject({ method: 'POST', url, headers, payload });
    assert.equal(begun.statusCode, 202, begun.body);
    assert.equal(begun.headers.location, '/v1/operations/op-1');
    assert.deepEqual(gateway.restores, [{ ...payload, receipt: JSON.stringify(receiptFields) }]);
    for (const wrong of [
      { from: 's3://b/p' },
      { volume: 'disk0' },
      { volume: 7, from: 's3://b/p' },
      { volume: 'disk0', from: 's3://b/p', as: '../x' },
      { volume: 'disk0', from: 's3://b/p', takeOver: 'yes' },
      { volume: 'disk0', from: 's3://b/p', receipt: 'x' },
      { volume: 'disk0', from: 's3://b/p', constructor: 'x' },
      ['disk0'],
    ]) {
      const answer = await app.inject({ method: 'POST', url, headers, payload: wrong });
      assert.equal(answer.statusCode, 400, JSON.stringify(wrong));
    }
    assert.equal(gateway.restores.length, 1);
  });

  const putBandwidth = (payload: unknown, headers: Record<string, string> = { authorization }) =>
    app.inject({
      method: 'PUT',
      url: '/v1/bandwidth',
      headers: { host: 'localhost', 'content-type': 'application/json', ...headers },
      payload: JSON.stringify(payload),
    });

  it('shows the bandwidth, and changes it with the token', async () => {
    assert.deepEqual((await get('/v1/bandwidth')).json(), {
      upload: { limit: 'auto', by: 'schedule', bytesPerSecond: 123_456 },
      download: { limit: 'unlimited', by: 'configuration', bytesPerSecond: null },
    });
    assert.equal((await putBandwidth({ upload: '5Mbit/s', download: null })).statusCode, 200);
    assert.equal((await putBandwidth({ download: 'unlimited' })).statusCode, 200);
    assert.equal((await putBandwidth({ upload: 'auto' }, {})).statusCode, 401);
    assert.deepEqual(gateway.changes, [{ upload: 625_000, download: null }, { download: UNLIMITED }]);
  });

  for (const [body, detail] of [
    [{ upload: 'fast' }, 'upload: "fast" is not a rate; write unlimited, auto, or a rate such as 20MB/s or 5Mbit/s'],
    [{ upload: '0MB/s' }, 'upload: "0MB/s" is not a rate; write unlimited, auto, or a rate such as 20MB/s or 5Mbit/s'],
    [{ uplaod: 'auto' }, 'uplaod: unknown key; known here are upload, download'],
    [{}, 'nothing to change; write {"upload": "20MB/s"}'],
  ] as const) {
    it(`refuses the bandwidth ${JSON.stringify(body)}`, async () => {
      const answer = await putBandwidth(body);
      assert.equal(answer.statusCode, 400);
      assert.equal(answer.json<{ detail: string }>().detail, detail);
    });
  }

  for (const host of ['evil.example', 'evil.example:9470', '127.0.0.1.evil.example']) {
    it(`refuses the Host ${JSON.stringify(host)}`, async () => {
      const answer = await get('/v1/volumes', { host });
      assert.equal(answer.statusCode, 403);
      const { code, title } = answer.json<{ code: string; title: string }>();
      assert.equal(code, 'host-refused');
      assert.match(title, /^Ask at the address that the API listens on/);
    });
  }

  for (const host of ['localhost:1', '[::1]:9470', '127.0.0.1']) {
    it(`allows the Host ${host}`, async () => assert.equal((await get('/v1/volumes', { host })).statusCode, 200));
  }

  it('refuses what a browser sends for a page of another site, a link apart', async () => {
    for (const site of ['cross-site', 'same-site']) {
      for (const mode of ['no-cors', 'cors']) {
        const answer = await get('/v1/events', {
          'sec-fetch-site': site,
          'sec-fetch-mode': mode,
          'sec-fetch-dest': 'empty',
        });
        assert.equal(answer.statusCode, 403);
        assert.equal(answer.json<{ code: string }>().code, 'host-refused');
      }
      const link = { 'sec-fetch-site': site, 'sec-fetch-mode': 'navigate' };
      assert.equal((await get('/', { ...link, 'sec-fetch-dest': 'document' })).statusCode, 200);
      assert.equal((await get('/', { ...link, 'sec-fetch-dest': 'iframe' })).statusCode, 403);
    }
    assert.equal((await get('/v1/volumes', { 'sec-fetch-site': 'same-origin' })).statusCode, 200);
    assert.equal((await get('/v1/volumes', { 'sec-fetch-site': 'none' })).statusCode, 200);
  });

  it('takes JSON only, up to its limit, and offers nothing to other origins', async () => {
    const text = await post('/v1/volumes', { authorization, 'content-type': 'text/plain' }, 'x');
    assert.equal(text.statusCode, 415);
    const large = await post(
      '/v1/volumes',
      { authorization, 'content-type': 'application/json' },
      JSON.stringify('x'.repeat(2 << 20)),
    );
    assert.equal(large.statusCode, 413);
    assert.equal(large.json<{ code: string }>().code, 'request-too-large');
    const foreign = await get('/v1/volumes', { origin: 'http://evil.example' });
    assert.equal(foreign.headers['access-control-allow-origin'], undefined);
  });

  it('documents itself at /docs', async () => {
    const document = (await get('/docs/json')).json<{ paths: Record<string, unknown> }>();
    for (const path of ['/livez', '/metrics', '/v1/volumes', '/v1/volumes/{name}/drain', '/v1/operations/{id}']) {
      assert.ok(path in document.paths, path);
    }
  });
});

describe('the API beyond loopback', () => {
  let app: FastifyInstance;
  before(async () => ({ app } = await start(wide)));
  after(() => app.close());

  it('wants the token for reading too, the probes apart', async () => {
    const get = (url: string, headers = {}) => app.inject({ url, headers: { host: '192.0.2.7:9470', ...headers } });
    assert.equal((await get('/v1/volumes')).statusCode, 401);
    assert.equal((await get('/metrics')).statusCode, 401);
    assert.equal((await get('/v1/volumes', { authorization: `Bearer ${token}` })).statusCode, 200);
    assert.equal((await get('/livez')).statusCode, 200);
    assert.equal((await get('/livez?x=1')).statusCode, 200);
    assert.equal((await get('/')).statusCode, 200);
    assert.equal((await get('/livez/')).statusCode, 200);
    assert.equal((await get('/nothing')).statusCode, 401);
  });

  it('goes by the route that answers, whatever way the path is written', async () => {
    const url = new URL(await app.listen({ host: '127.0.0.1', port: 0 }));
    // Not over fetch, which would put the path in order.
    const statusOf = (path: string): Promise<number | undefined> =>
      new Promise((resolve, reject) => {
        const asked = request({ host: url.hostname, port: url.port, path, agent: false }, (response) => {
          response.resume();
          resolve(response.statusCode);
        });
        asked.on('error', reject).end();
      });
    for (const path of [
      '/page/../v1/volumes',
      '/v1/volumes/a\\..\\..\\..\\livez',
      '//livez',
      '/docs/../livez',
      '/page/nothing',
    ]) {
      assert.equal(await statusOf(path), 401, path);
    }
    assert.equal(await statusOf('/livez'), 200);
  });

  it('still refuses a Host that is a foreign name', async () => {
    assert.equal((await app.inject({ url: '/livez', headers: { host: 'evil.example' } })).statusCode, 403);
  });
});
