/**
 * The HTTP API: Fastify with its guard, error form and routes. Serves what GatewayView says; its own are only the streams
 * of events and the rates of the last hour, which live from `ready` to `close`.
 *
 * Bounded: connections, the size of a request, how long it takes to arrive, and streams (base/limits.ts). Requests per
 * second are not limited: whoever may ask at all is this machine, or has the token, and the probes cost nothing.
 */
import fastify from 'fastify';
import type { FastifyInstance } from 'fastify';
import bearerAuth from '@fastify/bearer-auth';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import { limits } from '../base/limits.js';
import type { ListenAddress } from '../config/listen-address.js';
import { RateHistory } from '../metrics/rate-history.js';
import type { MetricsRegistry } from '../metrics/registry.js';
import type { Clock } from '../ports/clock.js';
import type { Log } from '../ports/log.js';
import { addBandwidthRoutes } from './bandwidth-route.js';
import { addEventRoutes, gatewaySchema, removedSchema } from './event-route.js';
import { EventStreams } from './event-stream.js';
import type { GatewayView } from './gateway-view.js';
import { isAllowedHost, isForeign, needsToken } from './guard.js';
import { addHealthRoutes } from './health-route.js';
import { addOperationRoutes, operationSchema } from './operation-route.js';
import { addPageRoutes } from './page-route.js';
import type { PageFiles } from './page-route.js';
import { problemContentType, problemFrom, problemOf } from './problem.js';
import { addRateRoutes, rateSchema } from './rate-route.js';
import { addRequestLog } from './request-log.js';
import { addRestoreRoutes } from './restore-route.js';
import { problemSchema, withOptionalBodies } from './schema.js';
import { addSessionRoutes } from './session-route.js';
import { addSnapshotRoutes } from './snapshot-route.js';
import { volumeSchema } from './volume-report.js';
import { addVolumeRoutes } from './volume-route.js';

export type ApiServer = FastifyInstance;

export interface ApiOptions {
  readonly gateway: GatewayView;
  readonly metrics: MetricsRegistry;
  readonly listen: ListenAddress;
  readonly token: string;
  readonly log: Log;
  readonly clock: Clock;
  /** Of the status page; none: there is no page. */
  readonly page: PageFiles;
}

/** What the document and the routes name. */
const sharedSchemas = [problemSchema, volumeSchema, operationSchema, rateSchema, gatewaySchema, removedSchema] as const;

const documentPolicy =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; " +
  "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** Not listening yet; `inject` works. */
export async function createApi(options: ApiOptions): Promise<ApiServer> {
  const { gateway, metrics, listen, token, log, clock } = options;
  const app = fastify({
    bodyLimit: limits.apiBodyBytesMax,
    requestTimeout: limits.apiRequestMsMax,
    forceCloseConnections: true,
    routerOptions: { ignoreTrailingSlash: true },
  });
  app.server.maxConnections = limits.apiConnectionsMax;
  // JSON is the only content type of the API.
  app.removeContentTypeParser('text/plain');
  await addDocument(app, gateway.version);
  addRequestLog(app, log);
  await addGuard(app, listen, token);
  addErrors(app, log);
  for (const schema of sharedSchemas) app.addSchema(schema);

  const rates = new RateHistory({ clock, volumes: () => gateway.volumes() });
  const streams = new EventStreams({ gateway, rates, clock });
  app.addHook('onReady', (done) => {
    rates.start();
    done();
  });
  app.addHook('preClose', (done) => {
    rates.close();
    streams.close();
    done();
  });

  addHealthRoutes(app, gateway, metrics);
  addVolumeRoutes(app, gateway);
  addRateRoutes(app, rates);
  addRestoreRoutes(app, gateway);
  addSnapshotRoutes(app, gateway);
  addOperationRoutes(app, gateway);
  addSessionRoutes(app, gateway);
  addBandwidthRoutes(app, gateway);
  addEventRoutes(app, streams);
  addPageRoutes(app, options.page);
  return app;
}

async function addDocument(app: FastifyInstance, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Keepgate',
        version,
        description:
          'The API of a Keepgate gateway. Reading is open on loopback and Unix sockets; every change needs the token of `api.tokenFile`, and beyond loopback reading needs it too, the probes apart.',
      },
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
    },
    refResolver: { buildLocalReference: ({ $id }, _, __, at) => (typeof $id === 'string' ? $id : `Schema${at}`) },
    transformObject: (document) => withOptionalBodies('openapiObject' in document ? document.openapiObject : {}),
  });
  await app.register(swaggerUi, { routePrefix: '/docs', staticCSP: documentPolicy });
}

async function addGuard(app: FastifyInstance, listen: ListenAddress, token: string): Promise<void> {
  // Compares in constant time; its refusal goes to the error handler below.
  await app.register(bearerAuth, { addHook: false, keys: new Set([token]), verifyErrorLogLevel: 'debug' });
  const { verifyBearerAuth } = app;
  if (verifyBearerAuth === undefined) throw new TypeError('@fastify/bearer-auth did not decorate');
  app.addHook('onRequest', (request, reply, done) => {
    void reply.header('x-content-type-options', 'nosniff');
    if (!isAllowedHost(request.headers.host, listen)) {
      const problem = problemOf('host-refused', 'the Host header does not name this gateway');
      void reply.code(problem.status).type(problemContentType).send(problem);
    } else if (isForeign(request.headers)) {
      const problem = problemOf('host-refused', 'a browser asks on behalf of a page of another site');
      void reply.code(problem.status).type(problemContentType).send(problem);
    } else if (needsToken(request.method, request.routeOptions.url, listen)) {
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
