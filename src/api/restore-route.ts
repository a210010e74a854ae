/** Restoring a volume into the running gateway. */
import type { FastifyInstance } from 'fastify';
import { GatewayError } from '../base/errors.js';
import type { GatewayView, RestoreRequest } from './gateway-view.js';
import { accepted, acceptedAnswer } from './operation-route.js';
import { described } from './schema.js';

const fields = {
  volume: 'string',
  from: 'string',
  as: 'string',
  takeOver: 'boolean',
  snapshot: 'string',
  receipt: 'object',
  acceptLoss: 'boolean',
  full: 'boolean',
  keyFile: 'string',
  endpoint: 'string',
  region: 'string',
  forcePathStyle: 'boolean',
} as const;

/** Fastify would make a string of whatever else stands there. */
function requestOf(body: unknown): RestoreRequest {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new GatewayError('invalid-request', 'the body: write {"volume": "disk0", "from": "s3://BUCKET/PREFIX"}');
  }
  const given = body as Readonly<Record<string, unknown>>;
  for (const [key, value] of Object.entries(given)) {
    const type = Object.hasOwn(fields, key) ? fields[key as keyof typeof fields] : undefined;
    if (type === undefined) {
      throw new GatewayError('invalid-request', `${key}: is no field; known are ${Object.keys(fields).join(', ')}`);
    }
    if (typeof value !== type || value === null || Array.isArray(value)) {
      throw new GatewayError('invalid-request', `${key}: must be ${type === 'object' ? 'an' : 'a'} ${type}`);
    }
  }
  const { volume, from, as, receipt, ...rest } = given as Readonly<Record<string, string>>;
  if (volume === undefined) throw new GatewayError('invalid-request', 'volume: is missing; name or uuid in the bucket');
  if (from === undefined) throw new GatewayError('invalid-request', 'from: is missing; write s3://BUCKET/PREFIX');
  if (as !== undefined && !/^[a-z0-9][a-z0-9-]{0,62}$/.test(as)) {
    throw new GatewayError('invalid-request', `as: "${as}" is not a volume name; write 1 to 63 of a-z, 0-9 and -`);
  }
  return {
    volume,
    from,
    ...(as === undefined ? {} : { as }),
    ...(receipt === undefined ? {} : { receipt: JSON.stringify(receipt) }),
    ...(rest as Partial<RestoreRequest>),
  };
}

const meanings: Readonly<Record<keyof typeof fields, string>> = {
  volume: 'Name or uuid in the bucket',
  from: 's3://BUCKET/PREFIX or file:///DIRECTORY',
  as: 'Its name here; default: its own',
  takeOver: 'Continue the volume itself, which lies in this gateway’s store',
  snapshot: 'Default: the newest recovery point',
  receipt: 'What /v1/volumes/{name}/receipt gave: refuse what is older',
  acceptLoss: 'Restore what can be restored of a bucket that lost something',
  full: 'The operation is done once everything is here, not once it is served',
  keyFile: 'A path on the gateway; default: its own key',
  endpoint: 'Of the store',
  region: 'Of the store',
  forcePathStyle: 'Of the store',
};

const requestSchema = {
  type: 'object',
  required: ['volume', 'from'],
  additionalProperties: false,
  properties: Object.fromEntries(
    Object.entries(fields).map(([key, type]) => [key, { type, description: meanings[key as keyof typeof fields] }]),
  ),
};

export function addRestoreRoutes(app: FastifyInstance, gateway: GatewayView): void {
  app.post(
    '/v1/restores',
    described({
      operationId: 'restoreVolume',
      summary: 'Restore a volume as a detached copy, which is served before its content is there',
      tag: 'volumes',
      changes: true,
      body: { schema: requestSchema, example: { volume: 'disk0', from: 's3://backups/site-a', as: 'copy0' } },
      responses: acceptedAnswer,
    }),
    ({ body }, reply) => accepted(reply, gateway.restore(requestOf(body))),
  );
}
