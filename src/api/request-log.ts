/** One line for each request of the API, at debug. Neither headers nor bodies nor the query: no token can be among them. */
import type { FastifyInstance } from 'fastify';
import type { Log } from '../ports/log.js';

const US_PER_MS = 1000;

export function addRequestLog(app: FastifyInstance, log: Log): void {
  const requests = log.child('request');
  if (!requests.debugs) return;
  app.addHook('onResponse', (request, reply, done) => {
    const [path = ''] = request.url.split('?');
    const durationUs = Math.round(reply.elapsedTime * US_PER_MS);
    requests.debug('request', { method: request.method, path, status: reply.statusCode, durationUs });
    done();
  });
}
