/**
 * The status page over a gateway that is made up: three volumes with an hour behind them, one of which is being restored.
 * For pictures, and for what a real gateway takes an hour to show.
 */
import type { FastifyInstance } from 'fastify';
import type { Operation } from '../../src/api/gateway-view.js';
import { createApi, listenApi } from '../../src/api/server.js';
import { IoStats, ioOps } from '../../src/base/io-stats.js';
import { limits } from '../../src/base/limits.js';
import { createMetrics } from '../../src/metrics/registry.js';
import type { MeteredVolume } from '../../src/metrics/source.js';
import { readPageFiles } from '../../src/platform/page-files.js';
import { ManualClock } from '../fake/clock.js';
import { FakeGateway, meteredVolume } from '../fake/gateway-view.js';
import { RecordedLog } from '../fake/log.js';

const mib = 1024 ** 2;
const gib = 1024 ** 3;
const none = { logins: 0, rejections: new Map<string, number>() };

class MadeUpGateway extends FakeGateway {
  readonly #clock: ManualClock;
  readonly #names = ['web', 'archive', 'mail'] as const;
  readonly #counters = new Map(this.#names.map((name) => [name, { stats: new IoStats(), uploaded: 0, used: 0 }]));
  #step = 0;

  constructor(clock: ManualClock) {
    super();
    this.#clock = clock;
  }

  /** Ten seconds of work: two waves a day's shape would have, the same each time. */
  work(): void {
    this.#step += 1;
    for (const [index, [, counter]] of [...this.#counters].entries()) {
      const wave = 1 + Math.sin(this.#step / (23 + 11 * index)) + 0.35 * Math.sin(this.#step * 1.7 + index);
      const burst = this.#step % (90 + 40 * index) < 12 ? 6 : 1;
      const written = Math.round(Math.max(0, wave) * burst * 4 * mib);
      const count = Math.round(written / (64 * 1024));
      for (let at = 0; at < count; at++) counter.stats.record(ioOps.indexOf('write'), 64 * 1024, 100, false);
      for (let at = 0; at < count * 2; at++) counter.stats.record(ioOps.indexOf('read'), 32 * 1024, 100, false);
      const sent = Math.min(counter.used + written, 9 * mib);
      counter.used += written - sent;
      counter.uploaded += sent;
    }
  }

  override volumes(): readonly MeteredVolume[] {
    const shapes = {
      web: { sizeBytes: 100 * gib, client: 'nbd 127.0.0.1', connections: 4 },
      archive: { sizeBytes: 500 * gib, client: undefined, connections: 0 },
      mail: { sizeBytes: 20 * gib, client: 'iscsi iqn.1993-08.org.debian:01:mail', connections: 1 },
    } as const;
    return [...this.#counters].map(([name, { stats, uploaded, used }]) => {
      const { status, ...rest } = meteredVolume('online');
      const shape = shapes[name];
      const restoring = name === 'archive';
      const lagSeconds = Math.round(used / (0.8 * mib));
      return {
        ...rest,
        stats: { nbd: stats, iscsi: this.stats.iscsi },
        timeToFullSeconds: name === 'mail' ? 5160 : Infinity,
        lagSeconds,
        status: {
          ...status,
          name,
          sizeBytes: shape.sizeBytes,
          state: restoring ? ('hydrating' as const) : ('online' as const),
          reason: undefined,
          clients:
            shape.client === undefined
              ? []
              : [{ frontend: 'nbd' as const, description: shape.client, connections: shape.connections }],
          hydration: restoring ? { remainingBlocks: 41 * 1024 * 256, problem: undefined } : undefined,
          bufferCapacityBytes: gib,
          bufferUsedBytes: used,
          pendingBytes: used,
          replication: status.replication && {
            ...status.replication,
            mode: used > 0 ? ('draining' as const) : ('idle' as const),
            uploadedBytes: uploaded,
            recoveryPoint: { lsn: 1, segment: 118, epoch: 2, timeMs: this.#clock.wallMs() - lagSeconds * 1000 },
          },
        },
      };
    });
  }

  override operations(): readonly Operation[] {
    const made = { id: 'op-1', volume: 'web', reason: undefined };
    return [
      { ...made, kind: 'scrub', state: 'done', totalBytes: 0, doneBytes: 0, bytesPerSecond: 0 },
      {
        ...made,
        id: 'op-2',
        volume: 'mail',
        kind: 'drain',
        state: 'running',
        totalBytes: 310 * mib,
        doneBytes: 124 * mib,
        bytesPerSecond: 9 * mib,
      },
    ];
  }
}

export async function servePage(): Promise<{ readonly app: FastifyInstance; readonly url: string }> {
  const clock = new ManualClock();
  const gateway = new MadeUpGateway(clock);
  const metrics = createMetrics({
    version: '0.1.0',
    sessions: () => ({ nbd: none, iscsi: none }),
    volumes: () => gateway.volumes(),
    uploadLimit: () => undefined,
  });
  const listen = { kind: 'tcp', host: '127.0.0.1', port: 0 } as const;
  const page = await readPageFiles();
  const app = await createApi({ gateway, metrics, listen, token: 'token', page, clock, log: new RecordedLog() });
  const bound = await listenApi(app, listen);
  for (let at = 0; at < limits.rateSamplesMax; at++) {
    gateway.work();
    clock.advance(limits.rateIntervalMs);
  }
  return { app, url: bound.kind === 'tcp' ? `http://127.0.0.1:${bound.port}` : '' };
}
