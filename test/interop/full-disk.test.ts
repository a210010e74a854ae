/**
 * A real gateway on a disk that is full, or fails: what clients, the API and the metrics see, and that it goes on by
 * itself when there is space, or ends and recovers. Full both ways: a small file system that is really full, where one
 * may be mounted, and calls that are made to fail.
 */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, open, readdir, rm, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { it } from 'node:test';
import type { VolumeReport } from '../../src/api/volume-report.js';
import { IscsiClient, ScsiStatusError } from '../crash/iscsi-client.js';
import { NbdClient, NbdRequestError } from '../crash/nbd-client.js';
import { FaultyDisk, type FaultRule } from '../tool/disk-fault.js';
import { TestGateway, keepgatePath, targetPrefix } from '../tool/gateway.js';
import { attempt, eventually } from '../tool/process.js';
import { suite } from '../tool/suite.js';

const mib = 1024 * 1024;
const name = 'disk';
const errnoNoSpace = 28;
const volume = {
  name,
  size: '96MiB',
  buffer: { size: '64MiB' },
  access: 'shared',
  fullTimeout: '1s',
  replicate: { enabled: false },
};
const imageIsFull: readonly FaultRule[] = [
  { errno: 'ENOSPC', call: 'allocate', path: `/${name}/image` },
  { errno: 'ENOSPC', call: 'allocate', path: `/${name}/log/new` },
];

/** A pattern that tells which megabyte it is. */
const megabyte = (n: number): Buffer => Buffer.alloc(mib, Buffer.from(`megabyte ${n} `));

interface Space {
  fill(): Promise<void>;
  free(): Promise<void>;
}

suite('a full disk', ['cc'], () => {
  it('stalls writes, then refuses them, and nothing else; and goes on by itself when there is space', async () => {
    const disk = await FaultyDisk.make();
    const gateway = await TestGateway.start({ volumes: [volume], env: disk.env });
    const space = {
      fill: () => Promise.resolve(disk.set(imageIsFull)),
      free: () => Promise.resolve(disk.set([])),
    };
    try {
      await fillAndFree(gateway, space);
    } finally {
      await gateway.dispose();
      await disk.dispose();
    }
  });

  it('does so on a small file system that is really full', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-full-'));
    const mounted = await attempt('mount', ['-t', 'tmpfs', '-o', 'size=96m', 'keepgate-test', folder]);
    try {
      if (mounted.status !== 0) return t.skip(`this user may not mount: ${mounted.stderr.trim()}`);
      const gateway = await TestGateway.start({ volumes: [volume], folder });
      try {
        await fillAndFree(gateway, ballast(join(folder, 'ballast')));
      } finally {
        await gateway.dispose();
      }
    } finally {
      if (mounted.status === 0) await attempt('umount', [folder]);
      await rm(folder, { recursive: true, force: true });
    }
  });

  it('is nothing to a volume whose space is reserved; one that it has no room for is not made', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-full-'));
    const mounted = await attempt('mount', ['-t', 'tmpfs', '-o', 'size=192m', 'keepgate-test', folder]);
    try {
      if (mounted.status !== 0) return t.skip(`this user may not mount: ${mounted.stderr.trim()}`);
      const reserved = { ...volume, provision: 'full' };
      const gateway = await TestGateway.start({ volumes: [reserved], folder });
      const space = ballast(join(folder, 'ballast'));
      let starting: Promise<void> | undefined;
      try {
        await space.fill();
        const client = await NbdClient.connect(gateway.nbdPort, name);
        const round = async (from: number): Promise<void> => {
          for (let n = 0; n < 96; n += 1) await client.write(n * mib, megabyte(from + n));
          await client.flush();
          for (let n = 0; n < 96; n += 1) assert.deepEqual(await client.read(n * mib, mib), megabyte(from + n));
        };
        await round(0);
        await client.trim(0, 96 * mib);
        assert.deepEqual(await client.read(50 * mib, mib), Buffer.alloc(mib));
        await client.flush();
        // What a trim gave back would be gone now.
        await space.fill();
        await round(1000);
        assert.equal(await stateOf(gateway), 'online');
        assert.doesNotMatch(gateway.log(), /stalled|no space/i);
        const report = (await gateway.api(`/v1/volumes/${name}`)) as VolumeReport;
        assert.deepEqual(report.provision, { mode: 'full', problem: null });
        client.destroy();
        await space.free();
        await gateway.stop();

        // With a volume that failed it is never ready.
        starting = gateway.startAgain({ volumes: [reserved, { ...reserved, name: 'disk1' }] }).catch(() => undefined);
        let refused: VolumeReport | undefined;
        await eventually('disk1 is refused', async () => {
          refused = (await gateway.api('/v1/volumes/disk1').catch(() => undefined)) as VolumeReport | undefined;
          return refused?.state === 'failed';
        });
        assert.match(
          refused?.reason ?? '',
          /^volume disk1: provision: full takes 16\d MiB now, and the disk has \d+ MiB left: /,
        );
        assert.deepEqual(await readdir(join(folder, 'data', 'volumes')), [name]);
        await eventually('the other one is served', async () => (await stateOf(gateway)) === 'online');
      } finally {
        await gateway.dispose();
        await starting;
      }
    } finally {
      if (mounted.status === 0) await attempt('umount', [folder]);
      await rm(folder, { recursive: true, force: true });
    }
  });

  it('lets a gateway start that was killed with the disk really full, and has much to write again', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-full-'));
    const mounted = await attempt('mount', ['-t', 'tmpfs', '-o', 'size=160m', 'keepgate-test', folder]);
    try {
      if (mounted.status !== 0) return t.skip(`this user may not mount: ${mounted.stderr.trim()}`);
      const gateway = await TestGateway.start({ volumes: [volume], folder });
      const ballastFile = join(folder, 'ballast');
      const space = ballast(ballastFile);
      try {
        const client = await NbdClient.connect(gateway.nbdPort, name);
        // Into what the log has already, and not flushed: of more than one piece.
        for (let n = 0; n < 6; n += 1) await client.write(n * mib, megabyte(n));
        await gateway.kill();
        await space.fill();
        // For run.json, by which this test finds the process; far too little for a copy of what is written again.
        await truncate(ballastFile, (await stat(ballastFile)).size - 64 * 1024);
        await gateway.startAgain();
        assert.match(gateway.log(), /bytes made durable again/);
        const again = await NbdClient.connect(gateway.nbdPort, name);
        for (let n = 0; n < 6; n += 1) assert.deepEqual(await again.read(n * mib, mib), megabyte(n));
        again.destroy();
      } finally {
        await gateway.dispose();
      }
    } finally {
      if (mounted.status === 0) await attempt('umount', [folder]);
      await rm(folder, { recursive: true, force: true });
    }
  });

  it('lets a gateway start, and serve what is there', async () => {
    const disk = await FaultyDisk.make();
    const gateway = await TestGateway.start({ volumes: [volume], env: disk.env });
    try {
      const client = await NbdClient.connect(gateway.nbdPort, name);
      await client.write(0, megabyte(1));
      await gateway.kill();
      disk.set([
        ...imageIsFull,
        { errno: 'ENOSPC', call: 'open', path: '/log/new' },
        { errno: 'ENOSPC', call: 'write', path: '/lock' },
      ]);
      await gateway.startAgain();
      const again = await NbdClient.connect(gateway.nbdPort, name);
      assert.deepEqual(await again.read(0, mib), megabyte(1));
      again.destroy();
    } finally {
      await gateway.dispose();
      await disk.dispose();
    }
  });
});

/** A file that takes all the space that is left. */
function ballast(path: string): Space {
  return {
    async fill() {
      const file = await open(path, 'w');
      const chunk = Buffer.alloc(64 * 1024, 1);
      try {
        for (;;) await file.write(chunk);
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
      } finally {
        await file.close();
      }
    },
    free: () => rm(path),
  };
}

async function fillAndFree(gateway: TestGateway, space: Space): Promise<void> {
  const first = await NbdClient.connect(gateway.nbdPort, name);
  const kept = 4;
  for (let n = 0; n < kept; n += 1) await first.write(n * mib, megabyte(n));
  await first.flush();
  await space.fill();
  const acknowledged = await writeUntilRefused(first, kept);

  await eventually('the volume is stalled', async () => (await stateOf(gateway)) === 'stalled');
  assert.equal(await gateway.metric('keepgate_volume_state', 'state="stalled"'), 1);
  assert.equal((await fetch(`${gateway.apiUrl}/healthz`)).status, 503);

  const scsi = await IscsiClient.connect(gateway.iscsiPort, `${targetPrefix}:${name}`, 'iqn.2026-11.test:full');
  await assert.rejects(scsi.write(90 * mib, Buffer.alloc(4096, 7)), (error) => {
    assert(error instanceof ScsiStatusError);
    assert.deepEqual(error.sense, { key: 0x7, code: 0x27, qualifier: 0x07 });
    return true;
  });
  assert.deepEqual(await first.read(mib, mib), megabyte(1));
  assert.deepEqual(await scsi.read(2 * mib, 4096), megabyte(2).subarray(0, 4096));
  await first.flush();
  await scsi.flush();
  await first.trim(0, 2 * mib);
  await scsi.writeZeroes(3 * mib, 4096);
  assert.deepEqual(await first.read(0, mib), Buffer.alloc(mib));
  scsi.destroy();

  await space.free();
  await eventually('the volume goes on by itself', async () => (await stateOf(gateway)) === 'online');
  await first.write(90 * mib, megabyte(90));
  await first.flush();
  assert.equal(await gateway.metric('keepgate_volume_state', 'state="stalled"'), 0);
  first.destroy();
  await gateway.kill();
  await gateway.startAgain();
  const again = await NbdClient.connect(gateway.nbdPort, name);
  assert.deepEqual(await again.read(0, 2 * mib), Buffer.alloc(2 * mib));
  for (const n of [...acknowledged, 90]) assert.deepEqual(await again.read(n * mib, mib), megabyte(n), `megabyte ${n}`);
  again.destroy();
}

/** Megabytes that were acknowledged before the first refusal. */
async function writeUntilRefused(client: NbdClient, from: number): Promise<number[]> {
  const acknowledged: number[] = [];
  for (let n = from; n < 88; n += 1) {
    try {
      await client.write(n * mib, megabyte(n));
      acknowledged.push(n);
    } catch (error) {
      assert(error instanceof NbdRequestError);
      assert.equal(error.errorNumber, errnoNoSpace);
      return acknowledged;
    }
  }
  assert.fail('a full disk took everything');
}

async function stateOf(gateway: TestGateway): Promise<string> {
  return ((await gateway.api(`/v1/volumes/${name}`)) as { state: string }).state;
}

suite('a failing disk', ['cc'], () => {
  const endings: readonly { readonly what: string; readonly rule: FaultRule; readonly says: RegExp }[] = [
    {
      what: 'fdatasync of the log',
      rule: { errno: 'EIO', call: 'sync', path: `/${name}/log/` },
      says: /ends at once: fdatasync of the log failed/,
    },
    {
      what: 'appending to the log',
      rule: { errno: 'EIO', call: 'write', path: `/${name}/log/` },
      says: /ends at once: a batch could not be appended/,
    },
    {
      what: 'writing into the image',
      rule: { errno: 'EIO', call: 'write', path: `/${name}/image` },
      says: /ends at once: moving records into the image failed: writing into the image failed: .*EIO/,
    },
    {
      what: 'writing a superblock',
      rule: { errno: 'EIO', call: 'write', path: `/${name}/super.` },
      says: /ends at once: .*writing a superblock failed: .*EIO/,
    },
  ];
  for (const { what, rule, says } of endings) {
    it(`${what} ends the process; nothing is acknowledged falsely, and what was is there again`, async () => {
      const disk = await FaultyDisk.make();
      const gateway = await TestGateway.start({ volumes: [volume], env: disk.env });
      try {
        const client = await NbdClient.connect(gateway.nbdPort, name);
        for (let n = 0; n < 3; n += 1) await client.write(n * mib, megabyte(n));
        await client.flush();
        disk.set([rule]);
        const acknowledged = [0, 1, 2];
        // Without a flush only the destager, within seconds, meets the fault.
        const flushed = writeAndFlush(client, acknowledged);
        const status = await gateway.untilEnded();
        assert.equal(status, 1, gateway.log());
        assert.match(gateway.log(), says);
        if (rule.path.endsWith('/log/')) assert.equal(await flushed, false, 'a flush was acknowledged falsely');
        else await flushed;
        disk.set([]);
        await gateway.startAgain();
        const again = await NbdClient.connect(gateway.nbdPort, name);
        for (const n of acknowledged) assert.deepEqual(await again.read(n * mib, mib), megabyte(n));
        again.destroy();
      } finally {
        await gateway.dispose();
        await disk.dispose();
      }
    });
  }
});

suite('the directory of a new volume', ['cc'], () => {
  it('is served only once its name, and those of the directories above it, are durable', async () => {
    const disk = await FaultyDisk.make();
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-made-'));
    const start = (): Promise<TestGateway> => TestGateway.start({ volumes: [volume], folder, env: disk.env });
    try {
      for (const [path, says] of [
        // Where the data directory's name stands; where that of all volumes does, made before or now; the volume's.
        [`${basename(folder)}$`, /keepgate: \S+\/data cannot be made: i\/o error \(EIO\)/],
        ['/data/volumes$', /keepgate: \S+\/data\/volumes\/disk cannot be made: i\/o error \(EIO\)/],
        ['/data$', /keepgate: \S+\/data\/volumes cannot be made: i\/o error \(EIO\)/],
      ] as const) {
        disk.set([{ errno: 'EIO', call: 'sync', path }]);
        await assert.rejects(start(), says, path);
      }
      disk.set([]);
      const gateway = await start();
      await gateway.dispose();
    } finally {
      await disk.dispose();
      await rm(folder, { recursive: true, force: true });
    }
  });
});

/** True when both were acknowledged. */
async function writeAndFlush(client: NbdClient, acknowledged: number[]): Promise<boolean> {
  try {
    await client.write(3 * mib, megabyte(3));
    acknowledged.push(3);
    await client.flush();
    return true;
  } catch {
    return false; // The connection ends with the process.
  }
}

suite('commands on a full or failing disk', ['cc'], () => {
  const cases: readonly { what: string; rule: FaultRule; args: (folder: string) => string[]; says: RegExp }[] = [
    {
      what: 'init without space for the key',
      rule: { errno: 'ENOSPC', call: 'write', path: '/made/key' },
      args: (folder) => ['init', join(folder, 'made')],
      says: /^keepgate: \S+made\/key cannot be written: no space left on device \(ENOSPC\)\. Free space.*\n$/,
    },
    {
      what: 'key generate on a failing disk',
      rule: { errno: 'EIO', call: 'sync', path: '/made/key' },
      args: (folder) => ['key', 'generate', join(folder, 'made', 'key')],
      says: /^keepgate: \S+made\/key cannot be written: i\/o error \(EIO\)\. The disk.*\n$/,
    },
    {
      what: 'serve with a configuration that cannot be read',
      rule: { errno: 'EIO', call: 'read', path: '/made/keepgate.yaml' },
      args: (folder) => ['serve', '--config', join(folder, 'made', 'keepgate.yaml')],
      says: /^keepgate: \S+made\/keepgate.yaml cannot be read: i\/o error \(EIO\)\. The disk.*\n$/,
    },
    {
      what: 'serve with a key that cannot be read',
      rule: { errno: 'EIO', call: 'read', path: '/made/key' },
      args: (folder) => ['serve', '--config', join(folder, 'made', 'keepgate.yaml')],
      says: /keepgate: \S+made\/key cannot be read: i\/o error \(EIO\)\. The disk.*\n$/,
    },
  ];
  for (const { what, rule, args, says } of cases) {
    it(`${what}: one line, exit code 1, and nothing half-made`, async () => {
      const disk = await FaultyDisk.make();
      const folder = await mkdtemp(join(tmpdir(), 'keepgate-commands-'));
      try {
        const made = join(folder, 'made');
        if (rule.call === 'read') {
          const ended = await attempt(process.execPath, [keepgatePath, 'init', made]);
          assert.equal(ended.status, 0, ended.stderr);
        } else {
          await mkdir(made);
        }
        disk.set([rule]);
        const ended = await attempt(process.execPath, [keepgatePath, ...args(folder)], { env: disk.env });
        assert.equal(ended.status, 1, ended.stderr);
        assert.match(ended.stderr, says);
        if (rule.call !== 'read') await assert.rejects(stat(join(made, 'key')), { code: 'ENOENT' });
      } finally {
        await disk.dispose();
        await rm(folder, { recursive: true, force: true });
      }
    });
  }
});
