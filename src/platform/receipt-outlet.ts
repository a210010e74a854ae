/** Publishes receipts to a file, which is replaced atomically and durably, or to a URL by PUT or POST. */
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { GatewayError } from '../base/errors.js';
import type { ReceiptOutlet } from '../ports/receipt-outlet.js';
import { fileError } from './disk-error.js';
import { readTextFile } from './text-file.js';

const timeoutMs = 5000;
const receiptBytesMax = 4096;

/** `to`: an absolute path, or http(s)://… */
export function openReceiptOutlet(to: string, method: 'PUT' | 'POST'): ReceiptOutlet {
  if (/^https?:\/\//.test(to)) return new UrlOutlet(to, method);
  return { readBack: () => readTextFile(to), publish: (text) => replaceDurably(to, text) };
}

/** The same under a path that a command was given. */
export async function replaceDurably(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`;
  try {
    await rm(temporary, { force: true });
    const file = await open(temporary, 'wx', 0o644);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    const directory = await open(dirname(path), 'r');
    await directory.sync().finally(() => directory.close());
  } catch (error) {
    throw fileError(path, 'cannot be written', error);
  }
}

class UrlOutlet implements ReceiptOutlet {
  readonly #url: string;
  readonly #method: 'PUT' | 'POST';

  constructor(url: string, method: 'PUT' | 'POST') {
    this.#url = url;
    this.#method = method;
  }

  async readBack(): Promise<string | undefined> {
    // What takes POSTs collects; it need not give anything back.
    if (this.#method === 'POST') return undefined;
    const response = await this.#ask('GET');
    if (response.status === 404 || response.status === 410) return undefined;
    if (!response.ok) throw this.#failure(`HTTP ${response.status}`);
    const text = await response.text();
    if (text.length > receiptBytesMax) throw this.#failure('what lies there is no receipt');
    return text;
  }

  async publish(text: string): Promise<void> {
    const response = await this.#ask(this.#method, text);
    await response.body?.cancel();
    if (!response.ok) throw this.#failure(`HTTP ${response.status}`);
  }

  async #ask(method: string, body?: string): Promise<Response> {
    try {
      return await fetch(this.#url, {
        method,
        signal: AbortSignal.timeout(timeoutMs),
        ...(body === undefined ? {} : { body, headers: { 'content-type': 'application/json' } }),
      });
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
      throw this.#failure(cause instanceof Error ? cause.message : String(cause));
    }
  }

  /** Without what may be a password in the URL. */
  #failure(why: string): GatewayError {
    const { origin, pathname } = new URL(this.#url);
    return new GatewayError('receipt-outlet-failed', `${origin}${pathname}: ${why}`);
  }
}
