/** Between two turns of a bench: what one server has left to do, or to the page cache, no other must wait for. */
import { setTimeout as delay } from 'node:timers/promises';
import type { TestGateway } from '../tool/gateway.js';
import { eventually, run } from '../tool/process.js';

/** No segment was compacted for so long: longer than a checkpoint is away while anything changes. */
const COMPACTION_QUIET_MS = 1500;

/** Lets the gateway upload, write out and compact everything that it has, at any rate; `limited` is its bandwidth again then. */
export async function settle(
  gateway: TestGateway,
  volumes: readonly string[],
  limited: { readonly upload: string },
): Promise<void> {
  await gateway.reconfigure({ bandwidth: { upload: 'unlimited' } });
  for (const volume of volumes) {
    await gateway.drain(volume, 600_000);
    await eventually('all is in the image', async () => {
      const { overlayBlocks } = (await gateway.api(`/v1/volumes/${volume}`)) as { overlayBlocks: number };
      return overlayBlocks === 0;
    });
  }
  // What was overwritten leaves segments half dead, which are compacted after the checkpoint that counts them.
  let compactedBytes = -1;
  await eventually('nothing is compacted any more', async () => {
    const before = compactedBytes;
    await delay(COMPACTION_QUIET_MS);
    compactedBytes = await gateway.metric('keepgate_compaction_bytes_total');
    return compactedBytes === before;
  });
  await gateway.reconfigure({ bandwidth: limited });
  await writeOut();
}

export async function writeOut(): Promise<void> {
  await run('sync', [], { timeoutMs: 300_000 });
}
