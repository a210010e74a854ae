/**
 * The real clients, servers and tools that the tests run against, all from Debian's packages.
 *
 * `prepareClients` gets what is missing: installed by apt-get when CI=true or KEEPGATE_TEST_INSTALL=1 and the user is
 * root, without starting any service; else fetched and unpacked under test/.cache, which needs no rights. `tool` then
 * finds a program, or says why it is not there. Nothing here is used by the gateway itself.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { attempt, describeFailure, run, type Program } from './process.js';

/** Which Debian package a program comes from. */
const packageOf = {
  'nbd-client': 'nbd-client',
  nbdinfo: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  nbdsh: 'python3-libnbd',
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  'qemu-nbd': 'qemu-utils',
  'qemu-storage-daemon': 'qemu-system-common',
  fio: 'fio',
  'iscsi-ls': 'libiscsi-bin',
  'iscsi-inq': 'libiscsi-bin',
  'iscsi-test-cu': 'libiscsi-bin',
  iscsiadm: 'open-iscsi',
  iscsid: 'open-iscsi',
  cryptsetup: 'cryptsetup-bin',
  dmsetup: 'dmsetup',
  'mkfs.ext4': 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  busybox: 'busybox-static',
  cpio: 'cpio',
  depmod: 'kmod',
  modprobe: 'kmod',
  'qemu-system-x86_64': 'qemu-system-x86',
  'ceph-mon': 'ceph-mon',
  'ceph-osd': 'ceph-osd',
  'ceph-mgr': 'ceph-mgr',
  radosgw: 'radosgw',
  'radosgw-admin': 'ceph-common',
  ceph: 'ceph-common',
  'ceph-authtool': 'ceph-common',
  monmaptool: 'ceph-common',
  nbdkit: 'nbdkit',
  'nbd-server': 'nbd-server',
  tgtd: 'tgt',
  tgtadm: 'tgt',
  'clang-format': 'clang-format',
  cc: 'gcc',
  openssl: 'openssl',
  chromium: 'chromium',
  'systemd-socket-activate': 'systemd',
  'systemd-analyze': 'systemd',
  'systemd-sysusers': 'systemd',
  'systemd-tmpfiles': 'systemd',
  shellcheck: 'shellcheck',
  prometheus: 'prometheus',
  promtool: 'prometheus',
  zsh: 'zsh',
  fish: 'fish',
  mandoc: 'mandoc',
  script: 'bsdutils',
} as const;

export type ToolName = keyof typeof packageOf;

/** Wanted beside the packages that have a program: drivers and headers. */
const furtherPackages = {
  'qemu-block-extra': '/usr/lib/x86_64-linux-gnu/qemu/block-iscsi.so',
  'libiscsi-dev': '/usr/include/iscsi/iscsi.h',
} as const;

const projectDirectory = resolve(import.meta.dirname, '../../..');
export const cacheDirectory = process.env['KEEPGATE_TEST_CACHE'] ?? join(projectDirectory, 'test/.cache');
const unpackedDirectory = join(cacheDirectory, 'debian');
const leftOutFile = join(cacheDirectory, 'left-out');
/** For trying the unpacking on a machine that has everything: what is installed is not looked at. */
const unpackOnly = process.env['KEEPGATE_TEST_UNPACK'] === '1';

const programFolders = ['usr/bin', 'usr/sbin', 'bin', 'sbin'] as const;
const libraryFolders = [
  'usr/lib/x86_64-linux-gnu',
  'usr/lib/x86_64-linux-gnu/systemd',
  'lib/x86_64-linux-gnu',
  'usr/lib/x86_64-linux-gnu/ceph',
  'usr/lib/ceph',
  'usr/lib/llvm-14/lib',
  'usr/lib/x86_64-linux-gnu/nss',
  'usr/lib/x86_64-linux-gnu/pulseaudio',
  'usr/lib/x86_64-linux-gnu/blas',
  'usr/lib/x86_64-linux-gnu/lapack',
] as const;

/** The program, or one line that says why it is not there. */
export function tool(name: ToolName): Program | string {
  if (!unpackOnly || name === 'cc') {
    const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
    const path = folders.map((folder) => join(folder, name)).find((candidate) => existsSync(candidate));
    if (path !== undefined) return { path, env: {} };
  }
  const path = programFolders
    .map((folder) => join(unpackedDirectory, folder, name))
    .find((candidate) => existsSync(candidate));
  if (path !== undefined) return { path, env: unpackedEnvironment() };
  const why = existsSync(leftOutFile) ? readFileSync(leftOutFile, 'utf8').trim() : 'run npm test, which fetches it';
  return `${name} of Debian's package ${packageOf[name]} is missing: ${why}`;
}

/** The program; throws where it is missing. Only for code behind `suite`, which has asked before. */
export function requiredTool(name: ToolName): Program {
  const found = tool(name);
  if (typeof found === 'string') throw new Error(found);
  return found;
}

/** Where a file of a package lies: in the system, or unpacked. */
export function packagedFile(path: string): string | undefined {
  if (!unpackOnly && existsSync(path)) return path;
  const unpacked = join(unpackedDirectory, path);
  return existsSync(unpacked) ? unpacked : undefined;
}

/** True when programs run from the unpacked packages, which cannot find their data files by themselves. */
export function isUnpacked(program: Program): boolean {
  return program.path.startsWith(unpackedDirectory);
}

function unpackedEnvironment(): Record<string, string> {
  const under = (folder: string): string => join(unpackedDirectory, folder);
  return {
    LD_LIBRARY_PATH: libraryFolders.map(under).join(':'),
    PATH: [...programFolders.map(under), process.env['PATH'] ?? ''].join(':'),
    PYTHONPATH: under('usr/lib/python3/dist-packages'),
    QEMU_MODULE_DIR: under('usr/lib/x86_64-linux-gnu/qemu'),
  };
}

function missingPackages(): string[] {
  const programs = (Object.keys(packageOf) as ToolName[])
    .filter((name) => typeof tool(name) === 'string')
    .map((name): string => packageOf[name]);
  const files = Object.entries(furtherPackages)
    .filter(([, path]) => packagedFile(path) === undefined)
    .map(([name]) => name);
  return [...new Set([...programs, ...files])];
}

/**
 * Gets what is missing. Returns one line for each thing that could not be had; the suites that need it are left out
 * by name, or fail when CI=true.
 */
export async function prepareClients(say: (line: string) => void): Promise<string[]> {
  mkdirSync(cacheDirectory, { recursive: true });
  rmSync(leftOutFile, { force: true });
  const missing = missingPackages();
  if (missing.length === 0) return [];
  const mayInstall = process.env['CI'] === 'true' || process.env['KEEPGATE_TEST_INSTALL'] === '1';
  try {
    if (mayInstall && process.getuid?.() === 0 && !unpackOnly) {
      say(`installing ${missing.join(' ')}`);
      await install(missing);
    } else {
      say(`fetching into test/.cache: ${missing.join(' ')}`);
      await fetchAndUnpack(missing);
    }
  } catch (error) {
    const lines = (error instanceof Error ? error.message : String(error)).trim().split('\n');
    const reason = lines.find((line) => line.startsWith('E:')) ?? lines.at(-1) ?? 'unknown';
    writeFileSync(leftOutFile, `${reason}\n`);
  }
  const still = missingPackages();
  return still.map((name) => `${name} could not be had: ${leftOutReason()}`);
}

function leftOutReason(): string {
  return existsSync(leftOutFile) ? readFileSync(leftOutFile, 'utf8').trim() : 'its files are not where they belong';
}

const aptEnvironment = { DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' };

async function install(packages: readonly string[]): Promise<void> {
  const args = ['install', '-y', '--no-install-recommends', ...packages];
  const simulated = await attempt('apt-get', ['-s', ...args], { env: aptEnvironment });
  if (simulated.status !== 0) await run('apt-get', ['update'], { env: aptEnvironment, timeoutMs: 300_000 });
  await withoutServices(async () => {
    await run('apt-get', args, { env: aptEnvironment, timeoutMs: 1_200_000 });
  });
}

/** While `work` runs, packages that bring a service do not start it (policy-rc.d answering 101 means "not allowed"). */
async function withoutServices(work: () => Promise<void>): Promise<void> {
  const policy = '/usr/sbin/policy-rc.d';
  const saved = `${policy}.before-keepgate-test`;
  const existed = existsSync(policy);
  if (existed) await rename(policy, saved);
  await writeFile(policy, '#!/bin/sh\nexit 101\n');
  await chmod(policy, 0o755);
  try {
    await work();
  } finally {
    if (existed) await rename(saved, policy);
    else await rm(policy);
  }
}

async function fetchAndUnpack(packages: readonly string[]): Promise<void> {
  let apt = unpackOnly ? pretendBare() : [];
  let listed = await attempt('apt-get', [...apt, ...simulation(packages)], { env: aptEnvironment });
  if (listed.status !== 0) {
    apt = [...apt, ...(await ownLists())];
    listed = await attempt('apt-get', [...apt, ...simulation(packages)], { env: aptEnvironment });
  }
  if (listed.status !== 0) throw new Error(describeFailure('apt-get', simulation(packages), listed));
  // The C library has to fit the dynamic linker, which is the system's.
  const names = [...listed.stdout.matchAll(/^Inst (\S+)/gm)]
    .map((match) => match[1] ?? '')
    .filter((name) => name !== 'libc6');
  await download(apt, names, unpackedDirectory);
}

/** Downloads packages, without what they depend on, and unpacks them into `folder`. Installs nothing. */
export async function fetchPackages(names: readonly string[], folder: string): Promise<void> {
  try {
    await download([], names, folder);
  } catch {
    await download(await ownLists(), names, folder);
  }
}

/** The versioned package that Debian's newest kernel for virtual machines comes in. */
export async function newestKernelPackage(): Promise<string | undefined> {
  const name = 'linux-image-cloud-amd64';
  const inLists = async (apt: readonly string[]): Promise<string | undefined> => {
    const shown = await attempt('apt-cache', [...apt, 'depends', name], { env: aptEnvironment });
    return /Depends: (linux-image-\S+)/.exec(shown.stdout)?.[1];
  };
  return (await inLists([])) ?? (await inLists(await ownLists().catch(() => [])));
}

async function download(apt: readonly string[], names: readonly string[], folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const draft = await mkdtemp(join(cacheDirectory, 'packages-'));
  try {
    await run('apt-get', [...apt, 'download', ...names], { cwd: draft, env: aptEnvironment, timeoutMs: 1_200_000 });
    for (const file of await readdir(draft))
      await run('dpkg', ['-x', join(draft, file), folder], { timeoutMs: 300_000 });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

function simulation(packages: readonly string[]): string[] {
  return ['-s', 'install', '-y', '--no-install-recommends', ...packages];
}

/** Package lists of one's own: the system's may be absent, and only root may renew them. */
async function ownLists(): Promise<string[]> {
  const folder = join(cacheDirectory, 'apt');
  mkdirSync(join(folder, 'lists/partial'), { recursive: true });
  mkdirSync(join(folder, 'cache/archives/partial'), { recursive: true });
  const options = [
    ...['-o', `Dir::State::lists=${join(folder, 'lists')}`, '-o', `Dir::Cache=${join(folder, 'cache')}`],
    ...['-o', 'Debug::NoLocking=1'],
  ];
  await run('apt-get', [...options, 'update'], { env: aptEnvironment, timeoutMs: 300_000 });
  return options;
}

/** The package status of a machine with nothing on it, for trying the unpacking on a machine that has everything. */
function pretendBare(): string[] {
  const status = join(cacheDirectory, 'status-of-a-bare-machine');
  writeFileSync(status, '');
  return ['-o', `Dir::State::status=${status}`];
}
