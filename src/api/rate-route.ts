/** The last hour of a volume in steps of ten seconds, for plots. */
import type { FastifyInstance } from 'fastify';
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { perRateField } from '../metrics/rate-history.js';
import type { RateHistory, RateSample } from '../metrics/rate-history.js';
import { answer, described, group, listOf, nullable, number, orNull, saying, string, time } from './schema.js';

const columnSchema = listOf(nullable('number'));
const historySchema = group({
  volume: string,
  intervalSeconds: number,
  time: saying(orNull(time), 'When the last interval ended; null: there is none yet'),
  ...perRateField(() => saying(columnSchema, 'Oldest first, at most an hour; null: the gateway did not run')),
});

export const rateSchema = { $id: 'Rates', ...group({ volume: string, time, ...perRateField(() => number) }) };

const exampleColumns = {
  readBytesPerSecond: [0, 40_960],
  writeBytesPerSecond: [1_048_576, 524_288],
  operationsPerSecond: [64, 40],
  uploadBytesPerSecond: [983_040, 491_520],
  lagSeconds: [7.2, 3.1],
  bufferUsedBytes: [41_943_040, 39_845_888],
};

export const exampleRates = {
  volume: 'disk0',
  time: '2026-11-26T08:15:10.000Z',
  ...perRateField((field) => exampleColumns[field][1] ?? 0),
};

export function reportRates(volume: string, lastMs: number, sample: RateSample) {
  return { volume, time: new Date(lastMs).toISOString(), ...sample };
}

export function addRateRoutes(app: FastifyInstance, rates: RateHistory): void {
  const intervalSeconds = limits.rateIntervalMs / 1000;
  app.get<{ Params: { name: string } }>(
    '/v1/volumes/:name/rates',
    described({
      operationId: 'showRates',
      summary: 'Rates of the last hour, as the status page plots them',
      description: 'Kept in memory since the start of the gateway. For longer, and for alerts, there is /metrics.',
      tag: 'volumes',
      params: { name: 'Of the volume' },
      responses: {
        200: answer('One column for each kind', historySchema, {
          volume: 'disk0',
          intervalSeconds,
          time: exampleRates.time,
          ...exampleColumns,
        }),
      },
    }),
    ({ params }) => {
      const found = rates.columns(params.name);
      if (found === undefined) throw new GatewayError('not-found', `there is no volume "${params.name}"`);
      const { lastMs, columns } = found;
      const any = columns.lagSeconds.length > 0;
      return { volume: params.name, intervalSeconds, time: any ? new Date(lastMs).toISOString() : null, ...columns };
    },
  );
}
