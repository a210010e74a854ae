/**
 * What changes, as it changes: server-sent events (HTML standard, section 9.2) of volumes, operations, rates and the
 * gateway itself. While somebody listens, everything is looked at once a second, and what differs from the last look is
 * sent to all; between two looks only the last state counts. A new stream begins with everything, so that a reader that
 * lost one misses nothing by beginning anew: there are no event ids.
 *
 * Bounds: apiEventStreamsMax streams; one that does not read is cut off with apiEventBytesMax outstanding. Nobody
 * listening costs nothing.
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { RateHistory } from '../metrics/rate-history.js';
import type { Clock, Timer } from '../ports/clock.js';
import type { GatewayView } from './gateway-view.js';
import { reportOperation } from './operation-route.js';
import { reportRates } from './rate-route.js';
import { reportVolume } from './volume-report.js';

export const eventNames = ['gateway', 'volume', 'volume-removed', 'operation', 'rates'] as const;
export type EventName = (typeof eventNames)[number];

/** What is needed of Node's ServerResponse. */
export interface EventReader {
  readonly writableLength: number;
  writeHead(status: number, headers: Readonly<Record<string, string>>): unknown;
  write(text: string): unknown;
  end(): unknown;
  destroy(): unknown;
  on(event: 'close', listener: () => void): unknown;
}

interface Item {
  readonly event: EventName;
  /** JSON. */
  readonly data: string;
}

export interface EventStreamOptions {
  readonly gateway: GatewayView;
  readonly rates: RateHistory;
  readonly clock: Clock;
}

export class EventStreams {
  readonly #options: EventStreamOptions;
  readonly #streams = new Set<EventReader>();
  /** What every stream has been told, by kind and name. */
  #told = new Map<string, Item>();
  #timer: Timer | undefined;
  #lastSentMs = 0;

  constructor(options: EventStreamOptions) {
    this.#options = options;
  }

  /** @throws GatewayError session-limit, before anything is written */
  open(response: EventReader): void {
    if (this.#streams.size >= limits.apiEventStreamsMax) {
      throw new GatewayError('session-limit', `there are ${this.#streams.size} event streams, the most there can be`);
    }
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    this.#tell();
    this.#streams.add(response);
    response.on('close', () => this.#forget(response));
    response.write(`retry: 2000\n\n${[...this.#told.values()].map(formatEvent).join('')}`);
    this.#timer ??= this.#wait();
  }

  /** Ends every stream. */
  close(): void {
    for (const response of [...this.#streams]) response.end();
  }

  #forget(response: EventReader): void {
    this.#streams.delete(response);
    if (this.#streams.size > 0) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#told.clear();
  }

  #wait(): Timer {
    return this.#options.clock.after(limits.eventIntervalMs, () => {
      this.#tell();
      this.#timer = this.#streams.size === 0 ? undefined : this.#wait();
    });
  }

  /** Looks, and sends the differences to all. */
  #tell(): void {
    const now = this.#look();
    const changed = [...now].filter(([key, { data }]) => this.#told.get(key)?.data !== data).map(([, item]) => item);
    for (const [key, { event, data }] of this.#told) {
      if (event !== 'volume' || now.has(key)) continue;
      const { name } = JSON.parse(data) as { readonly name: string };
      changed.push({ event: 'volume-removed', data: JSON.stringify({ name }) });
    }
    this.#told = now;
    const nowMs = this.#options.clock.nowMs();
    if (changed.length > 0) this.#send(changed.map(formatEvent).join(''), nowMs);
    else if (nowMs - this.#lastSentMs >= limits.eventSilenceMs) this.#send(': still here\n\n', nowMs);
  }

  #send(text: string, nowMs: number): void {
    this.#lastSentMs = nowMs;
    for (const response of [...this.#streams]) {
      if (response.writableLength > limits.apiEventBytesMax) response.destroy();
      else response.write(text);
    }
  }

  #look(): Map<string, Item> {
    const { gateway, rates } = this.#options;
    const items = new Map<string, Item>();
    const put = (event: EventName, name: string, data: object): void => {
      items.set(`${event} ${name}`, { event, data: JSON.stringify(data) });
    };
    for (const volume of gateway.volumes()) put('volume', volume.status.name, reportVolume(volume));
    for (const operation of gateway.operations()) put('operation', operation.id, reportOperation(operation));
    for (const { volume, lastMs, sample } of rates.newest()) put('rates', volume, reportRates(volume, lastMs, sample));
    // Last: a reader then knows that it has all there is.
    put('gateway', '', { version: gateway.version, ready: gateway.ready() });
    return items;
  }
}

/** JSON has no line feed in it. */
function formatEvent({ event, data }: Item): string {
  return `event: ${event}\ndata: ${data}\n\n`;
}
