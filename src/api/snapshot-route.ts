/** Snapshots of a volume. */
import type { FastifyInstance } from 'fastify';
import { GatewayError } from '../base/errors.js';
import type { GatewayView, SnapshotReport } from './gateway-view.js';
import { accepted, operationSchema } from './volume-route.js';

const snapshotSchema = {
  type: 'object',
  required: ['name', 'lsn', 'time', 'state', 'late', 'sizeBytes', 'referencedBytes', 'exclusiveBytes'],
  properties: {
    name: { type: 'string' },
    lsn: { type: 'number' },
    time: { type: 'string' },
    state: {
      type: 'string',
      enum: ['pending', 'complete'],
      description: 'pending: durable in the gateway, and not yet in the bucket with all that a restore needs',
    },
    late: {
      type: 'boolean',
      description: 'the buffer was too small to take it at its call: it is the first recovery point behind that',
    },
    sizeBytes: { type: 'number', description: 'of the volume then' },
    referencedBytes: { type: ['number', 'null'], description: 'of the blocks that do not read as zero' },
    exclusiveBytes: {
      type: ['number', 'null'],
      description: 'what goes from the bucket when it alone is deleted: objects that nothing else needs',
    },
  },
};

const volumeParams = { type: 'object', required: ['name'], properties: { name: { type: 'string', maxLength: 100 } } };
const snapshotParams = {
  type: 'object',
  required: ['name', 'snapshot'],
  properties: { name: { type: 'string', maxLength: 100 }, snapshot: { type: 'string', maxLength: 100 } },
};

/** Fastify would make a string of whatever else stands there. */
function nameOf(body: unknown): string | undefined {
  if (body === undefined || body === null) return undefined;
  const fields = typeof body === 'object' && !Array.isArray(body) ? body : undefined;
  const wrong = fields === undefined ? 'the body' : Object.keys(fields).find((key) => key !== 'name');
  if (fields === undefined || wrong !== undefined) {
    throw new GatewayError('invalid-request', `${wrong ?? 'the body'}: write {"name": "before-upgrade"}, or nothing`);
  }
  const { name } = fields as { readonly name?: unknown };
  if (name === undefined || typeof name === 'string') return name;
  throw new GatewayError('invalid-request', 'name: must be a string such as "before-upgrade"');
}

function keepsPresent(body: unknown): boolean {
  if (body === undefined || body === null) return true;
  const fields = typeof body === 'object' && !Array.isArray(body) ? body : undefined;
  const wrong = fields === undefined ? 'the body' : Object.keys(fields).find((key) => key !== 'keepPresent');
  const keep = (fields as { readonly keepPresent?: unknown } | undefined)?.keepPresent ?? true;
  if (wrong === undefined && typeof keep === 'boolean') return keep;
  throw new GatewayError('invalid-request', `${wrong ?? 'keepPresent'}: write {"keepPresent": false}, or nothing`);
}

export function addSnapshotRoutes(app: FastifyInstance, gateway: GatewayView): void {
  const tags = ['snapshots'];
  const security = [{ token: [] }];
  app.get<{ Params: { name: string } }>(
    '/v1/volumes/:name/snapshots',
    {
      schema: {
        summary: 'The snapshots of a volume, oldest first',
        tags,
        params: volumeParams,
        response: { 200: { type: 'array', items: snapshotSchema } },
      },
    },
    ({ params }) => gateway.snapshots(params.name).map(reportSnapshot),
  );

  app.post<{ Params: { name: string } }>(
    '/v1/volumes/:name/snapshots',
    {
      schema: {
        summary:
          'Take a snapshot: everything acknowledged before the call is in it. Body: {"name": …}; default: the time',
        tags,
        security,
        params: volumeParams,
        response: { 201: snapshotSchema },
      },
    },
    async ({ params, body }, reply) => {
      const taken = await gateway.createSnapshot(params.name, nameOf(body));
      return reply.code(201).send(reportSnapshot(taken));
    },
  );

  app.post<{ Params: { name: string; snapshot: string } }>(
    '/v1/volumes/:name/snapshots/:snapshot/revert',
    {
      schema: {
        summary:
          'Make a volume that nobody has attached what the snapshot is. Body: {"keepPresent": false} takes no snapshot of the present before',
        tags,
        security,
        params: snapshotParams,
        response: { 202: operationSchema },
      },
    },
    ({ params, body }, reply) => accepted(reply, gateway.revert(params.name, params.snapshot, keepsPresent(body))),
  );

  app.delete<{ Params: { name: string; snapshot: string } }>(
    '/v1/volumes/:name/snapshots/:snapshot',
    { schema: { summary: 'Delete a snapshot', tags, security, params: snapshotParams } },
    async ({ params }) => {
      await gateway.deleteSnapshot(params.name, params.snapshot);
      return { name: params.snapshot };
    },
  );
}

function reportSnapshot({ timeMs, referencedBytes, exclusiveBytes, ...snapshot }: SnapshotReport) {
  const sizes = { referencedBytes: referencedBytes ?? null, exclusiveBytes: exclusiveBytes ?? null };
  return { ...snapshot, time: new Date(timeMs).toISOString(), ...sizes };
}
