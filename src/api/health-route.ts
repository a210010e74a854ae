/** The probes and the metrics: what container platforms and Prometheus ask. */
import type { FastifyInstance } from 'fastify';
import type { MetricsRegistry } from '../metrics/registry.js';
import type { GatewayView } from './gateway-view.js';

/** States that need a person. */
const unhealthy: ReadonlySet<string> = new Set(['failed', 'fenced', 'stalled']);

export function addHealthRoutes(app: FastifyInstance, gateway: GatewayView, metrics: MetricsRegistry): void {
  const schema = (summary: string) => ({ summary, tags: ['health'] });

  app.get('/livez', { schema: schema('200 while the event loop runs') }, () => ({ status: 'live' }));

  app.get('/readyz', { schema: schema('200 once every volume is open and every listener is up') }, (_, reply) => {
    const ready = gateway.ready();
    return reply.code(ready ? 200 : 503).send({ status: ready ? 'ready' : 'starting' });
  });

  app.get('/healthz', { schema: schema('503 with reasons when a volume is failed, fenced or stalled') }, (_, reply) => {
    const reasons = gateway
      .volumes()
      .filter(({ status }) => unhealthy.has(status.state))
      .map(({ status }) => ({ volume: status.name, state: status.state, reason: status.reason ?? null }));
    return reply
      .code(reasons.length === 0 ? 200 : 503)
      .send({ status: reasons.length === 0 ? 'healthy' : 'unhealthy', reasons });
  });

  app.get('/metrics', { schema: schema('Prometheus text') }, async (_, reply) => {
    return reply.header('content-type', metrics.contentType).send(await metrics.render());
  });
}
