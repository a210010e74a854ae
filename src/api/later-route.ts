/** Documented routes that this version refuses, each with what to do instead. */
import type { FastifyInstance, HTTPMethods } from 'fastify';
import { GatewayError } from '../base/errors.js';

const laterRoutes: readonly (readonly [HTTPMethods, string, string])[] = [
  ['POST', '/v1/volumes', 'adding volumes while running; add it to the configuration and restart'],
  ['DELETE', '/v1/volumes/:name', 'removing volumes while running; remove it from the configuration and restart'],
  ['DELETE', '/v1/sessions/:id', 'ending sessions; detach the volume on its client'],
  ['GET', '/v1/events', 'events; poll GET /v1/volumes'],
];

export function addLaterRoutes(app: FastifyInstance): void {
  for (const [method, url, text] of laterRoutes) {
    app.route({
      method,
      url,
      schema: { summary: `Not supported by this version: ${text}`, tags: ['later'] },
      handler: () => {
        throw new GatewayError('not-supported', `this version does not support ${text}`);
      },
    });
  }
}
