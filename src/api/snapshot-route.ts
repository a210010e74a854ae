/** Snapshots of a volume. */
import type { FastifyInstance } from 'fastify';
import { GatewayError } from '../base/errors.js';
import type { GatewayView, SnapshotReport } from './gateway-view.js';
import { accepted, acceptedAnswer } from './operation-route.js';
import { answer, boolean, described, group, listOf, nullable, number, saying, string, time } from './schema.js';

const snapshotSchema = group({
  name: string,
  lsn: number,
  time,
  state: {
    type: 'string',
    enum: ['pending', 'complete'],
    description: 'pending: durable in the gateway, and not yet in the bucket with all that a restore needs',
  },
  late: saying(boolean, 'the buffer was too small to take it at its call: it is the first recovery point behind that'),
  sizeBytes: saying(number, 'of the volume then'),
  referencedBytes: saying(nullable('number'), 'of the blocks that do not read as zero'),
  exclusiveBytes: saying(
    nullable('number'),
    'what goes from the bucket when it alone is deleted: objects that nothing else needs',
  ),
});

const exampleSnapshot = {
  name: 'before-upgrade',
  lsn: 80_640,
  time: '2026-11-26T08:15:02.000Z',
  state: 'complete',
  late: false,
  sizeBytes: 107_374_182_400,
  referencedBytes: 871_366_656,
  exclusiveBytes: 8_388_608,
};

const volumeParams = { name: 'Of the volume' };
const snapshotParams = { ...volumeParams, snapshot: 'Of the snapshot' };

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
  const { keepPresent: keep = true } = (fields ?? {}) as { readonly keepPresent?: unknown };
  if (wrong === undefined && typeof keep === 'boolean') return keep;
  throw new GatewayError('invalid-request', `${wrong ?? 'keepPresent'}: write {"keepPresent": false}, or nothing`);
}

export function addSnapshotRoutes(app: FastifyInstance, gateway: GatewayView): void {
  const tag = 'snapshots';
  app.get<{ Params: { name: string } }>(
    '/v1/volumes/:name/snapshots',
    described({
      operationId: 'listSnapshots',
      summary: 'The snapshots of a volume, oldest first',
      tag,
      params: volumeParams,
      responses: { 200: answer('Snapshots', listOf(snapshotSchema), [exampleSnapshot]) },
    }),
    ({ params }) => gateway.snapshots(params.name).map(reportSnapshot),
  );

  app.post<{ Params: { name: string } }>(
    '/v1/volumes/:name/snapshots',
    described({
      operationId: 'takeSnapshot',
      summary: 'Take a snapshot: everything acknowledged before the call is in it',
      tag,
      changes: true,
      params: volumeParams,
      body: {
        schema: {
          type: 'object',
          additionalProperties: false,
          properties: { name: saying(string, 'Default: the time') },
        },
        example: { name: 'before-upgrade' },
        optional: true,
      },
      responses: { 201: answer('The snapshot, durable here', snapshotSchema, exampleSnapshot) },
    }),
    async ({ params, body }, reply) => {
      const taken = await gateway.createSnapshot(params.name, nameOf(body));
      return reply.code(201).send(reportSnapshot(taken));
    },
  );

  app.post<{ Params: { name: string; snapshot: string } }>(
    '/v1/volumes/:name/snapshots/:snapshot/revert',
    described({
      operationId: 'revertVolume',
      summary: 'Make a volume that nobody has attached what the snapshot is',
      tag,
      changes: true,
      params: snapshotParams,
      body: {
        schema: {
          type: 'object',
          additionalProperties: false,
          properties: { keepPresent: saying(boolean, 'Take a snapshot of the present before; default: true') },
        },
        example: { keepPresent: false },
        optional: true,
      },
      responses: acceptedAnswer,
    }),
    ({ params, body }, reply) => accepted(reply, gateway.revert(params.name, params.snapshot, keepsPresent(body))),
  );

  app.delete<{ Params: { name: string; snapshot: string } }>(
    '/v1/volumes/:name/snapshots/:snapshot',
    described({
      operationId: 'deleteSnapshot',
      summary: 'Delete a snapshot',
      tag,
      changes: true,
      params: snapshotParams,
      responses: { 200: answer('It is deleted', group({ name: string }), { name: 'before-upgrade' }) },
    }),
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
