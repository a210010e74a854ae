/** The document and the program say the same: routes, examples, answers, and which bodies are taken. */
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { FastifyInstance, RouteOptions } from 'fastify';
import { createApi } from '../../../src/api/server.js';
import { limits } from '../../../src/base/limits.js';
import { createMetrics } from '../../../src/metrics/registry.js';
import { ManualClock } from '../../fake/clock.js';
import { FakeGateway } from '../../fake/gateway-view.js';
import { RecordedLog } from '../../fake/log.js';
import { ApiDocument } from '../../tool/api-document.js';
import type { DocumentedOperation } from '../../tool/api-document.js';

const token = 'a-token';
const none = { logins: 0, rejections: new Map<string, number>() };
const routes: string[] = [];

/** Fastify says when one is made, and then when a route is. */
function watchRoutes(message: unknown): void {
  const { fastify } = message as { fastify: FastifyInstance };
  fastify.addHook('onRoute', ({ method, url, schema }: RouteOptions) => {
    const hidden = (schema as { hide?: boolean } | undefined)?.hide === true;
    for (const each of [method].flat()) if (!hidden && each !== 'HEAD') routes.push(`${each} ${url}`);
  });
}

/** What stands in a path. */
const names: Readonly<Record<string, string>> = { name: 'disk0', snapshot: 'one', id: 'disk0.1' };

describe('the document of the API', () => {
  let app: FastifyInstance;
  let gateway: FakeGateway;
  let document: ApiDocument;

  before(async () => {
    subscribe('fastify.initialization', watchRoutes);
    gateway = new FakeGateway();
    const metrics = createMetrics({
      version: '0.1.0',
      sessions: () => ({ nbd: none, iscsi: none }),
      volumes: () => gateway.volumes(),
      uploadLimit: () => undefined,
    });
    const clock = new ManualClock();
    app = await createApi({
      gateway,
      metrics,
      token,
      clock,
      listen: { kind: 'tcp', host: '127.0.0.1', port: 0 },
      page: new Map(),
      log: new RecordedLog(),
    });
    await app.ready();
    clock.advance(3 * limits.rateIntervalMs);
    document = new ApiDocument((await app.inject({ url: '/docs/json', headers: { host: 'localhost' } })).json());
  });
  after(async () => {
    unsubscribe('fastify.initialization', watchRoutes);
    await app.close();
  });

  const ask = (operation: DocumentedOperation, request: { body?: unknown; token?: boolean; names?: object } = {}) => {
    const given = { ...names, ...request.names } as Readonly<Record<string, string>>;
    const url = operation.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => given[name] ?? name);
    return app.inject({
      method: operation.method as 'GET',
      url,
      headers: {
        host: 'localhost',
        ...(request.token === false ? {} : { authorization: `Bearer ${token}` }),
        ...(request.body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(request.body === undefined ? {} : { payload: JSON.stringify(request.body) }),
    });
  };
  const check = (operation: DocumentedOperation, answer: Awaited<ReturnType<typeof ask>>): void =>
    document.checkAnswer(operation.operationId, {
      status: answer.statusCode,
      type: String(answer.headers['content-type']),
      body: answer.body,
    });
  const exampleOf = ({ requestBody }: DocumentedOperation): unknown =>
    requestBody?.content['application/json']?.example;

  it('has every route that there is, and no other', () => {
    assert.equal(document.version, '3.1.0');
    const documented = document.operations.map(({ method, path }) => `${method} ${path}`);
    const there = routes.map((route) => route.replaceAll(/:(\w+)/g, '{$1}'));
    assert.deepEqual(documented.sort(), there.sort());
  });

  it('names each operation once, and every name in its path', () => {
    const ids = document.operations.map(({ operationId }) => operationId);
    assert.equal(new Set(ids).size, ids.length);
    for (const { path, parameters = [], operationId } of document.operations) {
      const inPath = parameters.filter((parameter) => parameter.in === 'path').map(({ name }) => name);
      assert.deepEqual(
        [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name),
        inPath,
        operationId,
      );
    }
  });

  it('has an example for all that is sent and answered, and each is what its schema says', () => {
    for (const { where, schema, example } of document.examples()) {
      assert.notEqual(example, undefined, where);
      document.check(where, schema, example);
    }
  });

  it('says of every change that it needs the token, which it does, and of nothing else', async () => {
    for (const operation of document.operations) {
      const changes = operation.method !== 'GET';
      assert.equal(operation.security !== undefined, changes, operation.operationId);
      if (!changes) continue;
      const refused = await ask(operation, { token: false, body: exampleOf(operation) });
      assert.equal(refused.statusCode, 401, operation.operationId);
      check(operation, refused);
    }
  });

  it('says what every route answers', async () => {
    const asked = new Set<string>();
    const succeed = async (operationId: string, request: Parameters<typeof ask>[1] = {}): Promise<void> => {
      const operation = document.operation(operationId);
      const answer = await ask(operation, request);
      assert.ok(
        String(answer.statusCode) in operation.responses,
        `${operationId}: ${answer.statusCode} ${answer.body}`,
      );
      check(operation, answer);
      asked.add(operationId);
    };
    await succeed('takeSnapshot', { body: { name: 'one' } });
    for (const operation of document.operations) {
      const { operationId } = operation;
      if (['takeSnapshot', 'followEvents'].includes(operationId)) continue;
      await succeed(operationId, { body: exampleOf(operation) });
    }
    gateway.isReady = false;
    gateway.state = 'failed';
    gateway.reservation = { type: 'write exclusive', holder: undefined, registrations: 2 };
    for (const operationId of ['isReady', 'isHealthy', 'listVolumes']) await succeed(operationId);
    gateway.isReady = true;
    gateway.state = 'online';
    assert.equal(asked.size, document.operations.length - 1);
  });

  it('says what an error looks like', async () => {
    for (const operationId of ['showVolume', 'showRates', 'endSession', 'drainVolume', 'deleteSnapshot']) {
      const operation = document.operation(operationId);
      const answer = await ask(operation, { names: { name: 'nothing', snapshot: 'nothing', id: 'nothing' } });
      assert.equal(answer.statusCode, 404, operationId);
      check(operation, answer);
    }
  });

  it('takes the bodies that it describes, and refuses all others', async () => {
    const described = document.operations.filter(({ requestBody }) => requestBody !== undefined);
    assert.ok(described.length >= 5);
    for (const operation of described) {
      const { operationId, requestBody } = operation;
      const schema = requestBody?.content['application/json']?.schema ?? {};
      const example = exampleOf(operation) as object;
      const wrongs: unknown[] = [[], [example], 'text', 7, true, { ...example, other: 1 }];
      const { properties = {} } = schema as { properties?: object };
      for (const key of Object.keys(properties)) {
        for (const value of [7, true, 'text', [], {}, null]) wrongs.push({ ...example, [key]: value });
      }
      for (const key of Object.keys(example)) {
        wrongs.push(Object.fromEntries(Object.entries(example).filter(([other]) => other !== key)));
      }
      for (const body of wrongs.filter((candidate) => !document.accepts(schema, candidate))) {
        const answer = await ask(operation, { body });
        assert.equal(answer.statusCode, 400, `${operationId} ${JSON.stringify(body)}`);
        check(operation, answer);
      }
      const bare = await ask(operation);
      assert.equal(bare.statusCode === 400, requestBody?.required, `${operationId} without a body`);
    }
  });
});
