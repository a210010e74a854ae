/**
 * This program on data of every format version there was (test/tool/format-fixture.ts): it opens them, gives back every
 * byte, replicates them, and restores from their bucket. And on data of a version to come: it refuses, and touches nothing.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { VolumeReport } from '../../src/api/volume-report.js';
import { recordKinds, LOG_VERSION } from '../../src/engine/log-format.js';
import { VOLUME_FORMAT_VERSION } from '../../src/engine/volume-directory-format.js';
import { FORMAT_VERSION } from '../../src/remote/seal-header.js';
import { contentOf, fixtureDirectory, fixtureGateway, fixtureStore } from '../tool/format-fixture.js';
import type { FixtureContent } from '../tool/format-fixture.js';
import { TestGateway, keepgatePath } from '../tool/gateway.js';
import { attempt, eventually, run } from '../tool/process.js';

const fixtures = readdirSync(fixtureDirectory)
  .filter((name) => name.endsWith('.json'))
  .map((name) => name.replace('.json', ''));
const newest = fixtures.at(-1) ?? '';

async function unpacked(name: string, use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'keepgate-formats-'));
  try {
    await run('tar', ['-C', folder, '-xzf', join(fixtureDirectory, `${name}.tar.gz`)]);
    await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Every file below a directory, with what it holds. */
async function contents(directory: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile())
      found.set(
        path,
        createHash('sha256')
          .update(await readFile(path))
          .digest('hex'),
      );
  }
  return found;
}

const contentsOf = (directory: string): Promise<string[]> => readdir(directory).catch(() => []);

describe('data of format versions that there were', () => {
  it('are kept for the versions of now', () => {
    assert.ok(fixtures.includes(`volume${VOLUME_FORMAT_VERSION}-bucket${FORMAT_VERSION}`), 'npm run fixture:formats');
  });

  for (const name of fixtures) {
    it(`${name}: every byte is there, is replicated, and comes back`, async () => {
      const expected = JSON.parse(readFileSync(join(fixtureDirectory, `${name}.json`), 'utf8')) as FixtureContent;
      await unpacked(name, async (folder) => {
        const gateway = await TestGateway.start(fixtureGateway(folder));
        const command = async (...args: string[]): Promise<void> => {
          const { status, stdout, stderr } = await gateway.command(args);
          assert.equal(status, 0, `${args.join(' ')}: ${stdout}${stderr}\n${gateway.log()}`);
        };
        try {
          for (const volume of ['plain', 'tracked', 'copy'] as const)
            assert.equal(await contentOf(gateway, volume), expected[volume], volume);
          for (const volume of ['plain', 'tracked']) await command('drain', volume);
          await eventually('all of the copy is here', async () => {
            const { state } = (await gateway.api('/v1/volumes/copy')) as VolumeReport;
            return state === 'online';
          });
          const restored = { plain: [], tracked: [], snapshotBefore: ['--snapshot', 'before'] } as const;
          for (const [what, flags] of Object.entries(restored)) {
            const [from, as] = [what === 'tracked' ? 'tracked' : 'plain', `again-${what.toLowerCase()}`];
            await command('restore', from, '--from', fixtureStore, '--as', as, '--full', ...flags);
            assert.equal(await contentOf(gateway, as), expected[what as keyof typeof restored], what);
          }
          for (const volume of ['plain', 'tracked', 'copy']) await command('scrub', volume);
        } finally {
          await gateway.dispose();
        }
      });
    });
  }
});

describe('data of a format version to come', () => {
  it('are refused by one line, with nothing touched: a data directory', async () => {
    await unpacked(newest, async (folder) => {
      for (const volume of ['plain', 'tracked', 'copy']) {
        const path = join(folder, 'data/volumes', volume, 'volume.json');
        const identity = JSON.parse(await readFile(path, 'utf8')) as object;
        await writeFile(path, JSON.stringify({ ...identity, formatVersion: VOLUME_FORMAT_VERSION + 1 }));
      }
      const before = [await contents(join(folder, 'data/volumes')), await contents(join(folder, 'store'))];
      const { volumes, store } = fixtureGateway(folder);
      const config = join(folder, 'keepgate.yaml');
      const settings = { dataDir: join(folder, 'data'), keyFile: join(folder, 'key'), volumes, store };
      const listen = {
        nbd: { listen: ['127.0.0.1:0'] },
        iscsi: { listen: ['127.0.0.1:0'] },
        api: { listen: '127.0.0.1:0' },
      };
      await writeFile(config, JSON.stringify({ ...settings, ...listen }));
      const refused = await attempt(process.execPath, [keepgatePath, 'serve', '--config', config], { cwd: folder });
      const lines = refused.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
      assert.equal(lines.length, 1, refused.stderr);
      const version = `volume.json has format version ${VOLUME_FORMAT_VERSION + 1}, this version knows up to`;
      assert.ok(lines[0]?.startsWith(`keepgate: volume plain: ${version}`), lines[0]);
      assert.match(lines[0] ?? '', /A newer version wrote this: run that version\.$/);
      assert.equal(refused.status, 2);
      assert.deepEqual([await contents(join(folder, 'data/volumes')), await contents(join(folder, 'store'))], before);
    });
  });

  for (const kind of ['volume', 'segments', 'epochs', 'checkpoints'] as const) {
    it(`are not replicated to, nor is the bucket touched: ${kind}`, async () => {
      await unpacked(newest, async (folder) => {
        const store = join(folder, 'store');
        const newer: string[] = [];
        // Each object begins with a magic of 8 bytes and its format version. The newest ones are a newer version's.
        for (const uuid of (await readdir(store)).filter((name) => !name.startsWith('.'))) {
          const folder = kind === 'volume' ? join(store, uuid) : join(store, uuid, kind);
          // A volume that was never written has a name and keys only; it may well begin to replicate.
          const [last] = kind === 'volume' ? ['volume'] : (await contentsOf(folder)).sort().slice(-1);
          if (last === undefined) continue;
          const bytes = await readFile(join(folder, last));
          bytes.writeUInt16LE(FORMAT_VERSION + 1, 8);
          // Nor does it open with this version's keys: else only the version would have rotted.
          bytes[bytes.length - 1]! ^= 1;
          await writeFile(join(folder, last), bytes);
          newer.push(join(store, uuid));
        }
        assert.ok(newer.length > 0);
        const untouched = (): Promise<Map<string, string>[]> => Promise.all(newer.map((path) => contents(path)));
        // Whatever it sends to a bucket for the copy is a pin, which has nothing to do with this.
        await rm(join(folder, 'data/volumes.d'), { recursive: true });
        const before = await untouched();
        const gateway = await TestGateway.start(fixtureGateway(folder));
        try {
          await eventually(
            'replication is refused',
            async () => {
              const { replication } = (await gateway.api('/v1/volumes/plain')) as VolumeReport;
              return /format version/.test(replication.reason ?? '');
            },
            { explain: () => gateway.log() },
          );
          await gateway.stop();
          assert.deepEqual(await untouched(), before);
        } finally {
          await gateway.dispose();
        }
      });
    });
  }
});

describe('the version of volume.json', () => {
  it('stands for all formats of the directory: whoever changes one of these raises it', () => {
    // A log batch that a program does not understand looks like the end of the log to it. So volume.json has to tell before.
    assert.deepEqual(
      { volume: VOLUME_FORMAT_VERSION, log: LOG_VERSION, records: Object.keys(recordKinds) },
      { volume: 1, log: 1, records: ['write', 'trim', 'zero', 'resize', 'snapshot', 'epoch', 'mark'] },
    );
  });
});
