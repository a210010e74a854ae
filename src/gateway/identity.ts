/** The gateway's secrets, read at its start: master key, API token, CHAP secrets. None is ever logged. */
import { GatewayError } from '../base/errors.js';
import type { ChapConfiguration } from '../config/configuration.js';
import { readSecretFile, writeSecretFile } from '../platform/secret-file.js';
import { exists } from '../platform/text-file.js';
import type { Random } from '../ports/random.js';
import type { ChapSecrets } from '../ports/volume-directory.js';
import { generateMasterKeyText, parseMasterKey } from '../remote/key.js';
import type { MasterKey } from '../remote/key.js';

const tokenBytes = 32;
/** RFC 7143 section 12.1.1: at least 96 random bits; longer than 255 bytes is not portable. */
const chapSecretBytesMin = 12;
const chapSecretBytesMax = 255;

/** `create`: the demonstration makes its key itself; everywhere else a missing key is refused. */
export async function loadMasterKey(path: string, create: boolean, random: Random): Promise<MasterKey> {
  if (create && !(await exists(path))) await writeSecretFile(path, generateMasterKeyText(random));
  return parseMasterKey(await readSecretFile(path, 'key'), path);
}

export async function loadApiToken(path: string, random: Random): Promise<string> {
  if (!(await exists(path))) {
    await writeSecretFile(path, `${Buffer.from(random.bytes(tokenBytes)).toString('base64url')}\n`);
  }
  const token = (await readSecretFile(path, 'API token')).trim();
  if (token.length < tokenBytes) {
    throw new GatewayError('key-invalid', `${path}: the API token is shorter than ${tokenBytes} characters`);
  }
  return token;
}

/** undefined: no login is asked for. */
export async function loadChap(chap: ChapConfiguration | undefined): Promise<ChapSecrets | undefined> {
  if (chap === undefined) return undefined;
  const secret = await loadChapSecret(chap.secretFile);
  if (chap.mutualUser === undefined || chap.mutualSecretFile === undefined) return { user: chap.user, secret };
  const mutualSecret = await loadChapSecret(chap.mutualSecretFile);
  if (Buffer.compare(secret, mutualSecret) === 0) {
    throw new GatewayError(
      'config-invalid',
      `${chap.mutualSecretFile}: both CHAP secrets are the same; they must differ`,
    );
  }
  return { user: chap.user, secret, mutualUser: chap.mutualUser, mutualSecret };
}

async function loadChapSecret(path: string): Promise<Uint8Array> {
  const secret = Buffer.from((await readSecretFile(path, 'CHAP secret')).replace(/\r?\n$/, ''), 'utf8');
  if (secret.length < chapSecretBytesMin || secret.length > chapSecretBytesMax) {
    throw new GatewayError(
      'config-invalid',
      `${path}: a CHAP secret has ${chapSecretBytesMin} to ${chapSecretBytesMax} bytes, this one ${secret.length}`,
    );
  }
  return secret;
}
