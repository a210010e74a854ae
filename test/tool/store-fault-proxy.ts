/**
 * An HTTP relay before an S3 that plays what networks and stores do wrong, request by request, from a seed. Every
 * request is read whole before its fate is decided; what is passed on is passed on unchanged, so that signatures hold.
 */
import { once, setMaxListeners } from 'node:events';
import { Agent, createServer, request as forward, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** Each with its share of the requests; the rest pass. */
export const faultShares = {
  /** Passed on after up to half a second. */
  delayed: 0.1,
  /** Reset; the store never hears of it. */
  cut: 0.03,
  /** Reset in the middle of the answer's head, or of the request. */
  'cut inside': 0.03,
  /** 503 SlowDown. */
  'slow down': 0.04,
  /** 500. */
  failed: 0.03,
  /** Carried out; the connection is reset instead of an answer. */
  'reply lost': 0.05,
  /** Reset at once; carried out up to five seconds later, when it has been repeated long since. */
  'carried out late': 0.04,
  /** Carried out and answered; carried out once more up to ten seconds later. */
  'duplicated late': 0.05,
  /** The answer's body ends early. */
  truncated: 0.05,
  /** The answer's body trickles. */
  throttled: 0.04,
} as const;
export type Fault = keyof typeof faultShares;

interface Received {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

export class StoreFaultProxy {
  readonly counts: Record<string, number> = {};
  /** Requests by method, whatever came of them. */
  readonly methods: Record<string, number> = {};
  /** Bytes of segments that the store has taken. */
  segmentBytes = 0;
  /** false: everything passes. */
  faulty = true;
  /** true: everything is reset, as by a line that is down. */
  down = false;
  private readonly server = createServer((request, response) => void this.serve(request, response));
  private readonly agent = new Agent({ keepAlive: true, maxSockets: 32 });
  private readonly late = new Set<Promise<void>>();
  private readonly ending = new AbortController();

  private constructor(
    private readonly targetPort: number,
    private readonly random: () => number,
  ) {}

  static async start(targetPort: number, random: () => number): Promise<StoreFaultProxy> {
    const proxy = new StoreFaultProxy(targetPort, random);
    setMaxListeners(0, proxy.ending.signal);
    proxy.server.listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    return proxy;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Waits for what is still to be carried out late. */
  async settled(): Promise<void> {
    while (this.late.size > 0) await Promise.all(this.late);
  }

  async stop(): Promise<void> {
    this.ending.abort();
    await this.settled();
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
    this.agent.destroy();
  }

  private choose(): Fault | undefined {
    if (!this.faulty) return undefined;
    let draw = this.random();
    for (const [fault, share] of Object.entries(faultShares) as [Fault, number][]) {
      if (draw < share) return fault;
      draw -= share;
    }
    return undefined;
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      request.on('error', () => undefined);
      const fault = this.choose();
      const { method = '' } = request;
      this.methods[method] = (this.methods[method] ?? 0) + 1;
      const name = this.down ? 'line down' : (fault ?? 'passed');
      this.counts[name] = (this.counts[name] ?? 0) + 1;
      if (this.down || fault === 'cut') return reset(request);
      if (fault === 'cut inside' && Number(request.headers['content-length'] ?? 0) > 0) {
        request.once('data', () => reset(request));
        return;
      }
      const received = await receive(request);
      if (received === undefined) return;
      await this.answer(received, fault, request, response);
    } catch {
      reset(request);
    }
  }

  private async answer(
    received: Received,
    fault: Fault | undefined,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    switch (fault) {
      case 'slow down':
        return fail(response, 503, 'SlowDown');
      case 'failed':
        return fail(response, 500, 'InternalError');
      case 'carried out late':
        reset(request);
        this.later(5000, received);
        return;
      case 'delayed':
        await delay(this.random() * 500, undefined, { signal: this.ending.signal });
        break;
      default:
    }
    const answer = await this.pass(received);
    switch (fault) {
      case 'reply lost':
        return reset(request);
      case 'cut inside':
        request.socket.write('HTTP/1.1 200 O');
        return reset(request);
      case 'truncated':
        response.writeHead(answer.status, answer.headers);
        response.write(answer.body.subarray(0, Math.floor(answer.body.length * this.random())), () => reset(request));
        return;
      case 'throttled':
        response.writeHead(answer.status, answer.headers);
        for (let at = 0; at < answer.body.length && !response.destroyed; at += 65_536) {
          response.write(answer.body.subarray(at, at + 65_536));
          await delay(20, undefined, { signal: this.ending.signal });
        }
        response.end();
        return;
      case 'duplicated late':
        this.later(10_000, received);
        break;
      default:
    }
    response.writeHead(answer.status, answer.headers).end(answer.body);
  }

  private later(withinMs: number, received: Received): void {
    const work = delay(this.random() * withinMs, undefined, { signal: this.ending.signal })
      .then(async () => {
        await this.pass(received);
      })
      .catch(() => undefined)
      .finally(() => this.late.delete(work));
    this.late.add(work);
  }

  private async pass({ method, url, headers, body }: Received): Promise<Answer> {
    const onward = forward({ host: '127.0.0.1', port: this.targetPort, method, path: url, headers, agent: this.agent });
    onward.end(body);
    const [answer] = (await once(onward, 'response')) as [IncomingMessage];
    const chunks: Buffer[] = [];
    for await (const chunk of answer) chunks.push(chunk as Buffer);
    if (method === 'PUT' && answer.statusCode === 200 && url.includes('/segments/')) this.segmentBytes += body.length;
    return { status: answer.statusCode ?? 500, headers: answer.headers, body: Buffer.concat(chunks) };
  }
}

/** undefined when the client went away before it had sent everything. */
async function receive(request: IncomingMessage): Promise<Received | undefined> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of request) chunks.push(chunk as Buffer);
  } catch {
    return undefined;
  }
  if (!request.complete) return undefined;
  const { method = '', url = '', headers } = request;
  return { method, url, headers, body: Buffer.concat(chunks) };
}

function reset(request: IncomingMessage): void {
  request.socket.resetAndDestroy();
}

function fail(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'content-type': 'application/xml' });
  response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>fault</Message></Error>`);
}
