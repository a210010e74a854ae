/** Cases that are kept, one in a line of JSON. */
import { existsSync } from 'node:fs';
import { appendFile, mkdir, readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { Case } from './iscsi-case.js';

export const corpusFile = resolve(import.meta.dirname, '../../../test/fuzz/corpus/iscsi.jsonl');

export async function readCorpus(file: string): Promise<Case[]> {
  const text = existsSync(file) ? await readFile(file, 'utf8') : '';
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Case);
}

export async function keepCase(file: string, found: Case): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await appendFile(file, `${JSON.stringify(found)}\n`);
}
