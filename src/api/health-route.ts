/** The probes and the metrics: what container platforms and Prometheus ask. */
import type { FastifyInstance } from 'fastify';
import type { MetricsRegistry } from '../metrics/registry.js';
import type { GatewayView } from './gateway-view.js';
import { answer, described, group, listOf, nullable, string, textAnswer } from './schema.js';

/** States that need a person. */
const unhealthy: ReadonlySet<string> = new Set(['failed', 'fenced', 'stalled']);

const statusSchema = (...values: readonly string[]) => group({ status: { type: 'string', enum: values } });
const healthSchema = group({
  status: { type: 'string', enum: ['healthy', 'unhealthy'] },
  reasons: listOf(group({ volume: string, state: string, reason: nullable('string') })),
});
const exampleReason = { volume: 'disk0', state: 'fenced', reason: 'another gateway took the volume over' };

export function addHealthRoutes(app: FastifyInstance, gateway: GatewayView, metrics: MetricsRegistry): void {
  const tag = 'health';
  app.get(
    '/livez',
    described({
      operationId: 'isLive',
      summary: '200 while the event loop runs',
      tag,
      responses: { 200: answer('It runs', statusSchema('live'), { status: 'live' }) },
    }),
    () => ({ status: 'live' }),
  );

  app.get(
    '/readyz',
    described({
      operationId: 'isReady',
      summary: '200 once every volume is open and every listener is up',
      tag,
      responses: {
        200: answer('It serves', statusSchema('ready'), { status: 'ready' }),
        503: answer('Not yet, or no more', statusSchema('starting'), { status: 'starting' }),
      },
    }),
    (_, reply) => {
      const ready = gateway.ready();
      return reply.code(ready ? 200 : 503).send({ status: ready ? 'ready' : 'starting' });
    },
  );

  app.get(
    '/healthz',
    described({
      operationId: 'isHealthy',
      summary: '503 with reasons when a volume is failed, fenced or stalled',
      tag,
      responses: {
        200: answer('Nothing needs a person', healthSchema, { status: 'healthy', reasons: [] }),
        503: answer('Something does', healthSchema, { status: 'unhealthy', reasons: [exampleReason] }),
      },
    }),
    (_, reply) => {
      const reasons = gateway
        .volumes()
        .filter(({ status }) => unhealthy.has(status.state))
        .map(({ status }) => ({ volume: status.name, state: status.state, reason: status.reason ?? null }));
      return reply
        .code(reasons.length === 0 ? 200 : 503)
        .send({ status: reasons.length === 0 ? 'healthy' : 'unhealthy', reasons });
    },
  );

  app.get(
    '/metrics',
    described({
      operationId: 'scrapeMetrics',
      summary: 'Metrics as Prometheus text',
      tag,
      responses: {
        200: textAnswer('Metrics', 'text/plain', 'keepgate_volume_size_bytes{volume="disk0"} 107374182400\n'),
      },
    }),
    async (_, reply) => reply.header('content-type', metrics.contentType).send(await metrics.render()),
  );
}
