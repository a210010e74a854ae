/** Work that goes on behind a request: how far it is. */
import type { FastifyInstance, FastifyReply } from 'fastify';
import { GatewayError } from '../base/errors.js';
import type { GatewayView, Operation } from './gateway-view.js';
import { answer, described, group, listOf, nullable, number, saying, shared, string } from './schema.js';

export const operationSchema = {
  $id: 'Operation',
  ...group({
    id: string,
    kind: { type: 'string', enum: ['drain', 'takeover', 'scrub', 'restore', 'revert'] },
    volume: string,
    state: { type: 'string', enum: ['running', 'done', 'failed'] },
    totalBytes: saying(number, '0: not known'),
    doneBytes: number,
    bytesPerSecond: number,
    reason: saying(nullable('string'), 'Why it failed or does not advance, or what there is to say of its end'),
  }),
};

const exampleOperation = {
  id: '3f1a3a0e-4a63-4b0f-9d3b-5a6d0d1f5c11',
  kind: 'drain',
  volume: 'disk0',
  state: 'running',
  totalBytes: 25_165_824,
  doneBytes: 8_388_608,
  bytesPerSecond: 5_242_880,
  reason: null,
};

/** The response of a route that begins one. */
export const acceptedAnswer = {
  202: {
    ...answer('It began; the operation says how far it is', shared('Operation'), exampleOperation),
    headers: { location: { type: 'string', description: 'Where the operation is: /v1/operations/ID' } },
  },
};

/** The answer to what goes on after it. */
export function accepted(reply: FastifyReply, operation: Operation): FastifyReply {
  return reply.code(202).header('location', `/v1/operations/${operation.id}`).send(reportOperation(operation));
}

export function reportOperation(operation: Operation) {
  return { ...operation, reason: operation.reason ?? null };
}

export function addOperationRoutes(app: FastifyInstance, gateway: GatewayView): void {
  app.get(
    '/v1/operations',
    described({
      operationId: 'listOperations',
      summary: 'Operations that run, and the last that ended, oldest first',
      tag: 'operations',
      responses: { 200: answer('Operations', listOf(shared('Operation')), [exampleOperation]) },
    }),
    () => gateway.operations().map(reportOperation),
  );

  app.get<{ Params: { id: string } }>(
    '/v1/operations/:id',
    described({
      operationId: 'showOperation',
      summary: 'How far an operation is',
      tag: 'operations',
      params: { id: 'As the answer that began it says' },
      responses: { 200: answer('The operation', shared('Operation'), exampleOperation) },
    }),
    ({ params }) => {
      const operation = gateway.operation(params.id);
      if (operation === undefined) throw new GatewayError('not-found', `there is no operation "${params.id}"`);
      return reportOperation(operation);
    },
  );
}
