/**
 * A real Linux kernel as the client: boots the guest's image in QEMU, runs a shell script in it as root, and hands
 * back what it printed and its status. Software emulation, so that no right or device of the host is needed; about
 * three seconds to boot. KEEPGATE_TEST_ACCEL=kvm uses the processor's virtualisation where it works.
 *
 * The script's output comes through a virtio port into a file: the serial console, which the kernel's messages use, loses
 * characters when it is fast.
 *
 * Inside the guest the host's loopback is 10.0.2.2. The guest is gone when `runGuest` returns, whatever happened. One whose
 * script failed is ended at once: it might wait for ever to write to a disk that nobody serves.
 */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { requiredTool, isUnpacked, packagedFile } from '../tool/clients.js';
import { attempt, startService } from '../tool/process.js';
import { initrdWithScript, type GuestImage } from './guest-image.js';

export interface GuestDisk {
  /** A raw file, or the URL of an NBD server; the guest sees the disks as /dev/vda, /dev/vdb, … in the order given. */
  readonly path: string;
  readonly readOnly: boolean;
  /** Default `unsafe`: flushes go nowhere. `writeback`: what the guest flushes is flushed to `path`. */
  readonly cache?: 'unsafe' | 'writeback';
}

export interface GuestRun {
  readonly script: string;
  readonly memoryMiB?: number;
  readonly processors?: number;
  readonly timeoutMs?: number;
  readonly disks?: readonly GuestDisk[];
  /** Called with each line of the script's output, soon after it was printed. */
  readonly onLine?: (line: string) => void;
  /** Ports of the host's loopback that lead to ports of the guest's network card, 10.0.2.15. */
  readonly forwards?: readonly { readonly hostPort: number; readonly guestPort: number }[];
}

export interface GuestResult {
  /** The script's status; 125 when the guest ended without saying it. */
  readonly status: number;
  readonly output: string;
}

export async function runGuest(image: GuestImage, options: GuestRun): Promise<GuestResult> {
  const { folder, outputFile, args } = await prepareGuest(image, options);
  const failed = new AbortController();
  const stopWatching = watchLines(outputFile, (line) => {
    options.onLine?.(line);
    if (/^GUEST-STATUS [1-9]/.test(line)) failed.abort();
  });
  try {
    const qemu = requiredTool('qemu-system-x86_64');
    const ended = await attempt(qemu, args, { timeoutMs: options.timeoutMs ?? 180_000, killWhen: failed.signal });
    const output = await readFile(outputFile, 'utf8').catch(() => '');
    const status = /^GUEST-STATUS (\d+)$/m.exec(output)?.[1];
    if (status !== undefined) return { status: Number(status), output };
    return { status: 125, output: `${output}${ended.stdout}${ended.stderr}` };
  } finally {
    stopWatching();
    await rm(folder, { recursive: true, force: true });
  }
}

/** A file that another process writes gives no event for a line: it is looked at every few milliseconds. */
function watchLines(file: string, onLine: (line: string) => void): () => void {
  let seen = 0;
  let reading = false;
  const look = async (): Promise<void> => {
    if (reading) return;
    reading = true;
    const lines = (await readFile(file, 'utf8').catch(() => '')).split('\n').slice(0, -1);
    for (const line of lines.slice(seen)) onLine(line);
    seen = lines.length;
    reading = false;
  };
  const timer = setInterval(() => void look(), 20);
  return () => clearInterval(timer);
}

/** A guest that runs until it is killed, as a machine whose power is cut. */
export interface RunningGuest {
  isRunning(): boolean;
  /** What its script printed so far, and its console. */
  output(): Promise<string>;
  /** SIGKILL to QEMU; nothing in the guest hears of it. Returns when the process is gone. */
  kill(): Promise<void>;
}

export async function startGuest(image: GuestImage, options: GuestRun): Promise<RunningGuest> {
  const { folder, outputFile, args } = await prepareGuest(image, options);
  const service = startService(requiredTool('qemu-system-x86_64'), args);
  return {
    isRunning: () => service.isRunning(),
    output: async () => `${await readFile(outputFile, 'utf8').catch(() => '')}${service.output()}`,
    kill: async () => {
      service.signal('SIGKILL');
      await service.ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

interface PreparedGuest {
  readonly folder: string;
  readonly outputFile: string;
  readonly args: readonly string[];
}

async function prepareGuest(image: GuestImage, options: GuestRun): Promise<PreparedGuest> {
  const { path: initrd, folder } = await initrdWithScript(image, options.script);
  const kvm = process.env['KEEPGATE_TEST_ACCEL'] === 'kvm';
  const outputFile = join(folder, 'output');
  const forwards = (options.forwards ?? []).map(
    ({ hostPort, guestPort }) => `,hostfwd=tcp:127.0.0.1:${hostPort}-10.0.2.15:${guestPort}`,
  );
  // no_timer_check: on a host that is busy the emulated timer is late, which the kernel would take for broken hardware.
  const args = [
    ...(isUnpacked(requiredTool('qemu-system-x86_64')) ? firmwareFolders() : []),
    ...(kvm ? ['-accel', 'kvm', '-cpu', 'host'] : ['-accel', 'tcg,thread=multi', '-cpu', 'max']),
    ...['-smp', String(options.processors ?? 1), '-m', String(options.memoryMiB ?? 768)],
    ...['-kernel', image.kernelPath, '-initrd', initrd],
    ...[
      '-append',
      'console=ttyS0 panic=-1 quiet no_timer_check log_buf_len=1M',
      '-display',
      'none',
      '-serial',
      'stdio',
      '-monitor',
      'none',
    ],
    ...['-chardev', `file,id=output,path=${outputFile}`, '-device', 'virtio-serial-pci,max_ports=2'],
    ...['-device', 'virtserialport,chardev=output,nr=1'],
    ...['-no-reboot', '-nic', `user,model=virtio-net-pci${forwards.join('')}`],
    ...(options.disks ?? []).flatMap(({ path, readOnly, cache = 'unsafe' }) => [
      '-drive',
      `file=${path},format=raw,if=virtio,cache=${cache},readonly=${readOnly ? 'on' : 'off'}`,
    ]),
  ];
  return { folder, outputFile, args };
}

function firmwareFolders(): string[] {
  return ['/usr/share/qemu', '/usr/share/seabios', '/usr/lib/ipxe/qemu']
    .map((folder) => packagedFile(folder))
    .flatMap((folder) => (folder === undefined ? [] : ['-L', folder]));
}
