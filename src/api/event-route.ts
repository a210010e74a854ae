/** The live events of the gateway. */
import type { FastifyInstance } from 'fastify';
import type { EventStreams } from './event-stream.js';
import { boolean, described, group, string, textAnswer } from './schema.js';

/** The data of an event is the schema of the same name in the document. */
export const gatewaySchema = { $id: 'Gateway', ...group({ version: string, ready: boolean }) };
export const removedSchema = { $id: 'VolumeRemoved', ...group({ name: string }) };

const example =
  'event: gateway\ndata: {"version":"0.1.0","ready":true}\n\nevent: volume-removed\ndata: {"name":"disk1"}\n\n';

export function addEventRoutes(app: FastifyInstance, streams: EventStreams): void {
  app.get(
    '/v1/events',
    {
      ...described({
        operationId: 'followEvents',
        summary: 'What changes, as it changes (server-sent events)',
        description:
          'Begins with everything there is, `gateway` last, then sends what changed, at most once a second each. Events, each with one object as JSON: `gateway` (Gateway), `volume` (Volume), `volume-removed` (VolumeRemoved), `operation` (Operation) and, every ten seconds, `rates` (Rates). After a break connect anew: nothing else is needed.',
        tag: 'events',
        responses: { 200: textAnswer('Until the reader or the gateway goes', 'text/event-stream', example) },
      }),
      exposeHeadRoute: false,
    },
    (_, reply) => {
      streams.open(reply.raw);
      reply.hijack();
    },
  );
}
