/**
 * Data that a gateway of some format version wrote: a data directory, its key and its bucket, as they were when the process was
 * killed, in test/interop/formats/NAME.tar.gz; and beside it in NAME.json what each volume then held, as SHA-256 of all its
 * bytes. Made by `npm run fixture:formats -- NAME` and kept for ever: a later version has to open every one of them.
 *
 * In it are
 *   plain     replicated, with a snapshot `before`, and writes in its log that are neither in the image nor in the bucket
 *   tracked   with a buffer that was full while the store was away, and a dirty map
 *   copy      restored from the bucket, with most of its content still there
 */
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import { CMD, NbdClient, withNbdDisk } from '../fake/nbd-client.js';
import type { GatewayOptions, TestGateway } from './gateway.js';

export const fixtureDirectory = resolve(import.meta.dirname, '../../../test/interop/formats');
export const fixtureBytes = 16 * 1024 * 1024;

export interface FixtureContent {
  readonly plain: string;
  readonly tracked: string;
  readonly copy: string;
  /** Of volume plain. */
  readonly snapshotBefore: string;
}

/** The bucket's address is in what a restored volume keeps: one that holds wherever the fixture is unpacked. */
export const fixtureStore = 'file:///proc/self/cwd/store';

export function fixtureGateway(folder: string): GatewayOptions {
  const common = { size: '16MiB', buffer: { size: '64MiB' }, replicate: { interval: '1s' } };
  return {
    folder,
    volumes: [
      { ...common, name: 'plain' },
      { ...common, name: 'tracked', buffer: { size: '64MiB', whenFull: 'track' } },
    ],
    store: { url: fixtureStore },
    launcher: ['env', '-C', folder],
  };
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** SHA-256 of all that a volume holds. */
export async function contentOf(gateway: TestGateway, volume: string): Promise<string> {
  const hash = createHash('sha256');
  const pieceBytes = 1024 * 1024;
  await withNbdDisk(gateway.nbdPort, volume, async (client: NbdClient) => {
    for (let offset = 0; offset < fixtureBytes; offset += pieceBytes) {
      const { error, data } = await client.request({ type: CMD.READ, offset, length: pieceBytes });
      if (error !== 0) throw new Error(`reading ${volume} at ${offset}: error ${error}`);
      hash.update(data);
    }
  });
  return hash.digest('hex');
}
