/** The files of the status page, as the build put them beside the program. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GatewayError } from '../base/errors.js';

const contentTypes = {
  'index.html': 'text/html; charset=utf-8',
  'style.css': 'text/css; charset=utf-8',
  'icon.svg': 'image/svg+xml',
  'page.js': 'text/javascript; charset=utf-8',
  'volume-card.js': 'text/javascript; charset=utf-8',
  'plot.js': 'text/javascript; charset=utf-8',
  'follow.js': 'text/javascript; charset=utf-8',
  'wording.js': 'text/javascript; charset=utf-8',
} as const;

const folder = join(import.meta.dirname, '../page');

/** @throws GatewayError config-invalid where one is missing: the program was not built as a whole */
export async function readPageFiles(): Promise<ReadonlyMap<string, { contentType: string; content: Buffer }>> {
  const read = async ([name, contentType]: [string, string]) => {
    const path = join(folder, name);
    const content = await readFile(path).catch((error: unknown) => {
      throw new GatewayError('config-invalid', `${path} is missing: run npm run build`, { cause: error });
    });
    return [name, { contentType, content }] as const;
  };
  return new Map(await Promise.all(Object.entries(contentTypes).map(read)));
}
