/**
 * DATADIR/run.json: where the running gateway really listens (a configured port may be 0) and its process id. Made anew
 * at each start, removed at the end, readable by the owner only; nothing relies on it for safety.
 */
import { join } from 'node:path';
import { formatListenAddress, parseListenAddress } from '../config/listen-address.js';
import { readTextFile, removeFile, replaceTextFile } from '../platform/text-file.js';
import type { ListenAddress } from '../ports/stream.js';

export interface RunFile {
  readonly pid: number;
  readonly nbd: readonly ListenAddress[];
  readonly iscsi: readonly ListenAddress[];
  readonly api: ListenAddress;
}

const pathIn = (dataDir: string): string => join(dataDir, 'run.json');

export async function writeRunFile(dataDir: string, run: RunFile): Promise<void> {
  const content = {
    pid: run.pid,
    nbd: run.nbd.map(formatListenAddress),
    iscsi: run.iscsi.map(formatListenAddress),
    api: formatListenAddress(run.api),
  };
  await replaceTextFile(pathIn(dataDir), `${JSON.stringify(content)}\n`);
}

export async function removeRunFile(dataDir: string): Promise<void> {
  await removeFile(pathIn(dataDir));
}

/** undefined when no gateway wrote one, or it makes no sense. */
export async function readRunFile(dataDir: string): Promise<RunFile | undefined> {
  const content = await readTextFile(pathIn(dataDir));
  if (content === undefined) return undefined;
  try {
    const { pid, nbd, iscsi, api } = JSON.parse(content) as {
      pid: number;
      nbd: string[];
      iscsi: string[];
      api: string;
    };
    return {
      pid,
      nbd: nbd.map(parseListenAddress),
      iscsi: iscsi.map(parseListenAddress),
      api: parseListenAddress(api),
    };
  } catch {
    return undefined;
  }
}
