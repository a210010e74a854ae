/** The gateway's bandwidth: what holds and who set it; changes until null, SIGHUP or a restart ends them. */
import type { FastifyInstance } from 'fastify';
import { GatewayError } from '../base/errors.js';
import { WrongValue } from '../config/problem.js';
import { formatLimit, parseRateLimit } from '../config/quantity.js';
import { UNLIMITED } from '../ports/bandwidth.js';
import type { BandwidthReport, RateLimit } from '../ports/bandwidth.js';
import type { GatewayView } from './gateway-view.js';
import { answer, described, group, nullable, saying, string } from './schema.js';

const direction = group({
  limit: saying(string, 'As a configuration writes it: 20MB/s, unlimited, auto'),
  by: { type: 'string', enum: ['configuration', 'schedule', 'api'] },
  bytesPerSecond: saying(nullable('number'), 'What holds now; null: unlimited'),
});
const reportSchema = group({ upload: direction, download: direction });
const wanted = {
  type: ['string', 'null'],
  description: '20MB/s, 5Mbit/s, unlimited or auto; null: what the configuration and its schedule say again',
};
const changeSchema = {
  type: 'object',
  minProperties: 1,
  additionalProperties: false,
  properties: { upload: wanted, download: wanted },
};
const exampleReport = {
  upload: { limit: '5Mbit/s', by: 'api', bytesPerSecond: 625_000 },
  download: { limit: 'unlimited', by: 'configuration', bytesPerSecond: null },
};

type Written = Readonly<Partial<Record<'upload' | 'download', unknown>>>;

/** @throws GatewayError invalid-request */
function changeOf(body: unknown): Written {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new GatewayError('invalid-request', 'the body: write {"upload": "20MB/s"}');
  }
  const wrong = Object.keys(body).find((key) => key !== 'upload' && key !== 'download');
  if (wrong !== undefined) {
    throw new GatewayError('invalid-request', `${wrong}: unknown key; known here are upload, download`);
  }
  if (Object.keys(body).length === 0) {
    throw new GatewayError('invalid-request', 'nothing to change; write {"upload": "20MB/s"}');
  }
  return body;
}

export function addBandwidthRoutes(app: FastifyInstance, gateway: GatewayView): void {
  const tag = 'bandwidth';
  app.get(
    '/v1/bandwidth',
    described({
      operationId: 'showBandwidth',
      summary: 'Limits of the whole gateway',
      tag,
      responses: { 200: answer('What holds now, and who set it', reportSchema, exampleReport) },
    }),
    () => reports(gateway),
  );

  app.put(
    '/v1/bandwidth',
    described({
      operationId: 'changeBandwidth',
      summary: 'Change a limit at once, until null, SIGHUP or a restart',
      tag,
      changes: true,
      body: { schema: changeSchema, example: { upload: '5Mbit/s' } },
      responses: { 200: answer('What holds now', reportSchema, exampleReport) },
    }),
    ({ body }) => {
      const change = changeOf(body);
      const upload = limitOf('upload', change.upload);
      const download = limitOf('download', change.download);
      gateway.changeBandwidth({
        ...(upload === undefined ? {} : { upload }),
        ...(download === undefined ? {} : { download }),
      });
      return reports(gateway);
    },
  );
}

function limitOf(key: string, written: unknown): RateLimit | null | undefined {
  if (written === undefined || written === null) return written;
  try {
    return parseRateLimit(written);
  } catch (error) {
    if (error instanceof WrongValue) throw new GatewayError('invalid-request', `${key}: ${error.message}`);
    throw error;
  }
}

function reports(gateway: GatewayView) {
  const { upload, download } = gateway.bandwidth();
  return { upload: shown(upload), download: shown(download) };
}

function shown({ limit, by, bytesPerSecond }: BandwidthReport) {
  return { limit: formatLimit(limit), by, bytesPerSecond: bytesPerSecond === UNLIMITED ? null : bytesPerSecond };
}
