/** The bucket's copy of a volume, as the engine asks it when its own copy of a block cannot be trusted. */
import type { BlockNumber, Lsn } from '../base/units.js';

export interface RemoteCopy {
  /**
   * The 4096 bytes of a block, authenticated, as of some recovery point that is not older than `throughLsn` (0: whichever
   * is the newest). Rejects with a GatewayError that says why it cannot be had. The caller bounds the wait.
   */
  fetch(block: BlockNumber, throughLsn: Lsn): Promise<Uint8Array>;
}
