/** Asks a running gateway: finds its address and its token, and turns its problem+json into errors. */
import { GatewayError, errorCodes } from '../base/errors.js';
import type { ErrorCode } from '../base/errors.js';
import type { Configuration } from '../config/configuration.js';
import { parseListenAddress } from '../config/listen-address.js';
import { WrongValue } from '../config/problem.js';
import { readRunFile } from '../gateway/run-file.js';
import { sendRequest } from '../platform/http-client.js';
import { readSecretFile } from '../platform/secret-file.js';
import type { ListenAddress } from '../ports/stream.js';

const timeoutMsDefault = 15_000;

export interface Patience {
  /** Of what somebody waits for, or of what may take its time. Default: 15 s. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export class ApiClient {
  readonly #address: ListenAddress;
  readonly #token: string | undefined;

  private constructor(address: ListenAddress, token: string | undefined) {
    this.#address = address;
    this.#token = token;
  }

  /** `api`: what --api says; else where the gateway of this data directory says that it listens. */
  static async open(configuration: Configuration, api: string | undefined): Promise<ApiClient> {
    const address =
      api === undefined
        ? ((await readRunFile(configuration.dataDir))?.api ?? configuration.api.listen)
        : parseApiUrl(api);
    // Reading needs no token on loopback: only a refused request will say that it is missing.
    const token = await readSecretFile(configuration.api.tokenFile, 'API token').catch((error: unknown) => {
      if (error instanceof GatewayError && error.code === 'key-missing') return undefined;
      throw error;
    });
    return new ApiClient(address, token?.trim());
  }

  get(path: string, patience: Patience = {}): Promise<unknown> {
    return this.#ask('GET', path, patience);
  }

  post(path: string, json?: object, patience: Patience = {}): Promise<unknown> {
    return this.#ask('POST', path, { ...patience, json });
  }

  patch(path: string, json: object): Promise<unknown> {
    return this.#ask('PATCH', path, { json });
  }

  delete(path: string, patience: Patience = {}): Promise<unknown> {
    return this.#ask('DELETE', path, patience);
  }

  async #ask(
    method: 'GET' | 'POST' | 'PATCH' | 'DELETE',
    path: string,
    options: Patience & { readonly json?: object | undefined },
  ): Promise<unknown> {
    const { json, timeoutMs = timeoutMsDefault, signal } = options;
    const answer = await sendRequest({
      address: this.#address,
      method,
      path,
      json,
      timeoutMs,
      ...(signal === undefined ? {} : { signal }),
      ...(this.#token === undefined ? {} : { token: this.#token }),
    });
    const value = parseJson(answer.body);
    if (answer.status < 400) return value;
    const problem = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
    const code = isErrorCode(problem['code']) ? problem['code'] : 'gateway-unreachable';
    const detail =
      typeof problem['detail'] === 'string' ? problem['detail'] : `${method} ${path}: HTTP ${answer.status}`;
    throw new GatewayError(code, detail);
  }
}

function parseJson(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    throw new GatewayError('gateway-unreachable', 'what answers at this address is no Keepgate gateway');
  }
}

function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(errorCodes, value);
}

function parseApiUrl(api: string): ListenAddress {
  try {
    return parseListenAddress(api.replace(/^http:\/\//, '').replace(/\/$/, ''));
  } catch (error) {
    if (!(error instanceof WrongValue)) throw error;
    throw new GatewayError('config-invalid', `--api: "${api}" is no API; write http://HOST:PORT or unix:/PATH`);
  }
}
