/**
 * The AWS SDK's client as Keepgate uses it. What differs from the SDK's defaults, and why: its own retries are off (the
 * retry decorator counts every attempt in the bandwidth budget); checksums are added to requests only where the
 * operation requires one, unless the endpoint is AWS itself, since other stores refuse them; no "Expect: 100-continue",
 * which costs a connection for each PUT; a time-out ends a silent connection, never a slow one.
 *
 * Credentials come from the SDK's default chain, which renews those that expire before they do. A clock that is wrong is
 * corrected by the SDK from the store's answers: the first request fails, the next is signed with the store's time.
 */
import { readFileSync } from 'node:fs';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { rootCertificates } from 'node:tls';
import { S3Client } from '@aws-sdk/client-s3';
import type { S3ClientConfig } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { HttpProxyAgent, HttpsProxyAgent } from 'hpagent';
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { Paces } from '../ports/pace.js';
import { ConnectionDelay } from './connection-delay.js';
import { PacedHandler } from './paced-handler.js';

const CONNECT_MS_MAX = 10_000;
const SOCKETS_MAX = 32;

export interface S3ClientOptions {
  /** undefined: AWS. */
  readonly endpoint?: string | undefined;
  readonly region?: string | undefined;
  readonly forcePathStyle?: boolean | undefined;
  /** PEM: trusted besides the authorities that Node trusts. */
  readonly caFile?: string | undefined;
  /** "http://HOST:PORT": every connection goes through it, by CONNECT. */
  readonly proxy?: string | undefined;
  /** Milliseconds without a byte after which a request fails. */
  readonly silenceMsMax?: number;
  /** Spreads bodies over time. */
  readonly paces?: Paces;
  /** Instead of the default chain; for tests. */
  readonly credentials?: S3ClientConfig['credentials'];
}

export function createS3Client(options: S3ClientOptions): S3Client {
  const checksums = options.endpoint === undefined ? 'WHEN_SUPPORTED' : 'WHEN_REQUIRED';
  // The SDK's documented switch for its warning about this Node release; which one runs is the package's decision.
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';
  const [httpAgent, httpsAgent] = agentsOf(options);
  const http = {
    connectionTimeout: CONNECT_MS_MAX,
    socketTimeout: options.silenceMsMax ?? limits.storeRequestMsMax,
    httpAgent,
    httpsAgent,
  };
  return new S3Client({
    ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
    ...(options.region === undefined ? {} : { region: options.region }),
    ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
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

function agentsOf({ caFile, proxy }: S3ClientOptions): [HttpAgent, HttpsAgent] {
  const common = { keepAlive: true, maxSockets: SOCKETS_MAX };
  const tls = caFile === undefined ? {} : { ca: [...rootCertificates, certificatesOf(caFile)] };
  if (proxy === undefined) return [new HttpAgent(common), new HttpsAgent({ ...common, ...tls })];
  return [new HttpProxyAgent({ ...common, proxy }), new HttpsProxyAgent({ ...common, ...tls, proxy })];
}

function certificatesOf(caFile: string): string {
  let text: string;
  try {
    text = readFileSync(caFile, 'utf8');
  } catch (cause) {
    throw new GatewayError('config-invalid', `store.caFile: ${caFile} cannot be read`, { cause });
  }
  if (!text.includes('-----BEGIN CERTIFICATE-----')) {
    throw new GatewayError('config-invalid', `store.caFile: ${caFile} holds no certificate; write PEM`);
  }
  return text;
}
