/** What a real gateway answers and sends is what its document says. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { CMD, NbdClient } from '../../fake/nbd-client.js';
import { ApiDocument, readEvents } from '../../tool/api-document.js';
import type { SentEvent } from '../../tool/api-document.js';
import { TestGateway } from '../../tool/gateway.js';
import { eventually } from '../../tool/process.js';

const buffer = { size: '64MiB' };

describe('the document of a gateway', () => {
  let gateway: TestGateway;
  let document: ApiDocument;
  let token: string;
  const asked = new Set<string>();
  before(async () => {
    gateway = await TestGateway.start({
      volumes: [
        { name: 'disk0', size: '16MiB', buffer },
        { name: 'local', size: '16MiB', buffer, replicate: { enabled: false } },
      ],
    });
    document = new ApiDocument(await gateway.api('/docs/json'));
    token = (await readFile(join(gateway.dataDir, 'api-token'), 'utf8')).trim();
  });
  after(() => gateway.dispose());

  /** Asks, holds the answer to the document, and returns it. */
  const ask = async (
    operationId: string,
    request: { names?: Record<string, string>; query?: string; body?: object } = {},
  ) => {
    const { method, path } = document.operation(operationId);
    const names: Readonly<Record<string, string>> = { name: 'disk0', ...request.names };
    const url = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => names[name] ?? assert.fail(`${path} wants ${name}`));
    const response = await fetch(`${gateway.apiUrl}${url}${request.query ?? ''}`, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(request.body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
    });
    const body = await response.text();
    document.checkAnswer(operationId, {
      status: response.status,
      type: response.headers.get('content-type') ?? '',
      body,
    });
    asked.add(operationId);
    return { status: response.status, body };
  };
  const json = async <T>(...request: Parameters<typeof ask>): Promise<T> => {
    const { status, body } = await ask(...request);
    assert.ok(status < 300, `${request[0]}: ${status} ${body}`);
    return JSON.parse(body) as T;
  };
  const operate = async (...request: Parameters<typeof ask>): Promise<void> => {
    const { id } = await json<{ id: string }>(...request);
    await eventually(`${request[0]} ends`, async () => {
      const { state, reason } = await json<{ state: string; reason: string }>('showOperation', { names: { id } });
      assert.notEqual(state, 'failed', reason);
      return state === 'done';
    });
  };

  it('says what each route answers, while volumes are written, snapshotted, restored and reverted', async () => {
    for (const operationId of ['isLive', 'isReady', 'isHealthy', 'scrapeMetrics', 'listVolumes', 'showRates']) {
      assert.equal((await ask(operationId)).status, 200, operationId);
    }
    const client = await NbdClient.attach({ host: '127.0.0.1', port: gateway.nbdPort }, 'disk0');
    await client.request({ type: CMD.WRITE, offset: 0, payload: randomBytes(64 * 1024) });
    const [session] = await json<{ id: string; connections: number }[]>('listSessions');
    assert.equal(session?.connections, 1);
    await json('growVolume', { body: { size: '32MiB' } });
    await operate('drainVolume');
    await json('takeSnapshot', { body: { name: 'one' } });
    await operate('drainVolume');
    await json('listSnapshots');
    await json('showReceipt');
    await operate('scrubVolume');
    await json('endSession', { names: { id: session.id } });
    await eventually('nobody is attached', async () => (await json<unknown[]>('listSessions')).length === 0);
    assert.equal((await ask('endSession', { names: { id: session.id } })).status, 404);
    client.destroy();
    await operate('revertVolume', { names: { snapshot: 'one' }, body: { keepPresent: false } });
    await operate('restoreVolume', {
      body: { volume: 'disk0', from: `file://${gateway.storeDirectory}`, as: 'copy0', full: true },
    });
    await json('showVolume', { names: { name: 'copy0' } });
    await json('deleteSnapshot', { names: { snapshot: 'one' } });
    await json('changeBandwidth', { body: { upload: '5Mbit/s' } });
    await json('showBandwidth');
    await json('listOperations');
    // It begins, and finds nothing to take over.
    await json('takeVolumeOver');
    assert.equal((await ask('drainVolume', { names: { name: 'local' } })).status, 501);
    await json('addVolume', { body: { name: 'added', size: '16MiB', buffer, replicate: { enabled: false } } });
    await ask('removeVolume', { names: { name: 'added' }, query: '?confirm=other' });
    await json('removeVolume', { names: { name: 'added' }, query: '?confirm=added&acceptLoss=true' });
    const missing = document.operations.map(({ operationId }) => operationId).filter((id) => !asked.has(id));
    assert.deepEqual(missing, ['followEvents']);
  });

  it('says what its events are, which begin with all there is', async () => {
    const stop = new AbortController();
    const response = await fetch(`${gateway.apiUrl}/v1/events`, { signal: stop.signal });
    const seen: SentEvent[] = [];
    let client: NbdClient | undefined;
    for await (const sent of readEvents(response)) {
      document.checkEvent(sent);
      seen.push(sent);
      if (sent.event === 'gateway') {
        const names = seen.filter(({ event }) => event === 'volume').map(({ data }) => (data as { name: string }).name);
        assert.deepEqual(names, ['disk0', 'local', 'copy0']);
        assert.ok(seen.some(({ event }) => event === 'operation'));
        client = await NbdClient.attach({ host: '127.0.0.1', port: gateway.nbdPort }, 'local');
      } else if (client !== undefined && sent.event === 'volume') {
        const { name, clients } = sent.data as { name: string; clients: unknown[] };
        if (name === 'local' && clients.length === 1) break;
      }
    }
    stop.abort();
    await client?.disconnect();
  });
});
