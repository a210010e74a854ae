/** Clients that hold volumes. */
import type { FastifyInstance } from 'fastify';
import type { GatewayView } from './gateway-view.js';
import { answer, described, group, listOf, number, saying, string } from './schema.js';

const sessionSchema = group({
  id: saying(string, 'Of this run of the gateway alone'),
  volume: string,
  frontend: { type: 'string', enum: ['nbd', 'iscsi'] },
  client: string,
  connections: number,
});

const exampleSession = { id: 'disk0.3', volume: 'disk0', frontend: 'nbd', client: 'nbd 127.0.0.1', connections: 4 };

export function addSessionRoutes(app: FastifyInstance, gateway: GatewayView): void {
  app.get(
    '/v1/sessions',
    described({
      operationId: 'listSessions',
      summary: 'Who is attached',
      tag: 'sessions',
      responses: { 200: answer('One for each client of a volume', listOf(sessionSchema), [exampleSession]) },
    }),
    () => gateway.sessions(),
  );

  app.delete<{ Params: { id: string } }>(
    '/v1/sessions/:id',
    described({
      operationId: 'endSession',
      summary: 'Cut the connections of a client',
      description:
        'Requests in flight get no answer. A client that connects anew by itself, such as a kernel, comes back: detach on the client to end it for good.',
      tag: 'sessions',
      changes: true,
      params: { id: 'As /v1/sessions lists it' },
      responses: { 200: answer('Its connections are cut', group({ id: string }), { id: 'disk0.3' }) },
    }),
    ({ params }) => {
      gateway.endSession(params.id);
      return { id: params.id };
    },
  );
}
