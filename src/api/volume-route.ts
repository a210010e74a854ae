/** Volumes: what they are, and what can be done to them. */
import type { FastifyInstance } from 'fastify';
import { GatewayError } from '../base/errors.js';
import type { ByteLength } from '../base/units.js';
import { WrongValue } from '../config/problem.js';
import { parseSize } from '../config/quantity.js';
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
