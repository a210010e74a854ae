/**
 * A machine with a gateway on it whose power can be cut: a guest of QEMU with Debian's kernel, its root in memory, and
 * one data disk with ext4, which is a VolatileDisk behind its own NBD server. The kernel's page cache dies with QEMU,
 * the disk's cache with `cutPower`: nothing outlives a cut but what was flushed, and at random what was not.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { GuestImage } from '../guest/guest-image.js';
import { startGuest, type RunningGuest } from '../guest/kernel-guest.js';
import { keepgateInGuest, makeRuntimeImage, patchedKeepgateInGuest } from '../guest/runtime-image.js';
import { requiredTool } from '../tool/clients.js';
import { freePorts } from '../tool/free-port.js';
import { targetPrefix, type Settings } from '../tool/gateway.js';
import { eventually, run } from '../tool/process.js';
import { patchEnvironment, type SourcePatch } from '../tool/source-patch.js';
import { NbdDiskServer } from './nbd-disk-server.js';
import { VolatileDisk, type CutReport } from './volatile-disk.js';

const guestPorts = { nbd: 10809, iscsi: 3260, api: 9470 } as const;
const diskBytes = 384 * 1024 * 1024;

export interface PowerMachineOptions {
  readonly image: GuestImage;
  readonly volumes: readonly Settings[];
  /** Changes to the gateway's program, for tests that must fail. */
  readonly patches?: readonly SourcePatch[];
}

export class PowerMachine {
  readonly nbdPort: number;
  readonly iscsiPort: number;
  private readonly apiPort: number;
  private guest: RunningGuest | undefined;
  /** What the guest of before the last cut had said. */
  private said = '';

  private constructor(
    private readonly options: PowerMachineOptions,
    private readonly folder: string,
    private readonly disk: VolatileDisk,
    private readonly server: NbdDiskServer,
    ports: readonly number[],
  ) {
    [this.nbdPort = 0, this.iscsiPort = 0, this.apiPort = 0] = ports;
  }

  /** A machine that was never switched on: its disk holds a configuration, a key and an empty store. */
  static async make(options: PowerMachineOptions): Promise<PowerMachine> {
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-power-'));
    try {
      await makeRuntimeImage(join(folder, 'runtime.img'));
      const content = join(folder, 'content');
      await mkdir(join(content, 'store'), { recursive: true });
      await writeFile(join(content, 'key'), `${randomBytes(32).toString('base64')}\n`, { mode: 0o600 });
      await writeFile(join(content, 'keepgate.yaml'), JSON.stringify(configuration(options.volumes)));
      const image = join(folder, 'data.img');
      await run(requiredTool('mkfs.ext4'), ['-q', '-F', '-d', content, image, `${diskBytes / 1024}k`]);
      const disk = new VolatileDisk(image, diskBytes);
      return new PowerMachine(options, folder, disk, await NbdDiskServer.start(disk), await freePorts(3));
    } catch (error) {
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** Switches it on. Resolves with the guest running; the gateway in it is up later (`untilServing`). */
  async switchOn(): Promise<void> {
    this.server.restore();
    const { patches = [] } = this.options;
    const forwards = [
      { hostPort: this.nbdPort, guestPort: guestPorts.nbd },
      { hostPort: this.iscsiPort, guestPort: guestPorts.iscsi },
      { hostPort: this.apiPort, guestPort: guestPorts.api },
    ];
    this.guest = await startGuest(this.options.image, {
      script: script(patches),
      memoryMiB: 640,
      processors: 2,
      forwards,
      disks: [
        { path: join(this.folder, 'runtime.img'), readOnly: true },
        { path: this.server.url, readOnly: false, cache: 'writeback' },
      ],
    });
  }

  /** Resolves when every volume is open; rejects when the gateway or the guest ends before. */
  async untilServing(): Promise<void> {
    const { guest } = this;
    if (guest === undefined) throw new Error('the machine is off');
    let output = '';
    await eventually(
      'the gateway in the guest serves',
      async () => {
        output = await guest.output();
        if (!guest.isRunning() || output.includes('GATEWAY-ENDED')) throw new Error(`the gateway ended\n${output}`);
        return this.probe();
      },
      { timeoutMs: 300_000, explain: () => output },
    );
  }

  private async probe(): Promise<boolean> {
    // QEMU takes the connection long before the guest does.
    const signal = AbortSignal.timeout(2000);
    const answer = await fetch(`http://127.0.0.1:${this.apiPort}/readyz`, { signal }).catch(() => undefined);
    return answer?.ok === true;
  }

  /** Calls back at the instant when the disk has taken that many writes more; from then on it takes no more. */
  onceDiskWrote(count: number, then: () => void): void {
    this.server.cutAfterWrites(count, then);
  }

  /** The power goes, at this instant. Resolves when the machine is gone and what the disk held unflushed is decided. */
  async cutPower(random: () => number, survival: number): Promise<CutReport> {
    this.server.cut();
    this.said = (await this.guest?.output()) ?? '';
    await this.guest?.kill();
    this.guest = undefined;
    return this.disk.cutPower(random, survival);
  }

  /** For errors: what gateway and kernel said. */
  async log(): Promise<string> {
    return `${this.said}\n---- since the last cut\n${(await this.guest?.output()) ?? ''}`;
  }

  async dispose(): Promise<void> {
    await this.guest?.kill();
    await this.server.close();
    this.disk.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** The guest's only network is the host's loopback. */
function configuration(volumes: readonly Settings[]): Settings {
  return {
    dataDir: '/data/keepgate',
    keyFile: '/data/key',
    trustedNetwork: true,
    nbd: { listen: [`10.0.2.15:${guestPorts.nbd}`] },
    iscsi: { listen: [`10.0.2.15:${guestPorts.iscsi}`], targetPrefix },
    api: { listen: `10.0.2.15:${guestPorts.api}` },
    store: { url: 'file:///data/store' },
    volumes,
  };
}

function script(patches: readonly SourcePatch[]): string {
  const { KEEPGATE_TEST_PATCHES: changes = '' } = patchEnvironment(patches);
  const quoted = changes.replaceAll("'", String.raw`'\''`);
  const command =
    patches.length === 0 ? keepgateInGuest : `KEEPGATE_TEST_PATCHES='${quoted}' ${patchedKeepgateInGuest}`;
  return `set -e
mkdir -p /app /data
mount -o ro /dev/vda /app
mount -t ext4 /dev/vdb /data
set +e
${command} serve --config /data/keepgate.yaml
echo "GATEWAY-ENDED $?"
`;
}
