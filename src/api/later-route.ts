/** Documented routes that this version refuses, each with what to do instead. */
import type { FastifyInstance, HTTPMethods } from 'fastify';
import { GatewayError } from '../base/errors.js';
import { described } from './schema.js';

interface LaterRoute {
  readonly method: HTTPMethods;
  readonly url: string;
  readonly operationId: string;
  readonly params?: Readonly<Record<string, string>>;
  readonly text: string;
}

const laterRoutes: readonly LaterRoute[] = [
  {
    method: 'POST',
    url: '/v1/volumes',
    operationId: 'addVolume',
    text: 'adding volumes while running; add it to the configuration and restart',
  },
  {
    method: 'DELETE',
    url: '/v1/volumes/:name',
    operationId: 'removeVolume',
    params: { name: 'Of the volume' },
    text: 'removing volumes while running; remove it from the configuration and restart',
  },
];

export function addLaterRoutes(app: FastifyInstance): void {
  for (const { method, url, text, ...named } of laterRoutes) {
    app.route({
      method,
      url,
      ...described({
        ...named,
        summary: `Not supported by this version: ${text}`,
        tag: 'volumes',
        changes: true,
        responses: {},
      }),
      handler: () => {
        throw new GatewayError('not-supported', `this version does not support ${text}`);
      },
    });
  }
}
