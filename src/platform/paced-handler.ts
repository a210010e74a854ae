/**
 * The SDK's HTTP transport with bodies spread over time. Works below signing: the signature covers the whole body, and
 * only the sending is spread. Reports when an upload was answered, and how long the answer to a download took after the
 * request ('answer'): the queue on the way, and the store's own time.
 */
import { Readable } from 'node:stream';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import type { NodeHttpHandlerOptions } from '@smithy/node-http-handler';
import type { ConnectionDelay } from './connection-delay.js';
import type { Pace, PacedBody, Paces } from '../ports/pace.js';

const PIECE_BYTES_MAX = 16 * 1024;
const PIECE_BYTES_MIN = 64;

type Request = Parameters<NodeHttpHandler['handle']>[0];
type Options = Parameters<NodeHttpHandler['handle']>[1];
type Answer = Awaited<ReturnType<NodeHttpHandler['handle']>>;

export class PacedHandler extends NodeHttpHandler {
  readonly #paces: Paces;
  readonly #connections: ConnectionDelay;

  constructor(options: NodeHttpHandlerOptions, paces: Paces, connections: ConnectionDelay) {
    super(options);
    this.#paces = paces;
    this.#connections = connections;
  }

  override async handle(request: Request, options?: Options): Promise<Answer> {
    const body: unknown = request.body;
    const { upload, download } = this.#paces;
    if (request.method === 'PUT' && body instanceof Uint8Array && body.length > 0) {
      return this.#put(request, body, upload, options);
    }
    const startMs = performance.now();
    const answer = await super.handle(request, options);
    if (request.method === 'GET' && answer.response.statusCode === 206) {
      download.sample('answer', performance.now() - startMs);
    }
    if (answer.response.statusCode === 503 && request.method === 'GET') download.refused();
    return answer;
  }

  async #put(request: Request, body: Uint8Array, pace: Pace, options: Options): Promise<Answer> {
    let stream: Readable | undefined;
    const unwatch = this.#connections.watch(pace);
    const paced = pace.begin();
    if (pace.bytesPerSecond !== Infinity) {
      stream = Readable.from(pieces(body, pace, paced, options?.abortSignal as AbortSignal | undefined), {
        objectMode: false,
        highWaterMark: PIECE_BYTES_MAX,
      });
      // It ends early when the request does, which says why.
      stream.on('error', () => undefined);
    }
    try {
      // A copy of the request: a caller may send its own again.
      const answer = await super.handle(stream === undefined ? request : withBody(request, stream), options);
      const { statusCode } = answer.response;
      if (statusCode === 503 || statusCode === 429) pace.refused();
      else if (stream !== undefined && statusCode < 300) paced.answered();
      return answer;
    } catch (error) {
      if (options?.abortSignal?.aborted !== true) pace.refused();
      throw error;
    } finally {
      unwatch();
      stream?.destroy();
    }
  }
}

function withBody(request: Request, body: Readable): Request {
  const copy = Object.create(request) as Request;
  copy.body = body;
  return copy;
}

async function* pieces(
  body: Uint8Array,
  pace: Pace,
  paced: PacedBody,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0; at < body.length;) {
    // Several in a second, so that a slow body never looks like a silent connection.
    const pieceBytes = Math.min(PIECE_BYTES_MAX, Math.max(PIECE_BYTES_MIN, Math.floor(pace.bytesPerSecond / 4)));
    const piece = body.subarray(at, at + pieceBytes);
    at += piece.length;
    await paced.pass(piece.length, signal);
    yield piece;
  }
}

/** Waits for a piece of a body that is read: reading slowly makes the sender slow. */
export function paceReading(pace: Pace | undefined): (bytes: number) => Promise<void> | undefined {
  if (pace === undefined) return () => undefined;
  const paced = pace.begin();
  return (bytes) => paced.pass(bytes);
}
