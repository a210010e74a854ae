/**
 * A bucket in anything that speaks S3, through the AWS SDK. Credentials come from the SDK's default chain.
 *
 * What differs from the SDK's defaults, and why: its own retries are off (the retry decorator counts every attempt in
 * the bandwidth budget); checksums are added to requests only where the operation requires one, unless the endpoint is
 * AWS itself, since other stores refuse them; no "Expect: 100-continue", which costs a connection for each PUT; a
 * time-out ends a silent connection, never a slow one. Bodies are read to the length that the response promised: a short
 * one is store-failed.
 */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import type { GetObjectCommandOutput } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import type { NodeHttpHandlerOptions } from '@smithy/node-http-handler';
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { ByteRange, ObjectStore, StoredObject, StoreRequest } from '../ports/object-store.js';
import type { Paces } from '../ports/pace.js';
import { ConnectionDelay } from './connection-delay.js';
import { PacedHandler, paceReading } from './paced-handler.js';
import { s3Failure } from './s3-failure.js';

const CONNECT_MS_MAX = 10_000;
const SOCKETS_MAX = 32;

export interface S3StoreOptions {
  /** "s3://bucket" or "s3://bucket/prefix". */
  readonly url: string;
  /** undefined: AWS. */
  readonly endpoint?: string;
  readonly region?: string;
  readonly forcePathStyle?: boolean;
  /** Milliseconds without a byte after which a request fails. */
  readonly silenceMsMax?: number;
  /** Spreads bodies over time. */
  readonly paces?: Paces;
}

export class S3Store implements ObjectStore {
  readonly description: string;
  readonly #client: S3Client;
  readonly #paces: Paces | undefined;
  readonly #bucket: string;
  /** "" or ends with '/'. */
  readonly #prefix: string;

  constructor(options: S3StoreOptions) {
    const { bucket, prefix } = parseS3Url(options.url);
    this.#bucket = bucket;
    this.#prefix = prefix === '' ? '' : `${prefix}/`;
    this.description = prefix === '' ? `s3://${bucket}` : `s3://${bucket}/${prefix}`;
    const checksums = options.endpoint === undefined ? 'WHEN_SUPPORTED' : 'WHEN_REQUIRED';
    // The SDK's documented switch for its warning about this Node release; which one runs is the package's decision.
    process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';
    const agentOptions = { keepAlive: true, maxSockets: SOCKETS_MAX };
    const httpAgent = new HttpAgent(agentOptions);
    const httpsAgent = new HttpsAgent(agentOptions);
    const http: NodeHttpHandlerOptions = {
      connectionTimeout: CONNECT_MS_MAX,
      socketTimeout: options.silenceMsMax ?? limits.storeRequestMsMax,
      httpAgent,
      httpsAgent,
    };
    this.#paces = options.paces;
    this.#client = new S3Client({
      ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
      ...(options.region === undefined ? {} : { region: options.region }),
      forcePathStyle: options.forcePathStyle ?? false,
      requestChecksumCalculation: checksums,
      responseChecksumValidation: checksums,
      maxAttempts: 1,
      expectContinueHeader: false,
      requestHandler:
        options.paces === undefined
          ? new NodeHttpHandler(http)
          : new PacedHandler(http, options.paces, new ConnectionDelay([httpAgent, httpsAgent])),
    });
  }

  async put(
    key: string,
    body: Uint8Array,
    options: StoreRequest & { readonly ifAbsent: boolean },
  ): Promise<'stored' | 'exists'> {
    const command = new PutObjectCommand({
      Bucket: this.#bucket,
      Key: this.#prefix + key,
      Body: body,
      ContentLength: body.length,
      ContentType: 'application/octet-stream',
      ...(options.ifAbsent ? { IfNoneMatch: '*' } : {}),
    });
    try {
      await this.#client.send(command, abortable(options.signal));
      return 'stored';
    } catch (error) {
      if (options.ifAbsent && statusOf(error) === 412) return 'exists';
      throw this.#failure('put', key, error, options);
    }
  }

  async get(key: string, options: StoreRequest & { readonly range?: ByteRange } = {}): Promise<Uint8Array> {
    const { range } = options;
    const command = new GetObjectCommand({
      Bucket: this.#bucket,
      Key: this.#prefix + key,
      ...(range === undefined ? {} : { Range: `bytes=${range.start}-${range.start + range.lengthBytes - 1}` }),
    });
    try {
      const response = await this.#client.send(command, abortable(options.signal));
      const lengthBytes = this.#promisedLength(key, response, range);
      return await this.#readBody(key, response, lengthBytes);
    } catch (error) {
      if (statusOf(error) === 416 && range !== undefined) {
        if (range.orLess === true) return new Uint8Array(0);
        throw this.#truncated(key, `it ends before byte ${range.start}`);
      }
      throw this.#failure('get', key, error, options);
    }
  }

  async head(key: string, options: StoreRequest = {}): Promise<StoredObject | undefined> {
    try {
      const command = new HeadObjectCommand({ Bucket: this.#bucket, Key: this.#prefix + key });
      const response = await this.#client.send(command, abortable(options.signal));
      return { key, sizeBytes: response.ContentLength ?? 0, modifiedMs: response.LastModified?.getTime() ?? 0 };
    } catch (error) {
      const failure = this.#failure('head', key, error, options);
      if (failure instanceof GatewayError && failure.code === 'object-missing') return undefined;
      throw failure;
    }
  }

  async *list(
    prefix: string,
    options: StoreRequest & { readonly after?: string } = {},
  ): AsyncGenerator<StoredObject, void, undefined> {
    let token: string | undefined;
    for (;;) {
      const page = await this.#listPage(prefix, token, options);
      for (const { Key, Size, LastModified } of page.Contents ?? []) {
        if (Key === undefined) continue;
        const key = Key.slice(this.#prefix.length);
        yield { key, sizeBytes: Size ?? 0, modifiedMs: LastModified?.getTime() ?? 0 };
      }
      if (page.IsTruncated !== true) return;
      token = page.NextContinuationToken;
      if (token === undefined)
        throw new GatewayError('store-failed', `${this.description}: a listing page names no next one`);
    }
  }

  async delete(key: string, options: StoreRequest = {}): Promise<void> {
    try {
      const command = new DeleteObjectCommand({ Bucket: this.#bucket, Key: this.#prefix + key });
      await this.#client.send(command, abortable(options.signal));
    } catch (error) {
      const failure = this.#failure('delete', key, error, options);
      if (!(failure instanceof GatewayError && failure.code === 'object-missing')) throw failure;
    }
  }

  close(): Promise<void> {
    this.#client.destroy();
    return Promise.resolve();
  }

  async #listPage(prefix: string, token: string | undefined, options: StoreRequest & { readonly after?: string }) {
    const command = new ListObjectsV2Command({
      Bucket: this.#bucket,
      Prefix: this.#prefix + prefix,
      MaxKeys: limits.listingKeysMax,
      ...(token === undefined ? {} : { ContinuationToken: token }),
      ...(options.after === undefined ? {} : { StartAfter: this.#prefix + options.after }),
    });
    try {
      return await this.#client.send(command, abortable(options.signal));
    } catch (error) {
      throw this.#failure('list', prefix, error, options);
    }
  }

  /** How many bytes the body must have: what the range covers of the object, as the response states its length. */
  #promisedLength(key: string, response: GetObjectCommandOutput, range: ByteRange | undefined): number {
    const contentLength = response.ContentLength ?? -1;
    if (range === undefined) {
      if (contentLength < 0) throw this.#failed(key, 'the response states no length');
      return contentLength;
    }
    const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.ContentRange ?? '');
    if (match === null) throw this.#failed(key, 'the store ignored the range of a GET');
    const [start, end, objectBytes] = match.slice(1).map(Number) as [number, number, number];
    const lengthBytes = Math.min(range.lengthBytes, objectBytes - range.start);
    if (lengthBytes < range.lengthBytes && range.orLess !== true) {
      throw this.#truncated(key, `it has ${objectBytes} bytes, ${range.start + range.lengthBytes} were expected`);
    }
    if (start !== range.start || end - start + 1 !== lengthBytes)
      throw this.#failed(key, 'the store answered another range');
    return lengthBytes;
  }

  async #readBody(key: string, response: GetObjectCommandOutput, lengthBytes: number): Promise<Uint8Array> {
    const bytes = Buffer.allocUnsafeSlow(lengthBytes);
    let filled = 0;
    const pass = paceReading(this.#paces?.download);
    const body = (response.Body ?? []) as AsyncIterable<Uint8Array>;
    for await (const piece of body) {
      if (filled + piece.length > lengthBytes) throw this.#failed(key, 'the body is longer than the response said');
      bytes.set(piece, filled);
      filled += piece.length;
      await pass(piece.length);
    }
    if (filled < lengthBytes) throw this.#failed(key, `the body ended after ${filled} of ${lengthBytes} bytes`);
    return bytes;
  }

  #failed(key: string, reason: string): GatewayError {
    return new GatewayError('store-failed', `${this.description}/${key}: ${reason}`, { context: { key } });
  }

  #truncated(key: string, reason: string): GatewayError {
    return new GatewayError('object-damaged', `${this.description}/${key}: ${reason}`, { context: { object: key } });
  }

  #failure(operation: string, key: string, error: unknown, request: StoreRequest): unknown {
    if (error instanceof GatewayError) return error;
    if (request.signal?.aborted === true) return request.signal.reason;
    return s3Failure({ operation, where: `${this.description}/${key}`, error });
  }
}

/** Splits "s3://bucket/prefix"; config-invalid when it is none. */
export function parseS3Url(url: string): { readonly bucket: string; readonly prefix: string } {
  const match = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*))?$/.exec(url);
  const prefix = (match?.[2] ?? '').replace(/\/+$/, '');
  if (match?.[1] === undefined || prefix.split('/').some((part, _, all) => part === '' && all.length > 1)) {
    throw new GatewayError('config-invalid', `${url} is no store: write s3://bucket/prefix`);
  }
  return { bucket: match[1], prefix };
}

function abortable(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}

function statusOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('$metadata' in error)) return undefined;
  return (error.$metadata as { readonly httpStatusCode?: number }).httpStatusCode;
}
