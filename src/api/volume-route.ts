/** Volumes: what they are, and what can be done to them. */
import type { FastifyInstance } from 'fastify';
import { GatewayError } from '../base/errors.js';
import type { ByteLength } from '../base/units.js';
import { WrongValue } from '../config/problem.js';
import { parseSize } from '../config/quantity.js';
import { isMapping } from '../config/shape.js';
import type { MeteredVolume } from '../metrics/source.js';
import type { GatewayView } from './gateway-view.js';
import { accepted, acceptedAnswer } from './operation-route.js';
import { answer, described, group, listOf, number, saying, shared, string } from './schema.js';
import { exampleVolume, reportVolume } from './volume-report.js';

const receiptSchema = group({
  keepgateReceipt: saying(number, 'Version of the format'),
  volume: saying(string, 'Its uuid'),
  epoch: number,
  segment: number,
  link: saying(string, 'Of the chain of segments up to this one, in hexadecimal'),
  lsn: number,
  time: string,
  mac: saying(string, 'Authenticates the other fields, in hexadecimal'),
});

const exampleReceipt = {
  keepgateReceipt: 2,
  volume: exampleVolume.uuid,
  epoch: 2,
  segment: 118,
  link: 'a1'.repeat(32),
  lsn: 80_640,
  time: '2026-11-26T08:15:02.000Z',
  mac: 'b2'.repeat(32),
};

const params = { name: 'Of the volume' };

export function addVolumeRoutes(app: FastifyInstance, gateway: GatewayView): void {
  addVolumeReports(app, gateway);

  app.post(
    '/v1/volumes',
    described({
      operationId: 'addVolume',
      summary: 'Add a volume; it is one of the gateway from now on, over restarts too',
      description:
        'The body is what an entry of `volumes` in the configuration says; paths in it are absolute. A volume whose store does not answer yet has the state `opening`.',
      tag: 'volumes',
      changes: true,
      body: {
        schema: {
          type: 'object',
          required: ['name', 'size'],
          properties: { name: string, size: { type: ['string', 'number'], description: '100GiB, or bytes' } },
        },
        example: { name: 'disk1', size: '100GiB', buffer: { size: '1GiB' } },
      },
      responses: { 201: answer('The volume', shared('Volume'), exampleVolume) },
    }),
    async ({ body }, reply) => {
      const name = await gateway.addVolume(entryOf(body));
      return reply
        .code(201)
        .header('location', `/v1/volumes/${name}`)
        .send(reportVolume(volumeNamed(gateway, name)));
    },
  );

  app.delete<{ Params: { name: string }; Querystring: { confirm?: string; acceptLoss?: boolean } }>(
    '/v1/volumes/:name',
    described({
      operationId: 'removeVolume',
      summary: 'Remove an added volume that nobody has attached, with its directory; the bucket stays as it is',
      description: 'Volumes of the configuration are taken out there instead.',
      tag: 'volumes',
      changes: true,
      params,
      querystring: {
        type: 'object',
        properties: {
          confirm: { type: 'string', maxLength: 100, description: 'The name of the volume again' },
          acceptLoss: { type: 'boolean', description: 'Even if the bucket lacks what was written last' },
        },
      },
      responses: { 200: answer('It is gone', group({ name: string }), { name: 'disk1' }) },
    }),
    async ({ params: { name }, query: { confirm, acceptLoss } }) => {
      await gateway.removeVolume(name, { confirm, acceptLoss: acceptLoss === true });
      return { name };
    },
  );

  app.patch<{ Params: { name: string } }>(
    '/v1/volumes/:name',
    described({
      operationId: 'growVolume',
      summary: 'Grow a volume; who is attached goes on',
      description: 'A volume never shrinks.',
      tag: 'volumes',
      changes: true,
      params,
      body: {
        schema: group({ size: { type: ['string', 'number'], description: '200GiB, or bytes; a multiple of 4 KiB' } }),
        example: { size: '200GiB' },
      },
      responses: { 200: answer('The volume as it is now', shared('Volume'), exampleVolume) },
    }),
    async ({ params, body }) => {
      await gateway.resize(params.name, sizeOf(body));
      return reportVolume(volumeNamed(gateway, params.name));
    },
  );

  app.post<{ Params: { name: string } }>(
    '/v1/volumes/:name/drain',
    described({
      operationId: 'drainVolume',
      summary: 'Replicate all that is acknowledged now',
      tag: 'volumes',
      changes: true,
      params,
      responses: acceptedAnswer,
    }),
    ({ params }, reply) => accepted(reply, gateway.drain(params.name)),
  );

  app.post<{ Params: { name: string }; Querystring: { heal?: boolean } }>(
    '/v1/volumes/:name/scrub',
    described({
      operationId: 'scrubVolume',
      summary: 'Verify log, image and bucket; failed when anything was found',
      tag: 'volumes',
      changes: true,
      params,
      querystring: {
        type: 'object',
        properties: { heal: { type: 'boolean', description: 'Send again what the bucket lost' } },
      },
      responses: acceptedAnswer,
    }),
    ({ params, query }, reply) => accepted(reply, gateway.scrub(params.name, query.heal === true)),
  );

  app.post<{ Params: { name: string } }>(
    '/v1/volumes/:name/takeover',
    described({
      operationId: 'takeVolumeOver',
      summary: 'Become the owner of the remote volume again after `fenced`',
      tag: 'volumes',
      changes: true,
      params,
      responses: acceptedAnswer,
    }),
    ({ params }, reply) => accepted(reply, gateway.takeOver(params.name)),
  );
}

function addVolumeReports(app: FastifyInstance, gateway: GatewayView): void {
  app.get(
    '/v1/volumes',
    described({
      operationId: 'listVolumes',
      summary: 'All volumes',
      tag: 'volumes',
      responses: {
        200: answer('Volumes in the order of the configuration', listOf(shared('Volume')), [exampleVolume]),
      },
    }),
    () => gateway.volumes().map(reportVolume),
  );

  app.get<{ Params: { name: string } }>(
    '/v1/volumes/:name',
    described({
      operationId: 'showVolume',
      summary: 'One volume',
      tag: 'volumes',
      params,
      responses: { 200: answer('The volume', shared('Volume'), exampleVolume) },
    }),
    ({ params }) => reportVolume(volumeNamed(gateway, params.name)),
  );

  app.get<{ Params: { name: string } }>(
    '/v1/volumes/:name/receipt',
    described({
      operationId: 'showReceipt',
      summary: 'A receipt of the newest recovery point',
      description: 'Kept apart from the bucket, it lets a restore see that the bucket was set back.',
      tag: 'volumes',
      params,
      responses: { 200: answer('The receipt, as a restore takes it', receiptSchema, exampleReceipt) },
    }),
    async ({ params }) => JSON.parse(await gateway.receipt(params.name)) as object,
  );
}

function volumeNamed(gateway: GatewayView, name: string): MeteredVolume {
  const found = gateway.volumes().find(({ status }) => status.name === name);
  if (found === undefined) throw new GatewayError('not-found', `there is no volume "${name}"`);
  return found;
}

/** @throws GatewayError invalid-request */
function sizeOf(body: unknown): ByteLength {
  const { size, ...others } = typeof body === 'object' && body !== null ? (body as { size?: unknown }) : {};
  const [wrong] = Object.keys(others);
  if (size === undefined || wrong !== undefined)
    throw new GatewayError('invalid-request', `${wrong ?? 'the body'}: write {"size": "200GiB"}`);
  try {
    return parseSize(size);
  } catch (error) {
    if (!(error instanceof WrongValue)) throw error;
    throw new GatewayError('invalid-request', `size: ${error.message}`);
  }
}

/** The rest of it is the configuration's to check. */
function entryOf(body: unknown): Readonly<Record<string, unknown>> {
  const { name, size } = isMapping(body) ? body : {};
  if (isMapping(body) && typeof name === 'string' && (typeof size === 'string' || typeof size === 'number'))
    return body;
  throw new GatewayError('invalid-request', 'the body: write {"name": "disk1", "size": "100GiB"}');
}
