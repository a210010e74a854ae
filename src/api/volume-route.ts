/** Volumes, their operations and their sessions. */
import type { FastifyInstance, FastifyReply } from 'fastify';
import { GatewayError } from '../base/errors.js';
import type { ByteLength } from '../base/units.js';
import { WrongValue } from '../config/problem.js';
import { parseSize } from '../config/quantity.js';
import type { MeteredVolume } from '../metrics/source.js';
import type { GatewayView, Operation, SessionReport } from './gateway-view.js';
import { reportVolume, volumeSchema } from './volume-report.js';

export const operationSchema = {
  type: 'object',
  required: ['id', 'kind', 'volume', 'state', 'totalBytes', 'doneBytes', 'bytesPerSecond', 'reason'],
  properties: {
    id: { type: 'string' },
    kind: { type: 'string' },
    volume: { type: 'string' },
    state: { type: 'string', enum: ['running', 'done', 'failed'] },
    totalBytes: { type: 'number' },
    doneBytes: { type: 'number' },
    bytesPerSecond: { type: 'number' },
    reason: { type: ['string', 'null'] },
  },
};

const sessionSchema = {
  type: 'object',
  required: ['volume', 'frontend', 'client', 'connections'],
  properties: {
    volume: { type: 'string' },
    frontend: { type: 'string' },
    client: { type: 'string' },
    connections: { type: 'number' },
  },
};

const receiptSchema = {
  type: 'object',
  required: ['keepgateReceipt', 'volume', 'epoch', 'segment', 'link', 'lsn', 'time', 'mac'],
  properties: {
    keepgateReceipt: { type: 'number' },
    volume: { type: 'string' },
    epoch: { type: 'number' },
    segment: { type: 'number' },
    link: { type: 'string' },
    lsn: { type: 'number' },
    time: { type: 'string' },
    mac: { type: 'string' },
  },
};

const named = (key: string) => ({
  type: 'object',
  required: [key],
  properties: { [key]: { type: 'string', maxLength: 100 } },
});

const listOf = (items: object) => ({ 200: { type: 'array', items } });

export function addVolumeRoutes(app: FastifyInstance, gateway: GatewayView): void {
  app.get(
    '/v1/volumes',
    { schema: { summary: 'All volumes', tags: ['volumes'], response: listOf(volumeSchema) } },
    () => gateway.volumes().map(reportVolume),
  );

  app.get<{ Params: { name: string } }>(
    '/v1/volumes/:name',
    { schema: { summary: 'One volume', tags: ['volumes'], params: named('name'), response: { 200: volumeSchema } } },
    ({ params }) => reportVolume(volumeNamed(gateway, params.name)),
  );

  app.patch<{ Params: { name: string } }>(
    '/v1/volumes/:name',
    {
      schema: {
        summary: 'Grow a volume; who is attached goes on',
        description: 'The body is {"size": "200GiB"}. A volume never shrinks.',
        tags: ['volumes'],
        security: [{ token: [] }],
        params: named('name'),
        response: { 200: volumeSchema },
      },
    },
    async ({ params, body }) => {
      await gateway.resize(params.name, sizeOf(body));
      return reportVolume(volumeNamed(gateway, params.name));
    },
  );

  app.post<{ Params: { name: string } }>(
    '/v1/volumes/:name/drain',
    {
      schema: {
        summary: 'Replicate all that is acknowledged now',
        tags: ['volumes'],
        security: [{ token: [] }],
        params: named('name'),
        response: { 202: operationSchema },
      },
    },
    ({ params }, reply) => accepted(reply, gateway.drain(params.name)),
  );

  app.post<{ Params: { name: string }; Querystring: { heal?: boolean } }>(
    '/v1/volumes/:name/scrub',
    {
      schema: {
        summary: 'Verify log, image and bucket; failed when anything was found',
        tags: ['volumes'],
        security: [{ token: [] }],
        params: named('name'),
        querystring: { type: 'object', properties: { heal: { type: 'boolean' } } },
        response: { 202: operationSchema },
      },
    },
    ({ params, query }, reply) => accepted(reply, gateway.scrub(params.name, query.heal === true)),
  );

  app.post<{ Params: { name: string } }>(
    '/v1/volumes/:name/takeover',
    {
      schema: {
        summary: 'Become the owner of the remote volume again after `fenced`',
        tags: ['volumes'],
        security: [{ token: [] }],
        params: named('name'),
        response: { 202: operationSchema },
      },
    },
    ({ params }, reply) => accepted(reply, gateway.takeOver(params.name)),
  );

  app.get<{ Params: { name: string } }>(
    '/v1/volumes/:name/receipt',
    {
      schema: {
        summary: 'A receipt of the newest recovery point',
        tags: ['volumes'],
        params: named('name'),
        response: { 200: receiptSchema },
      },
    },
    async ({ params }) => JSON.parse(await gateway.receipt(params.name)) as object,
  );

  app.get<{ Params: { id: string } }>(
    '/v1/operations/:id',
    {
      schema: {
        summary: 'How far an operation is',
        tags: ['operations'],
        params: named('id'),
        response: { 200: operationSchema },
      },
    },
    ({ params }) => {
      const operation = gateway.operation(params.id);
      if (operation === undefined) throw new GatewayError('not-found', `there is no operation "${params.id}"`);
      return reportOperation(operation);
    },
  );

  app.get(
    '/v1/sessions',
    { schema: { summary: 'Who is attached', tags: ['sessions'], response: listOf(sessionSchema) } },
    (): SessionReport[] =>
      gateway.volumes().flatMap(({ status }) =>
        status.clients.map(({ frontend, description, connections }) => ({
          volume: status.name,
          frontend,
          client: description,
          connections,
        })),
      ),
  );
}

function volumeNamed(gateway: GatewayView, name: string): MeteredVolume {
  const found = gateway.volumes().find(({ status }) => status.name === name);
  if (found === undefined) throw new GatewayError('not-found', `there is no volume "${name}"`);
  return found;
}

/** Fastify would make something else of a wrong type. */
function sizeOf(body: unknown): ByteLength {
  const { size, ...others } = typeof body === 'object' && body !== null ? (body as { size?: unknown }) : {};
  const [wrong] = Object.keys(others);
  if (size === undefined || wrong !== undefined)
    throw new GatewayError('invalid-request', `${wrong ?? 'the body'}: write {"size": "200GiB"}`);
  try {
    return parseSize(size);
  } catch (error) {
    if (!(error instanceof WrongValue)) throw error;
    throw new GatewayError('invalid-request', `size: ${error.message}`);
  }
}

/** The answer to what goes on after it. */
export function accepted(reply: FastifyReply, operation: Operation): FastifyReply {
  return reply.code(202).header('location', `/v1/operations/${operation.id}`).send(reportOperation(operation));
}

function reportOperation(operation: Operation) {
  return { ...operation, reason: operation.reason ?? null };
}
