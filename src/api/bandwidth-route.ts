/** The gateway's bandwidth: what holds and who set it; changes until null, SIGHUP or a restart ends them. */
import type { FastifyInstance } from 'fastify';
import { GatewayError } from '../base/errors.js';
import { WrongValue } from '../config/problem.js';
import { formatLimit, parseRateLimit } from '../config/quantity.js';
import { UNLIMITED } from '../ports/bandwidth.js';
import type { BandwidthReport, RateLimit } from '../ports/bandwidth.js';
import type { GatewayView } from './gateway-view.js';

const direction = {
  type: 'object',
  required: ['limit', 'by', 'bytesPerSecond'],
  properties: {
    limit: { type: 'string', description: 'As a configuration writes it: 20MB/s, unlimited, auto' },
    by: { type: 'string', enum: ['configuration', 'schedule', 'api'] },
    bytesPerSecond: { type: ['number', 'null'], description: 'What holds now; null: unlimited' },
  },
};
const reportSchema = {
  type: 'object',
  required: ['upload', 'download'],
  properties: { upload: direction, download: direction },
};
const wanted = {
  type: ['string', 'null'],
  maxLength: 40,
  description: '20MB/s, 5Mbit/s, unlimited or auto; null: what the configuration and its schedule say again',
};
const changeSchema = {
  type: 'object',
  properties: { upload: wanted, download: wanted },
};

type Written = Readonly<Record<'upload' | 'download', string | null | undefined>>;

/** Fastify would drop unknown keys in silence. */
function checkKeys(body: object): void {
  const wrong = Object.keys(body).find((key) => key !== 'upload' && key !== 'download');
  if (wrong !== undefined) {
    throw new GatewayError('invalid-request', `${wrong}: unknown key; known here are upload, download`);
  }
  if (Object.keys(body).length === 0) {
    throw new GatewayError('invalid-request', 'nothing to change; write {"upload": "20MB/s"}');
  }
}

export function addBandwidthRoutes(app: FastifyInstance, gateway: GatewayView): void {
  const tags = ['bandwidth'];
  app.get(
    '/v1/bandwidth',
    { schema: { summary: 'Limits of the whole gateway', tags, response: { 200: reportSchema } } },
    () => reports(gateway),
  );

  app.put<{ Body: Written }>(
    '/v1/bandwidth',
    {
      schema: {
        summary: 'Change a limit at once, until null, SIGHUP or a restart',
        tags,
        body: changeSchema,
        response: { 200: reportSchema },
        security: [{ token: [] }],
      },
    },
    ({ body }) => {
      checkKeys(body);
      const upload = limitOf('upload', body.upload);
      const download = limitOf('download', body.download);
      gateway.changeBandwidth({
        ...(upload === undefined ? {} : { upload }),
        ...(download === undefined ? {} : { download }),
      });
      return reports(gateway);
    },
  );
}

function limitOf(key: string, written: string | null | undefined): RateLimit | null | undefined {
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
