/** One HTTP request to a gateway's API, over TCP or a Unix socket: what the command line asks with. */
import { request } from 'node:http';
import { GatewayError } from '../base/errors.js';
import type { ListenAddress } from '../ports/stream.js';

export interface HttpRequest {
  readonly address: ListenAddress;
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  readonly path: string;
  /** The body. */
  readonly json?: object | undefined;
  readonly token?: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

/** @throws GatewayError gateway-unreachable */
export function sendRequest(options: HttpRequest): Promise<HttpAnswer> {
  const { address, method, path, json, token, timeoutMs, signal } = options;
  const timeout = AbortSignal.timeout(timeoutMs);
  const body = json === undefined ? undefined : JSON.stringify(json);
  const name =
    address.kind === 'unix'
      ? `unix:${address.path}`
      : `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`;
  return new Promise((resolve, reject) => {
    const outgoing = request({
      ...(address.kind === 'unix' ? { socketPath: address.path } : { host: address.host, port: address.port }),
      method,
      path,
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
      },
      agent: false,
      signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
    });
    outgoing.once('error', (error: NodeJS.ErrnoException) => {
      const why =
        error.name === 'AbortError' ? `no answer within ${timeoutMs / 1000} s` : (error.code ?? error.message);
      reject(new GatewayError('gateway-unreachable', `no gateway answers at ${name} (${why})`, { cause: error }));
    });
    outgoing.once('response', (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.once('error', (error) =>
        reject(new GatewayError('gateway-unreachable', `the gateway at ${name} broke off`, { cause: error })),
      );
      response.once('end', () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(parts).toString('utf8') }),
      );
    });
    outgoing.end(body);
  });
}
