/** Cases that are kept, one in a line of JSON. */
import { existsSync } from 'node:fs';
import { appendFile, mkdir, readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';

const folder = resolve(import.meta.dirname, '../../../test/fuzz/corpus');

export function corpusFileOf(protocol: string): string {
  return join(folder, `${protocol}.jsonl`);
}

export async function readCorpus<Case>(file: string): Promise<Case[]> {
  const text = existsSync(file) ? await readFile(file, 'utf8') : '';
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Case);
}

export async function keepCase(file: string, found: unknown): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await appendFile(file, `${JSON.stringify(found)}\n`);
}
