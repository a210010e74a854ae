/**
 * The HTTP API with its metrics and its page, listening. Loaded when it is wanted: with Fastify and prom-client it is half
 * of the program, and clients that wait for their disk need none of it.
 */
import type { GatewayView } from '../api/gateway-view.js';
import { createApi, listenApi } from '../api/server.js';
import { createMetrics } from '../metrics/registry.js';
import type { MetricsSource } from '../metrics/source.js';
import { readPageFiles } from '../platform/page-files.js';
import { listenRefused, removeStaleSocket } from '../platform/socket-listener.js';
import { restrictToOwner } from '../platform/text-file.js';
import type { Clock } from '../ports/clock.js';
import type { Log } from '../ports/log.js';
import type { ListenAddress } from '../ports/stream.js';

export interface ApiListenerOptions {
  readonly gateway: GatewayView;
  readonly metered: MetricsSource;
  readonly listen: ListenAddress;
  readonly token: string;
  readonly log: Log;
  readonly clock: Clock;
}

export interface ApiListener {
  /** In use, with the port that the system chose for port 0. */
  readonly address: ListenAddress;
  close(): Promise<void>;
}

/** @throws GatewayError listen-refused, and nothing is left open. */
export async function listenWithApi(options: ApiListenerOptions): Promise<ApiListener> {
  const { metered, listen } = options;
  const server = await createApi({ ...options, metrics: createMetrics(metered), page: await readPageFiles() });
  try {
    if (listen.kind === 'unix') await removeStaleSocket(listen.path, 'api.listen');
    const address = await listenApi(server, listen).catch((error: unknown) => {
      throw listenRefused({ address: listen, setting: 'api.listen' }, error as NodeJS.ErrnoException);
    });
    if (listen.kind === 'unix') await restrictToOwner(listen.path);
    return { address, close: async () => server.close() };
  } catch (error) {
    await server.close();
    throw error;
  }
}
