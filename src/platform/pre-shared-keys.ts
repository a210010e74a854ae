/**
 * A file of pre-shared keys as GnuTLS's psktool writes it: one `USER:KEY` a line, the key in hexadecimal. No message
 * shows more of it than a line's number and its user.
 */
import { GatewayError } from '../base/errors.js';

/** RFC 4279 wants room for 64 bytes at least; below 16 a key can be guessed. */
const keyBytesMin = 16;
const keyBytesMax = 256;
/** RFC 4279 section 5.3: identities of that length must be supported. */
const userCharsMax = 128;

export type PreSharedKeys = ReadonlyMap<string, Uint8Array>;

/** @throws GatewayError tls-invalid, naming path and line */
export function parsePreSharedKeys(content: string, path: string): PreSharedKeys {
  const keys = new Map<string, Uint8Array>();
  content.split('\n').forEach((raw, index) => {
    const line = raw.trim();
    if (line === '') return;
    const refuse = (what: string): never => {
      throw new GatewayError('tls-invalid', `${path}:${index + 1}: ${what}`);
    };
    const at = line.lastIndexOf(':');
    const user = line.slice(0, Math.max(at, 0));
    const hex = line.slice(at + 1);
    // A user that begins with # is GnuTLS's way to write names in hexadecimal.
    if (user === '' || user.length > userCharsMax || !/^[^#\s:][^\s:]*$/u.test(user)) {
      return refuse('this is not USER:KEY; write a name without blanks, a colon, and the key in hexadecimal');
    }
    if (!/^(?:[0-9A-Fa-f]{2})+$/.test(hex)) return refuse(`the key of ${user} is not hexadecimal`);
    const key = Buffer.from(hex, 'hex');
    if (key.length < keyBytesMin || key.length > keyBytesMax) {
      return refuse(`a key has ${keyBytesMin} to ${keyBytesMax} bytes, that of ${user} ${key.length}`);
    }
    if (keys.has(user)) return refuse(`${user} has a key already, further up`);
    keys.set(user, key);
  });
  if (keys.size === 0) {
    throw new GatewayError('tls-invalid', `${path}: there is no key in it; write USER:KEY, as psktool does`);
  }
  return keys;
}
