/**
 * What this machine has of what a client needs: kernel modules, tools, systemd and udev, and by which package manager its
 * distribution gets the rest. Looks, and changes nothing.
 */
import { release } from 'node:os';
import { join } from 'node:path';
import { exists, listDirectory, readTextFile } from '../platform/text-file.js';

export const moduleNames = ['nbd', 'iscsi_tcp', 'dm_crypt', 'tls'] as const;
export type ModuleName = (typeof moduleNames)[number];
/** ready: loaded or built in; loadable: modprobe has it; absent: not among the modules of the running kernel. */
export type ModuleState = 'ready' | 'loadable' | 'absent';

export const toolNames = ['nbd-client', 'iscsiadm', 'cryptsetup', 'mkfs.ext4'] as const;
export type ToolName = (typeof toolNames)[number];

export type PackageManager = 'apt' | 'dnf' | 'apk' | 'pacman';

export interface ClientMachine {
  /** "Debian GNU/Linux 13 (trixie)", or "Linux" where it does not say. */
  readonly distribution: string;
  /** ID of os-release, and those that it is like. */
  readonly ids: readonly string[];
  readonly kernel: string;
  readonly packages: PackageManager | undefined;
  readonly modules: Readonly<Record<ModuleName, ModuleState>>;
  readonly tools: Readonly<Record<ToolName, boolean>>;
  readonly systemd: boolean;
  readonly udev: boolean;
  /** keepgate-nbd@.service is installed. */
  readonly nbdUnit: boolean;
  /** The first that nothing is attached to: "/dev/nbd0". */
  readonly nbdDevice: string;
}

/** By ID or ID_LIKE, in this order: a derivative is like what it derives from. */
const managers: readonly (readonly [string, PackageManager])[] = [
  ['debian', 'apt'],
  ['ubuntu', 'apt'],
  ['fedora', 'dnf'],
  ['rhel', 'dnf'],
  ['alpine', 'apk'],
  ['arch', 'pacman'],
];

export interface MachinePlace {
  /** Where its files lie. Default: / */
  readonly root?: string;
  readonly kernel?: string;
  /** Default: PATH. */
  readonly path?: string;
}

export async function lookAtMachine(place: MachinePlace = {}): Promise<ClientMachine> {
  const { root = '/', kernel = release() } = place;
  const at = (path: string): string => join(root, path);
  const text = (path: string): Promise<string> =>
    readTextFile(at(path)).then(
      (found) => found ?? '',
      () => '',
    );
  const system = (await text('etc/os-release')) || (await text('usr/lib/os-release'));
  const ids = [valueOf(system, 'ID'), ...valueOf(system, 'ID_LIKE').split(' ')].filter((id) => id !== '');
  const modules = await Promise.all(
    moduleNames.map(async (name) => [name, await moduleState(name, { root, kernel })] as const),
  );
  const tools = await Promise.all(toolNames.map(async (name) => [name, await hasTool(name, place)] as const));
  const units = ['etc/systemd/system', 'usr/lib/systemd/system', 'lib/systemd/system'];
  const installed = await Promise.all(units.map((folder) => exists(at(`${folder}/keepgate-nbd@.service`))));
  return {
    distribution: valueOf(system, 'PRETTY_NAME') || 'Linux',
    ids,
    kernel,
    packages: managers.find(([id]) => ids.includes(id))?.[1],
    modules: Object.fromEntries(modules) as Record<ModuleName, ModuleState>,
    tools: Object.fromEntries(tools) as Record<ToolName, boolean>,
    systemd: await exists(at('run/systemd/system')),
    udev: await exists(at('run/udev')),
    nbdUnit: installed.includes(true),
    nbdDevice: await freeNbdDevice(root),
  };
}

export async function moduleState(
  name: ModuleName,
  { root = '/', kernel = release() }: Omit<MachinePlace, 'path'> = {},
): Promise<ModuleState> {
  if (await exists(join(root, 'sys/module', name))) return 'ready';
  const file = new RegExp(`/${name.replaceAll('_', '[-_]')}\\.ko`);
  const has = async (list: string): Promise<boolean> =>
    file.test((await readTextFile(join(root, 'lib/modules', kernel, list)).catch(() => undefined)) ?? '');
  if (await has('modules.builtin')) return 'ready';
  return (await has('modules.dep')) ? 'loadable' : 'absent';
}

/** As a shell would find it, root's own folders included: who asks need not be root. */
async function hasTool(
  name: ToolName,
  { root = '/', path = process.env['PATH'] ?? '' }: MachinePlace,
): Promise<boolean> {
  const folders = [...path.split(':'), '/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  const found = await Promise.all(
    folders.filter((folder) => folder !== '').map((folder) => exists(join(root, folder, name))),
  );
  return found.includes(true);
}

/** The kernel has a file `pid` of those that are attached. */
async function freeNbdDevice(root: string): Promise<string> {
  const names = (await listDirectory(join(root, 'sys/block'))).filter((name) => /^nbd\d+$/.test(name));
  names.sort((left, right) => Number(left.slice(3)) - Number(right.slice(3)));
  for (const name of names) {
    if (!(await exists(join(root, 'sys/block', name, 'pid')))) return `/dev/${name}`;
  }
  return '/dev/nbd0';
}

/** Of os-release(5): NAME=value, "value" or 'value'. */
function valueOf(system: string, name: string): string {
  return new RegExp(`^${name}=(["']?)(.*)\\1$`, 'm').exec(system)?.[2] ?? '';
}

const packageOf: Readonly<Record<PackageManager, Readonly<Record<ToolName, string>>>> = {
  apt: { 'nbd-client': 'nbd-client', iscsiadm: 'open-iscsi', cryptsetup: 'cryptsetup', 'mkfs.ext4': 'e2fsprogs' },
  dnf: { 'nbd-client': 'nbd', iscsiadm: 'iscsi-initiator-utils', cryptsetup: 'cryptsetup', 'mkfs.ext4': 'e2fsprogs' },
  apk: { 'nbd-client': 'nbd-client', iscsiadm: 'open-iscsi', cryptsetup: 'cryptsetup', 'mkfs.ext4': 'e2fsprogs' },
  pacman: { 'nbd-client': 'nbd', iscsiadm: 'open-iscsi', cryptsetup: 'cryptsetup', 'mkfs.ext4': 'e2fsprogs' },
};

const installers: Readonly<Record<PackageManager, string>> = {
  apt: 'apt-get install',
  dnf: 'dnf install',
  apk: 'apk add',
  pacman: 'pacman -S',
};

/** "apt-get install open-iscsi"; of an unknown distribution which programs are wanted. */
export function installLine(packages: PackageManager | undefined, tools: readonly ToolName[]): string {
  if (packages === undefined) return `# Get by the package manager of this distribution: ${tools.join(', ')}`;
  return `${installers[packages]} ${tools.map((tool) => packageOf[packages][tool]).join(' ')}`;
}

/** How modules that the running kernel has not come here. */
export function moduleAdvice({ packages, ids, kernel }: ClientMachine): string {
  switch (packages) {
    case 'apt':
      return ids[0] === 'ubuntu'
        ? `apt-get install linux-modules-extra-${kernel}`
        : '# the packages linux-image-… have them, for the kernel that they bring; a container uses those of its host';
    case 'dnf':
      return `dnf install kernel-modules-${kernel} kernel-modules-extra-${kernel}`;
    case 'apk':
      return '# apk add linux-lts has them, for the kernel that it brings; a container uses those of its host';
    case 'pacman':
      return '# after an upgrade of the kernel the running one has lost its modules: restart the machine';
    case undefined:
      return '# they come with the kernel that this distribution brings; a container uses those of its host';
  }
}
