/**
 * A bucket in anything that speaks S3, through the AWS SDK (s3-client.ts). Bodies are read to the length that the
 * response promised: a short one is store-failed.
 */
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import type { GetObjectCommandOutput, PutObjectCommandInput, S3Client, StorageClass } from '@aws-sdk/client-s3';
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { ByteRange, ObjectStore, StoredObject, StoreRequest } from '../ports/object-store.js';
import type { Paces } from '../ports/pace.js';
import { paceReading } from './paced-handler.js';
import { createS3Client } from './s3-client.js';
import type { S3ClientOptions } from './s3-client.js';
import { s3Failure } from './s3-failure.js';

export interface S3StoreOptions extends S3ClientOptions {
  /** "s3://bucket" or "s3://bucket/prefix". */
  readonly url: string;
  readonly storageClass?: string | undefined;
  readonly serverSideEncryption?: 'AES256' | 'aws:kms' | 'aws:kms:dsse' | undefined;
  readonly kmsKeyId?: string | undefined;
  readonly requestPayer?: 'requester' | undefined;
  /** Account number; requests to another owner's bucket fail. */
  readonly expectedBucketOwner?: string | undefined;
}

export class S3Store implements ObjectStore {
  readonly description: string;
  readonly #client: S3Client;
  readonly #paces: Paces | undefined;
  /** Of every request. */
  readonly #bucketFields: {
    readonly Bucket: string;
    readonly RequestPayer?: 'requester';
    readonly ExpectedBucketOwner?: string;
  };
  readonly #putFields: Pick<PutObjectCommandInput, 'StorageClass' | 'ServerSideEncryption' | 'SSEKMSKeyId'>;
  /** "" or ends with '/'. */
  readonly #prefix: string;

  constructor(options: S3StoreOptions) {
    const { bucket, prefix } = parseS3Url(options.url);
    this.#prefix = prefix === '' ? '' : `${prefix}/`;
    this.description = prefix === '' ? `s3://${bucket}` : `s3://${bucket}/${prefix}`;
    const { storageClass, serverSideEncryption, kmsKeyId, requestPayer, expectedBucketOwner } = options;
    this.#bucketFields = {
      Bucket: bucket,
      ...(requestPayer === undefined ? {} : { RequestPayer: requestPayer }),
      ...(expectedBucketOwner === undefined ? {} : { ExpectedBucketOwner: expectedBucketOwner }),
    };
    this.#putFields = {
      ...(storageClass === undefined ? {} : { StorageClass: storageClass as StorageClass }),
      ...(serverSideEncryption === undefined ? {} : { ServerSideEncryption: serverSideEncryption }),
      ...(kmsKeyId === undefined ? {} : { SSEKMSKeyId: kmsKeyId }),
    };
    this.#paces = options.paces;
    this.#client = createS3Client(options);
  }

  async put(
    key: string,
    body: Uint8Array,
    options: StoreRequest & { readonly ifAbsent: boolean },
  ): Promise<'stored' | 'exists'> {
    const command = new PutObjectCommand({
      ...this.#bucketFields,
      Key: this.#prefix + key,
      Body: body,
      ContentLength: body.length,
      ContentType: 'application/octet-stream',
      ...this.#putFields,
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
      ...this.#bucketFields,
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
      const command = new HeadObjectCommand({ ...this.#bucketFields, Key: this.#prefix + key });
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
      const command = new DeleteObjectCommand({ ...this.#bucketFields, Key: this.#prefix + key });
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
      ...this.#bucketFields,
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
