/** The master key as a file holds it: 32 bytes in base64, one line. Reading the file, with its rights, is platform's. */
import { GatewayError } from '../base/errors.js';

export const keyBytes = 32;

/** @throws GatewayError key-invalid; the message never shows the content */
export function parseKey(content: string, fileName: string): Uint8Array {
  const line = content.trim();
  const bytes = /^[A-Za-z0-9+/]+={0,2}$/.test(line) ? Buffer.from(line, 'base64') : undefined;
  if (bytes === undefined || bytes.toString('base64') !== line) {
    throw new GatewayError('key-invalid', `${fileName}: this is not a key; a key is ${keyBytes} bytes in base64`);
  }
  if (bytes.length !== keyBytes) {
    throw new GatewayError(
      'key-invalid',
      `${fileName}: the key has ${bytes.length} bytes, not ${keyBytes}; restore the file from its backup`,
    );
  }
  return new Uint8Array(bytes);
}

export function formatKey(key: Uint8Array): string {
  return `${Buffer.from(key).toString('base64')}\n`;
}
