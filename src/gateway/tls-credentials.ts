/**
 * What TLS is made of, read from the files of the configuration at the start and on SIGHUP: certificates under the names
 * that nbdkit and libnbd give them, and pre-shared keys. Nothing of a private key reaches a message or the log.
 */
import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { GatewayError } from '../base/errors.js';
import { KIB } from '../base/units.js';
import type { TlsConfiguration } from '../config/configuration.js';
import { parsePreSharedKeys } from '../platform/pre-shared-keys.js';
import { readSecretFile } from '../platform/secret-file.js';
import { readTextFile } from '../platform/text-file.js';
import { TlsSecurity } from '../platform/tls-security.js';
import type { TlsCredentials } from '../platform/tls-security.js';
import type { StreamSecurity } from '../ports/stream.js';

/** certtool writes a key's numbers as text before it; a file of keys has a line for each user. */
const secretBytesMax = 256 * KIB;
const expiryWarningMs = 14 * 86_400_000;

export interface LoadedSecurity {
  readonly security: StreamSecurity;
  /** Worth a line in the log: a certificate that is not valid, or soon will not be. */
  readonly warnings: readonly string[];
}

/** @throws GatewayError key-missing, key-permissions, key-invalid or tls-invalid, naming the file */
export async function loadTlsSecurity(tls: TlsConfiguration, nowMs: number): Promise<LoadedSecurity> {
  const { certificates: directory, psk } = tls;
  const certificates = directory === undefined ? undefined : await readCertificates(directory, tls.verifyPeer);
  const preSharedKeys =
    psk === undefined ? undefined : parsePreSharedKeys(await readSecretFile(psk, 'list of keys', secretBytesMax), psk);
  try {
    const security = new TlsSecurity({ certificates, preSharedKeys });
    return {
      security,
      warnings: certificates === undefined ? [] : expiryOf(certificates.certificate, directory, nowMs),
    };
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'tls-invalid' || directory === undefined) throw error;
    throw new GatewayError('tls-invalid', `${directory}: its certificates and key cannot be used: ${error.message}`, {
      cause: error,
    });
  }
}

async function readCertificates(directory: string, verifyPeer: boolean): Promise<TlsCredentials['certificates']> {
  const at = (name: string): string => join(directory, name);
  const certificate = await readPem(at('server-cert.pem'), 'certificate');
  checkCertificate(certificate, at('server-cert.pem'));
  const key = await readSecretFile(at('server-key.pem'), 'private key', secretBytesMax);
  if (!verifyPeer) return { certificate, key, clientAuthority: undefined, revocations: undefined };
  const clientAuthority = await readPem(at('ca-cert.pem'), 'certificate of who signs the certificates of clients');
  checkCertificate(clientAuthority, at('ca-cert.pem'));
  return { certificate, key, clientAuthority, revocations: await readTextFile(at('ca-crl.pem')) };
}

async function readPem(path: string, what: string): Promise<string> {
  const content = await readTextFile(path);
  if (content === undefined) throw new GatewayError('tls-invalid', `${path}: there is no ${what} here`);
  return content;
}

function checkCertificate(pem: string, path: string): void {
  try {
    new X509Certificate(pem);
  } catch (cause) {
    throw new GatewayError('tls-invalid', `${path}: this is not a certificate in PEM`, { cause });
  }
}

function expiryOf(pem: string, directory: string | undefined, nowMs: number): readonly string[] {
  const { validFrom, validTo } = new X509Certificate(pem);
  const path = join(directory ?? '', 'server-cert.pem');
  if (Date.parse(validFrom) > nowMs) return [`${path}: this certificate is not valid before ${validFrom}`];
  const leftMs = Date.parse(validTo) - nowMs;
  if (leftMs > expiryWarningMs) return [];
  return [`${path}: this certificate ${leftMs < 0 ? 'expired on' : 'expires on'} ${validTo}; clients refuse it then`];
}
