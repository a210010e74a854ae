/**
 * `npm run fixture:formats -- NAME`: makes test/interop/formats/NAME.tar.gz and NAME.json (format-fixture.ts) with a gateway of
 * this very program. To be run, and committed, before a release that changes a format; NAME says which formats those are,
 * such as "volume1-bucket1". Never replaces one.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { VolumeReport } from '../../src/api/volume-report.js';
import { CMD, withNbdDisk } from '../fake/nbd-client.js';
import { fixtureBytes, fixtureDirectory, fixtureGateway, fixtureStore, sha256 } from './format-fixture.js';
import type { FixtureContent } from './format-fixture.js';
import { TestGateway } from './gateway.js';
import { eventually, run } from './process.js';

const kib = 1024;
const [name = ''] = process.argv.slice(2);
if (!/^[a-z0-9-]+$/.test(name)) throw new Error('write npm run fixture:formats -- NAME, such as volume1-bucket1');
const archive = join(fixtureDirectory, `${name}.tar.gz`);
if (existsSync(archive)) throw new Error(`${archive} exists; fixtures are kept for ever`);

/** What clients wrote; what it holds is what a gateway has to give back. */
class Shadow {
  readonly bytes = Buffer.alloc(fixtureBytes);

  constructor(
    readonly gateway: TestGateway,
    readonly volume: string,
  ) {}

  async write(offset: number, payload: Buffer): Promise<void> {
    await this.#request({ type: CMD.WRITE, offset, payload });
    payload.copy(this.bytes, offset);
  }

  async trim(offset: number, length: number): Promise<void> {
    await this.#request({ type: CMD.TRIM, offset, length });
    this.bytes.fill(0, offset, offset + length);
  }

  async #request(fields: Readonly<Record<string, unknown>> & { readonly type: number }): Promise<void> {
    await withNbdDisk(this.gateway.nbdPort, this.volume, async (client) => {
      const { error } = await client.request({ offset: 0, ...fields });
      if (error !== 0) throw new Error(`${this.volume}: error ${error}`);
    });
  }
}

const folder = await mkdtemp(join(tmpdir(), 'keepgate-fixture-'));
const gateway = await TestGateway.start(fixtureGateway(folder));
const command = async (...args: string[]): Promise<void> => {
  const { status, stdout, stderr } = await gateway.command(args);
  if (status !== 0) throw new Error(`${args.join(' ')}: ${stdout}${stderr}`);
};
const report = async (volume: string): Promise<VolumeReport> =>
  (await gateway.api(`/v1/volumes/${volume}`)) as VolumeReport;
try {
  const plain = new Shadow(gateway, 'plain');
  await plain.write(0, randomBytes(96 * kib));
  // Parts of blocks, and across two of them.
  await plain.write(1024 * kib + 512, randomBytes(1536));
  await plain.write(2048 * kib - 1000, randomBytes(3000));
  await command('snapshot', 'create', 'plain', 'before');
  await command('drain', 'plain');
  const snapshotBefore = sha256(plain.bytes);
  await plain.write(64 * kib, randomBytes(16 * kib));
  await plain.trim(80 * kib, 8 * kib);
  await plain.write(8192 * kib, randomBytes(128 * kib));
  await command('drain', 'plain');
  await eventually('the snapshot is complete', async () => {
    const [snapshot] = (await gateway.api('/v1/volumes/plain/snapshots')) as { state: string }[];
    return snapshot?.state === 'complete';
  });
  const copy = sha256(plain.bytes);
  // So slowly that nearly nothing of it comes before the end.
  await gateway.reconfigure({ bandwidth: { download: '2KB/s' } });
  await eventually('downloads are slow', async () => {
    const { download } = (await gateway.api('/v1/bandwidth')) as { download: { bytesPerSecond: number | null } };
    return download.bytesPerSecond === 2000;
  });
  await command('restore', 'plain', '--from', fixtureStore, '--as', 'copy');
  if ((await report('copy')).state !== 'hydrating') throw new Error('the copy is here already');

  await rename(gateway.storeDirectory, `${gateway.storeDirectory}-away`);
  const tracked = new Shadow(gateway, 'tracked');
  for (let pass = 1; (await report('tracked')).trackedDirtyBlocks === 0; pass += 1) {
    if (pass > 40) throw new Error('the buffer does not fill');
    // Patterns, so that the log of 64 MiB can be compressed.
    for (let offset = 0; offset < fixtureBytes / 2; offset += 1024 * kib)
      await tracked.write(offset, Buffer.alloc(1024 * kib, `${pass}:${offset} `));
  }
  await plain.write(4096 * kib, randomBytes(32 * kib));
  await plain.trim(16 * kib, 8 * kib);
  const content: FixtureContent = { plain: sha256(plain.bytes), tracked: sha256(tracked.bytes), copy, snapshotBefore };
  await gateway.kill();
  await rename(`${gateway.storeDirectory}-away`, gateway.storeDirectory);
  await run('tar', ['-C', folder, '--owner=0', '--group=0', '--sparse', '-czf', archive, 'data', 'store', 'key']);
  await writeFile(join(fixtureDirectory, `${name}.json`), `${JSON.stringify(content, null, 2)}\n`);
  console.log(`${archive}: ${Math.round((await readFile(archive)).length / kib)} KiB`);
} finally {
  await gateway.dispose();
  await rm(folder, { recursive: true, force: true });
}
