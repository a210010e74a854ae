/** `keepgate receipt VOLUME [--out FILE]`: a receipt of the newest recovery point, for a place off the machine. */
import { resolve } from 'node:path';
import { replaceDurably } from '../platform/receipt-outlet.js';
import type { ApiClient } from './api-client.js';
import { exitCodes } from './exit-code.js';
import type { ExitCode } from './exit-code.js';
import type { Terminal } from './terminal.js';

export async function receipt(options: {
  readonly volume: string;
  readonly out: string | undefined;
  readonly client: ApiClient;
  readonly terminal: Terminal;
}): Promise<ExitCode> {
  const { volume, out, client, terminal } = options;
  const text = JSON.stringify(await client.get(`/v1/volumes/${encodeURIComponent(volume)}/receipt`));
  if (out === undefined) terminal.print(text);
  else {
    const path = resolve(out);
    await replaceDurably(path, `${text}\n`);
    terminal.note(`${path}: keep it where neither the gateway nor the provider can change it`);
  }
  return exitCodes.done;
}
