/**
 * A real Linux kernel as the client: boots the guest's image in QEMU, runs a shell script in it as root, and hands
 * back what it printed and its status. Software emulation, so that no right or device of the host is needed; about
 * three seconds to boot. KEEPGATE_TEST_ACCEL=kvm uses the processor's virtualisation where it works.
 *
 * The script's output comes through a virtio port into a file: the serial console, which the kernel's messages use, loses
 * characters when it is fast.
 *
 * Inside the guest the host's loopback is 10.0.2.2. The guest is gone when `runGuest` returns, whatever happened.
 */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { requiredTool, isUnpacked, packagedFile } from '../tool/clients.js';
import { attempt } from '../tool/process.js';
import { initrdWithScript, type GuestImage } from './guest-image.js';

export interface GuestDisk {
  /** A raw file; the guest sees the disks as /dev/vda, /dev/vdb, … in the order given. */
  readonly path: string;
  readonly readOnly: boolean;
}

export interface GuestRun {
  readonly script: string;
  readonly memoryMiB?: number;
  readonly processors?: number;
  readonly timeoutMs?: number;
  readonly disks?: readonly GuestDisk[];
  /** Called with each line of the script's output, soon after it was printed. */
  readonly onLine?: (line: string) => void;
}

export interface GuestResult {
  /** The script's status; 125 when the guest ended without saying it. */
  readonly status: number;
  readonly output: string;
}

export async function runGuest(image: GuestImage, options: GuestRun): Promise<GuestResult> {
  const qemu = requiredTool('qemu-system-x86_64');
  const { path: initrd, folder } = await initrdWithScript(image, options.script);
  const kvm = process.env['KEEPGATE_TEST_ACCEL'] === 'kvm';
  const firmware = isUnpacked(qemu) ? firmwareFolders() : [];
  const outputFile = join(folder, 'output');
  const args = [
    ...firmware,
    ...(kvm ? ['-accel', 'kvm', '-cpu', 'host'] : ['-accel', 'tcg,thread=multi', '-cpu', 'max']),
    ...[
      '-smp',
      String(options.processors ?? 1),
      '-m',
      String(options.memoryMiB ?? 768),
      '-kernel',
      image.kernelPath,
      '-initrd',
      initrd,
    ],
    ...['-append', 'console=ttyS0 panic=-1 quiet', '-display', 'none', '-serial', 'stdio', '-monitor', 'none'],
    ...['-chardev', `file,id=output,path=${outputFile}`, '-device', 'virtio-serial-pci,max_ports=2'],
    ...['-device', 'virtserialport,chardev=output,nr=1'],
    ...['-no-reboot', '-nic', 'user,model=virtio-net-pci'],
    ...(options.disks ?? []).flatMap((disk) => [
      '-drive',
      `file=${disk.path},format=raw,if=virtio,cache=unsafe,readonly=${disk.readOnly ? 'on' : 'off'}`,
    ]),
  ];
  const stopWatching = options.onLine === undefined ? undefined : watchLines(outputFile, options.onLine);
  try {
    const ended = await attempt(qemu, args, { timeoutMs: options.timeoutMs ?? 180_000 });
    const output = await readFile(outputFile, 'utf8').catch(() => '');
    const status = /^GUEST-STATUS (\d+)$/m.exec(output)?.[1];
    if (status !== undefined) return { status: Number(status), output };
    return { status: 125, output: `${output}${ended.stdout}${ended.stderr}` };
  } finally {
    stopWatching?.();
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

function firmwareFolders(): string[] {
  return ['/usr/share/qemu', '/usr/share/seabios', '/usr/lib/ipxe/qemu']
    .map((folder) => packagedFile(folder))
    .flatMap((folder) => (folder === undefined ? [] : ['-L', folder]));
}
