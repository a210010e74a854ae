/** `keepgate resize VOLUME SIZE`: grows a volume of a running gateway, and says how clients learn of it. */
import { formatBytes } from '../config/quantity.js';
import type { ApiClient } from './api-client.js';
import { exitCodes } from './exit-code.js';
import type { ExitCode } from './exit-code.js';
import type { Terminal } from './terminal.js';

export interface ResizeOptions {
  readonly volume: string;
  /** "200GiB". */
  readonly size: string;
  readonly client: ApiClient;
  readonly terminal: Terminal;
  readonly json: boolean;
}

export async function resizeVolume({ volume, size, client, terminal, json }: ResizeOptions): Promise<ExitCode> {
  const grown = (await client.patch(`/v1/volumes/${encodeURIComponent(volume)}`, { size })) as { sizeBytes: number };
  if (json) {
    terminal.print(JSON.stringify(grown));
    return exitCodes.done;
  }
  terminal.print(`${volume} has ${formatBytes(grown.sizeBytes)}`);
  terminal.print('over iSCSI: iscsiadm -m session --rescan; over NBD: at the next connection');
  terminal.print('then cryptsetup resize NAME, and resize2fs or xfs_growfs');
  return exitCodes.done;
}
