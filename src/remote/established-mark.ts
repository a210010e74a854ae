/** Whether a volume's directory has had a remote volume: if not, its first start must wait for the store (P9). */
import type { Disk } from '../ports/disk.js';
import type { ReplicationState } from '../ports/replication.js';

/** In the volume's directory: the remote volume was seen to exist. Later starts never create it again. */
export const ESTABLISHED_FILE = 'remote.json';

export async function isEstablished(disk: Disk, state: ReplicationState): Promise<boolean> {
  return state.segmentNumber > 0 || (await disk.exists(ESTABLISHED_FILE));
}
