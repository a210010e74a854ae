/**
 * The HTTP API: Fastify with its guard, error form and routes. Serves what GatewayView says and holds no state.
 */
import fastify from 'fastify';
import type { FastifyInstance } from 'fastify';
import bearerAuth from '@fastify/bearer-auth';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import { limits } from '../base/limits.js';
import type { ListenAddress } from '../config/listen-address.js';
import type { MetricsRegistry } from '../metrics/registry.js';
import type { Log } from '../ports/log.js';
import { addBandwidthRoutes } from './bandwidth-route.js';
import type { GatewayView } from './gateway-view.js';
import { isAllowedHost, needsToken } from './guard.js';
import { addHealthRoutes } from './health-route.js';
import { addLaterRoutes } from './later-route.js';
import { problemContentType, problemFrom, problemOf } from './problem.js';
import { addRestoreRoutes } from './restore-route.js';
import { addSnapshotRoutes } from './snapshot-route.js';
import { addVolumeRoutes } from './volume-route.js';

export type ApiServer = FastifyInstance;

export interface ApiOptions {
  readonly gateway: GatewayView;
  readonly metrics: MetricsRegistry;
  readonly listen: ListenAddress;
  readonly token: string;
  readonly log: Log;
}

/** Not listening yet; `inject` works. */
export async function createApi(options: ApiOptions): Promise<ApiServer> {
  const { gateway, metrics, listen, token, log } = options;
  const app = fastify({
    bodyLimit: limits.apiBodyBytesMax,
    forceCloseConnections: true,
    routerOptions: { ignoreTrailingSlash: true },
  });
  // JSON is the only content type of the API.
  app.removeContentTypeParser('text/plain');
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Keepgate', version: gateway.version, description: 'The API of a Keepgate gateway.' },
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
    },
  });
  await app.register(swaggerUi, { routePrefix: '/docs' });
  await addGuard(app, listen, token);
  addErrors(app, log);
  addHealthRoutes(app, gateway, metrics);
  addVolumeRoutes(app, gateway);
  addRestoreRoutes(app, gateway);
  addSnapshotRoutes(app, gateway);
  addBandwidthRoutes(app, gateway);
  addLaterRoutes(app);
  return app;
}

async function addGuard(app: FastifyInstance, listen: ListenAddress, token: string): Promise<void> {
  // Compares in constant time; its refusal goes to the error handler below.
  await app.register(bearerAuth, { addHook: false, keys: new Set([token]), verifyErrorLogLevel: 'debug' });
  const { verifyBearerAuth } = app;
  if (verifyBearerAuth === undefined) throw new TypeError('@fastify/bearer-auth did not decorate');
  app.addHook('onRequest', (request, reply, done) => {
    if (!isAllowedHost(request.headers.host, listen)) {
      const problem = problemOf('host-refused', 'the Host header does not name this gateway');
      void reply.code(problem.status).type(problemContentType).send(problem);
    } else if (needsToken(request.method, new URL(request.url, 'http://localhost').pathname, listen)) {
      verifyBearerAuth(request, reply, done);
    } else {
      done();
    }
  });
}

function addErrors(app: FastifyInstance, log: Log): void {
  app.setErrorHandler((error, request, reply) => {
    const problem = problemFrom(error);
    if (problem.code === 'internal') {
      log.error('request failed', { method: request.method, url: request.url, error: String(error) });
    }
    return reply.code(problem.status).type(problemContentType).send(problem);
  });
  app.setNotFoundHandler((request, reply) => {
    const problem = problemOf('not-found', `there is no ${request.method} ${request.url}`);
    return reply.code(problem.status).type(problemContentType).send(problem);
  });
}

/** @throws GatewayError listen-refused. Returns the address in use, with the port that the system chose for port 0. */
export async function listenApi(app: ApiServer, listen: ListenAddress): Promise<ListenAddress> {
  await app.listen(listen.kind === 'unix' ? { path: listen.path } : { host: listen.host, port: listen.port });
  if (listen.kind === 'unix') return listen;
  const bound = app.server.address();
  return typeof bound === 'object' && bound !== null ? { ...listen, port: bound.port } : listen;
}
