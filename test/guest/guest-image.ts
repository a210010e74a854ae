/**
 * What a guest boots: Debian's cloud kernel and an initial RAM disk with the kernel modules and programs that attach,
 * encrypt and check a disk. Built once into test/.cache, and again when the kernel or one of the programs changes.
 *
 * No rights are needed, and no module, device or file of the host is touched: the kernel package is only unpacked.
 */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, statSync } from 'node:fs';
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  realpath,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip, gzipSync } from 'node:zlib';
import {
  cacheDirectory,
  fetchPackages,
  newestKernelPackage,
  packagedFile,
  requiredTool,
  tool,
  type ToolName,
} from '../tool/clients.js';
import { run, type Program } from '../tool/process.js';

export interface GuestImage {
  readonly kernelPath: string;
  readonly initrdPath: string;
}

const insidePrograms = ['nbd-client', 'iscsid', 'iscsiadm', 'cryptsetup', 'dmsetup', 'mkfs.ext4', 'e2fsck'] as const;

/** What the host needs to build and boot a guest. */
export const guestTools = [
  ...(['qemu-system-x86_64', 'busybox', 'cpio', 'depmod', 'modprobe'] as const),
  ...insidePrograms,
] as const;

/** Loaded by init. What they depend on comes with them. */
const loadedModules = [
  'virtio_pci',
  'virtio_console',
  'virtio_net',
  'virtio_blk',
  'nbd',
  'tls',
  'iscsi_tcp',
  'sd_mod',
  'dm-crypt',
  'dm-multipath',
  'dm-round-robin',
  'ext4',
];
/** Loaded by the kernel itself when a cipher or checksum is asked for. */
const modulesOnDemand = [
  ...['xts', 'ecb', 'aesni_intel', 'aes_generic', 'sha256_generic', 'crc32c_generic', 'crc32c_intel'],
  ...['algif_skcipher', 'algif_hash', 'af_packet'],
  ...['chacha20poly1305', 'chacha-x86_64', 'poly1305-x86_64', 'chacha_generic', 'poly1305_generic'],
];

const init = `#!/bin/sh
export PATH=/sbin:/bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; mount -t tmpfs t /run
mkdir -p /run/lock/iscsi /run/cryptsetup
for m in ${[...loadedModules, 'xts', 'aesni_intel'].join(' ')}; do modprobe $m 2>/dev/null; done
ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
i=0; while [ $i -lt 50 ] && [ "$(cat /sys/class/net/eth0/carrier 2>/dev/null)" != 1 ]; do sleep 0.1; i=$((i+1)); done
for port in /dev/vport*p1; do exec >$port 2>&1; done
sh /test.sh; echo "GUEST-STATUS $?"
sync; poweroff -f
`;

/** The image, or one line that says why there is none. */
export async function guestImage(): Promise<GuestImage | string> {
  if (process.arch !== 'x64') return `guests run on x86-64 only, this is ${process.arch}`;
  const missing = guestTools.map((name) => tool(name)).find((found) => typeof found === 'string');
  if (typeof missing === 'string') return missing;
  const kernelPackage = await newestKernelPackage();
  if (kernelPackage === undefined) return "Debian's package linux-image-cloud-amd64 is not in the package lists";
  const folder = join(cacheDirectory, `guest-${recipe(kernelPackage)}`);
  const image = { kernelPath: join(folder, 'vmlinuz'), initrdPath: join(folder, 'initrd.gz') };
  if (existsSync(folder)) return image;
  await mkdir(cacheDirectory, { recursive: true });
  const draft = await mkdtemp(join(cacheDirectory, 'guest-draft-'));
  try {
    await build(draft, kernelPackage);
    await rename(draft, folder);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    return `the guest's image could not be built: ${error instanceof Error ? error.message : String(error)}`;
  }
  return image;
}

/** Names everything that goes into an image: another kernel, program or recipe makes another image. */
function recipe(kernelPackage: string): string {
  const programs = insidePrograms.map((name) => {
    const { path } = requiredTool(name);
    const { size, mtimeMs } = statSync(path);
    return [path, size, mtimeMs];
  });
  const text = JSON.stringify([1, kernelPackage, programs, init, modulesOnDemand]);
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

async function build(folder: string, kernelPackage: string): Promise<void> {
  const kernel = join(folder, 'kernel');
  const root = join(folder, 'root');
  await fetchPackages([kernelPackage], kernel);
  const [version] = await readdir(join(kernel, 'lib/modules'));
  if (version === undefined) throw new Error(`${kernelPackage} holds no modules`);
  await copyFile(join(kernel, 'boot', `vmlinuz-${version}`), join(folder, 'vmlinuz'));
  for (const name of ['bin', 'sbin', 'etc/iscsi', 'proc', 'sys', 'dev', 'run', 'tmp', 'mnt', 'var/lib/iscsi']) {
    await mkdir(join(root, name), { recursive: true });
  }
  await addBusybox(root);
  await addModules(root, kernel, version);
  for (const name of insidePrograms) await addProgram(root, name);
  await addFiles(root);
  await packInitrd(root, join(folder, 'initrd.gz'));
  await rm(kernel, { recursive: true });
  await rm(root, { recursive: true });
}

async function addBusybox(root: string): Promise<void> {
  const busybox = requiredTool('busybox');
  await copyFile(busybox.path, join(root, 'bin/busybox'));
  const applets = (await run(busybox, ['--list'])).trim().split('\n');
  for (const applet of applets.filter((name) => name !== 'busybox'))
    await symlink('busybox', join(root, 'bin', applet));
}

async function addModules(root: string, kernel: string, version: string): Promise<void> {
  await run(requiredTool('depmod'), ['-b', kernel, version]);
  const files = new Set<string>();
  for (const name of [...loadedModules, ...modulesOnDemand]) {
    // A name that is built into this kernel has no file.
    const shown = await run(requiredTool('modprobe'), ['-d', kernel, '-S', version, '--show-depends', name]);
    for (const match of shown.matchAll(/^insmod (\S+)/gm)) files.add((match[1] ?? '').slice(kernel.length));
  }
  for (const file of files) await copyInto(root, join(kernel, file), file);
  for (const list of ['modules.order', 'modules.builtin', 'modules.builtin.modinfo']) {
    const path = join('lib/modules', version, list);
    await copyInto(root, join(kernel, path), path);
  }
  await run(requiredTool('depmod'), ['-b', root, version]);
}

async function addProgram(root: string, name: ToolName): Promise<void> {
  const program = requiredTool(name);
  await rm(join(root, 'bin', name), { force: true });
  await rm(join(root, 'sbin', name), { force: true });
  await copyInto(root, program.path, join('sbin', name));
  for (const library of await sharedLibraries(program)) {
    const at = library.startsWith(cacheDirectory)
      ? `/lib/x86_64-linux-gnu/${library.split('/').at(-1) ?? ''}`
      : library;
    await copyInto(root, library, at);
  }
}

/** The files that the dynamic linker would load for a program, itself included. */
export async function sharedLibraries(program: Program): Promise<string[]> {
  const listed = await run('ldd', [program.path], { env: program.env });
  return [...listed.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? '');
}

async function addFiles(root: string): Promise<void> {
  const gccLibrary = packagedFile('/lib/x86_64-linux-gnu/libgcc_s.so.1'); // Loaded late, by threads that end.
  if (gccLibrary !== undefined) await copyInto(root, gccLibrary, '/lib/x86_64-linux-gnu/libgcc_s.so.1');
  for (const file of ['/etc/iscsi/iscsid.conf', '/etc/mke2fs.conf']) {
    const found = packagedFile(file);
    if (found !== undefined) await copyInto(root, found, file);
  }
  await writeFile(join(root, 'etc/iscsi/initiatorname.iscsi'), 'InitiatorName=iqn.2026-11.guest:kernel\n');
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/:/bin/sh\n');
  await writeFile(join(root, 'etc/group'), 'root:x:0:\n');
  await writeFile(join(root, 'init'), init);
  await chmod(join(root, 'init'), 0o755);
}

async function copyInto(root: string, from: string, to: string): Promise<void> {
  const target = join(root, to);
  await mkdir(dirname(target), { recursive: true });
  await copyFile(await realpath(from), target);
}

async function packInitrd(root: string, target: string): Promise<void> {
  const plain = `${target}.plain`;
  const names = await run('find', ['.'], { cwd: root });
  await run(requiredTool('cpio'), ['-o', '-H', 'newc', '--quiet', '-F', plain], { cwd: root, input: names });
  await pipeline(createReadStream(plain), createGzip({ level: 1 }), createWriteStream(target));
  await rm(plain);
}

/** The initial RAM disk of one run: the image's, and behind it a second archive with the script. */
export async function initrdWithScript(image: GuestImage, script: string): Promise<{ path: string; folder: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'keepgate-guest-'));
  await writeFile(join(folder, 'test.sh'), script);
  const archive = join(folder, 'script.cpio');
  await run(requiredTool('cpio'), ['-o', '-H', 'newc', '--quiet', '-F', archive], { cwd: folder, input: 'test.sh\n' });
  const path = join(folder, 'initrd');
  await writeFile(path, Buffer.concat([await readFile(image.initrdPath), gzipSync(await readFile(archive))]));
  return { path, folder };
}
