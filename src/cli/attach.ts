/**
 * `keepgate attach VOLUME`: prints, and never runs, the exact commands that put a volume on this machine, with LUKS and
 * a file system on it, that bring it back after a reboot, and the way back; only what fits this machine, with what it lacks.
 */
import { GatewayError } from '../base/errors.js';
import type { Configuration, TlsConfiguration, VolumeConfiguration } from '../config/configuration.js';
import { formatNbdUri } from '../nbd-client/uri.js';
import type { ListenAddress } from '../ports/stream.js';
import { installLine, moduleAdvice } from './client-machine.js';
import type { ClientMachine, ModuleName, ModuleState, ToolName } from './client-machine.js';

export interface AttachOptions {
  readonly configuration: Configuration;
  readonly volume: string;
  readonly protocol: 'nbd' | 'iscsi';
  /** Where the gateway listens for this protocol. */
  readonly listen: readonly ListenAddress[];
  /** Whether its content came from a bucket, as far as is known here. */
  readonly restored: boolean;
  /** undefined: any; then everything is said that some machine needs. */
  readonly machine: ClientMachine | undefined;
}

export interface AttachStep {
  readonly title: string;
  readonly lines: readonly string[];
}

/** @throws GatewayError not-found, config-invalid */
export function attachLines(options: AttachOptions): readonly string[] {
  const { machine } = options;
  const where = machine === undefined ? '' : ` (here: ${machine.distribution}, kernel ${machine.kernel})`;
  return [
    `# Run as root on the machine that gets the disk${where}. Nothing was run by this command.`,
    ...(machine === undefined ? [] : [partsLine(machine, options.protocol)]),
    ...attachSteps(options).flatMap(({ title, lines }, at) => ['', `# ${at + 1}. ${title}`, ...lines]),
  ];
}

const stateWords: Readonly<Record<ModuleState, string>> = {
  ready: 'ready',
  loadable: 'to be loaded',
  absent: 'missing',
};

/** What is here of what the protocol, LUKS and a file system need. */
function partsLine({ modules, tools }: ClientMachine, protocol: 'nbd' | 'iscsi'): string {
  const own: ModuleName = protocol === 'nbd' ? 'nbd' : 'iscsi_tcp';
  const tool: ToolName = protocol === 'nbd' ? 'nbd-client' : 'iscsiadm';
  const here = ([own, 'dm_crypt'] as const).map((name) => `${name} (${stateWords[modules[name]]})`);
  const there = ([tool, 'cryptsetup', 'mkfs.ext4'] as const).filter((name) => tools[name]);
  return `# Kernel modules: ${here.join(', ')}. Tools: ${there.join(', ') || 'none of those below'}.`;
}

/** @throws GatewayError not-found, config-invalid */
export function attachSteps(options: AttachOptions): readonly AttachStep[] {
  const { configuration, volume, protocol, restored, machine } = options;
  const found = configuration.volumes.find(({ name }) => name === volume);
  if (found === undefined) {
    const known = configuration.volumes.map(({ name }) => name).join(', ');
    throw new GatewayError('not-found', `there is no volume "${volume}" (there are: ${known})`);
  }
  const encrypted = protocol === 'nbd' && isEncrypted(found, configuration.nbd.tls);
  const address = addressOf(options, found, encrypted);
  const target = `${configuration.iscsi.targetPrefix}:${volume}`;
  const way =
    protocol === 'nbd' ? nbdWay(found, address, configuration.nbd.tls, machine) : iscsiWay(target, address, machine);
  const missing = machine === undefined ? [] : missingLines(machine, way);
  return [
    ...(missing.length === 0 ? [] : [{ title: 'What this machine lacks', lines: missing }]),
    { title: 'Attach', lines: [...modprobeLines(way.modules, machine), ...way.attach] },
    encryptStep(found, way.device, restored),
    fileSystemStep(found, restored),
    { title: 'After a reboot', lines: bootLines(volume, way, machine) },
    {
      title: 'The way back',
      lines: [`umount /mnt/${volume}`, `cryptsetup close ${volume}`, ...way.detach],
    },
  ];
}

function addressOf(
  { configuration, volume, protocol, listen }: AttachOptions,
  found: VolumeConfiguration,
  encrypted: boolean,
): ListenAddress {
  const served =
    protocol === 'nbd'
      ? configuration.nbd.enabled && found.nbdEnabled
      : configuration.iscsi.enabled && found.iscsiEnabled;
  // The kernel has TLS over TCP only.
  const address = (encrypted ? listen.find(({ kind }) => kind === 'tcp') : undefined) ?? listen[0];
  if (served && address === undefined) {
    throw new GatewayError('gateway-unreachable', 'where sockets of systemd listen is known once the gateway runs');
  }
  if (!served || address === undefined) {
    throw new GatewayError(
      'config-invalid',
      `volume ${volume} is not served over ${protocol}; see ${protocol}.enabled`,
    );
  }
  return address;
}

interface Way {
  readonly device: string;
  readonly modules: readonly ModuleName[];
  readonly tools: readonly ToolName[];
  readonly attach: readonly string[];
  /** Brings it back after a reboot, where systemd or the initiator's service does. */
  readonly boot: readonly string[];
  readonly detach: readonly string[];
}

/** What steps need that this machine has not. */
function missingLines(machine: ClientMachine, { modules, tools }: Way): string[] {
  const absent = [...modules, 'dm_crypt' as const].filter((name) => machine.modules[name] === 'absent');
  const wanted = [...tools, 'cryptsetup' as const, 'mkfs.ext4' as const].filter((name) => !machine.tools[name]);
  return [
    ...(wanted.length === 0 ? [] : [installLine(machine.packages, wanted)]),
    ...(absent.length === 0
      ? []
      : [`# Not among the modules of kernel ${machine.kernel}: ${absent.join(', ')}.`, moduleAdvice(machine)]),
  ];
}

/** Modules of the initiator and of cryptsetup are loaded by these themselves. */
function modprobeLines(modules: readonly ModuleName[], machine: ClientMachine | undefined): string[] {
  const wanted = modules.filter((name) => name !== 'iscsi_tcp' && machine?.modules[name] !== 'ready');
  return wanted.length === 0 ? [] : [`modprobe ${wanted.length > 1 ? '-a ' : ''}${wanted.join(' ')}`];
}

function isEncrypted({ nbdUsers }: VolumeConfiguration, tls: TlsConfiguration): boolean {
  return tls.mode === 'required' || nbdUsers.length > 0;
}

function nbdWay(
  volume: VolumeConfiguration,
  address: ListenAddress,
  tls: TlsConfiguration,
  machine: ClientMachine | undefined,
): Way {
  const { name } = volume;
  const encrypted = isEncrypted(volume, tls);
  if (encrypted && address.kind === 'unix') {
    throw new GatewayError(
      'config-invalid',
      `volume ${name} is to be had over TLS only, and the gateway listens on a Unix socket, where the kernel has none: let it listen on a port, or set nbd.tls: on without nbd.users of the volume`,
    );
  }
  const device = machine?.nbdDevice ?? '/dev/nbd0';
  const unit = `keepgate-nbd@${device.slice('/dev/'.length)}`;
  const file = `/etc/keepgate/nbd/${device.slice('/dev/'.length)}`;
  const where = address.kind === 'unix' ? `-unix ${address.path}` : `${address.host} ${address.port}`;
  const uri = encrypted ? tlsUri(formatNbdUri(address, name), tls) : formatNbdUri(address, name);
  const plain = `nbd-client ${where} ${device} -N ${name} -b 512`;
  const withoutKeepgate = encrypted ? `${plain} -C 4${tlsOptions(tls)}` : plain;
  const get =
    machine?.tools['nbd-client'] === true ? '' : ` (${installLine(machine?.packages ?? 'apt', ['nbd-client'])})`;
  const inForeground = `keepgate nbd-watch ${device} '${uri}'`;
  const installed = machine?.nbdUnit === true;
  const systemd = machine === undefined || machine.systemd;
  const byUnit = [
    '# The client unit attaches the disk and keeps it through restarts of the gateway of up to 10 minutes; it is',
    `# deploy/keepgate-nbd@.service of Keepgate${installed ? '.' : ', which has to be installed on this machine too.'}`,
    'mkdir -p /etc/keepgate/nbd',
    `echo 'URI=${uri}' > ${file}`,
    `systemctl enable --now ${unit}`,
    `# Without ${machine === undefined ? 'systemd' : 'the unit'}, in the foreground:  ${inForeground}`,
  ];
  const byHand = [
    '# In a terminal, or a service, of its own: it attaches the disk and keeps it through restarts of the gateway.',
    inForeground,
  ];
  return {
    device,
    modules: encrypted ? ['nbd', 'tls'] : ['nbd'],
    // nbd-watch needs none.
    tools: [],
    attach: [
      ...(encrypted ? tlsLines(tls) : []),
      ...(systemd ? byUnit : byHand),
      `# Without Keepgate on this machine${get}, the disk fails when the gateway restarts:`,
      `#   ${withoutKeepgate}`,
    ],
    boot: ['# The unit was enabled above; it comes before the mounts that have _netdev.'],
    detach: systemd
      ? [`systemctl disable --now ${unit}     # or: nbd-client -d ${device}`]
      : ['# Ctrl-C ends nbd-watch; the disk goes with:', `nbd-client -d ${device}`],
  };
}

const CLIENT_DIRECTORY = '/etc/keepgate/tls';
const CLIENT_KEYS = '/etc/keepgate/keys.psk';

function tlsUri(uri: string, { certificates }: TlsConfiguration): string {
  const secure = uri.replace(/^nbd:\/\//, certificates === undefined ? 'nbds://USER@' : 'nbds://');
  return `${secure}?${certificates === undefined ? `tls-psk-file=${CLIENT_KEYS}` : `tls-certificates=${CLIENT_DIRECTORY}`}`;
}

/** Debian's nbd-client 3.24 does not take the -F of its own help, and knows no pre-shared keys. */
function tlsOptions({ certificates, verifyPeer }: TlsConfiguration): string {
  if (certificates === undefined) return ' needs certificates of the gateway (nbd.tlsCertificates)';
  const own = verifyPeer ? ' -certfile client-cert.pem -keyfile client-key.pem' : '';
  return ` -enable-tls -cacertfile ca-cert.pem${own}`;
}

function tlsLines({ certificates, verifyPeer }: TlsConfiguration): readonly string[] {
  if (certificates === undefined)
    return [`# Over TLS, with the user's own line of the gateway's keys in ${CLIENT_KEYS} (mode 0600).`];
  const needed = verifyPeer ? 'ca-cert.pem, client-cert.pem and client-key.pem (mode 0600)' : 'ca-cert.pem';
  return [
    `# Over TLS, with ${needed} of docs/operations.md in ${CLIENT_DIRECTORY}. In the URI, the host as`,
    "# the gateway's certificate names it; or add &tls-hostname=NAME.",
  ];
}

function iscsiWay(target: string, address: ListenAddress, machine: ClientMachine | undefined): Way {
  if (address.kind === 'unix') throw new GatewayError('config-invalid', 'iSCSI does not listen on a Unix socket');
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  const portal = `${host}:${address.port}`;
  const node = `iscsiadm -m node -T ${target} -p ${portal}`;
  const update = (name: string, value: string): string => `${node} -o update -n ${name} -v ${value}`;
  const rules = [
    `echo 'ACTION=="add|change", SUBSYSTEM=="block", ENV{DEVTYPE}=="disk", ATTRS{vendor}=="KEEPGATE", ATTR{device/timeout}="600"' > /etc/udev/rules.d/60-keepgate.rules`,
    'udevadm control --reload',
  ];
  const udev = machine === undefined || machine.udev;
  return {
    device: `/dev/disk/by-path/ip-${portal}-iscsi-${target}-lun-0`,
    modules: ['iscsi_tcp'],
    tools: ['iscsiadm'],
    attach: [
      ...(machine === undefined ? [`${installLine('apt', ['iscsiadm'])}        # Debian`] : []),
      `iscsiadm -m discovery -t sendtargets -p ${portal}`,
      '# Time-outs that survive a restart of the gateway: set them before the login.',
      update('node.session.timeo.replacement_timeout', '600'),
      update('node.conn[0].timeo.noop_out_interval', '60'),
      update('node.conn[0].timeo.noop_out_timeout', '600'),
      ...(udev ? rules : []),
      `${node} --login`,
      ...(udev ? [] : ['# Without udev the disk has another name than below: iscsiadm -m session -P 3 tells it.']),
    ],
    boot: [update('node.startup', 'automatic')],
    detach: [`${node} --logout`, `${node} -o delete`],
  };
}

/**
 * Of a volume that was restored the line, which destroys what is there, is not for pasting; nor of one that does not replicate,
 * which may be a copy that was restored elsewhere.
 */
function forNewVolume({ replicate }: VolumeConfiguration, restored: boolean, line: string): string {
  if (restored) return `# never: it was restored, and this would destroy it: ${line}`;
  return replicate ? line : `# not on a restored copy: ${line}`;
}

function encryptStep(volume: VolumeConfiguration, device: string, restored: boolean): AttachStep {
  return {
    title: 'Encrypt: the passphrase never leaves this machine. luksFormat destroys what is on the disk: once only.',
    lines: [
      forNewVolume(volume, restored, `cryptsetup luksFormat --type luks2 --sector-size 4096 ${device}`),
      '# With --allow-discards freed space is given back to the gateway and the bucket, which then see which blocks are',
      '# free; leave it out to hide that, and drop "discard" below.',
      `cryptsetup open --allow-discards ${device} ${volume.name}`,
    ],
  };
}

function fileSystemStep(volume: VolumeConfiguration, restored: boolean): AttachStep {
  const { name } = volume;
  return {
    title: 'File system',
    lines: [
      forNewVolume(volume, restored, `mkfs.ext4 /dev/mapper/${name}             # once only`),
      `mkdir -p /mnt/${name}`,
      `mount /dev/mapper/${name} /mnt/${name}`,
      `fstrim -v /mnt/${name}              # now and then, with --allow-discards`,
    ],
  };
}

function bootLines(volume: string, way: Way, machine: ClientMachine | undefined): string[] {
  if (machine?.systemd === false) {
    return [
      '# Nothing here reads /etc/crypttab as systemd does: attach, open and mount as above, without luksFormat and mkfs.',
    ];
  }
  return [
    ...way.boot,
    `echo '${volume} ${way.device} none luks,discard,_netdev,nofail' >> /etc/crypttab`,
    `echo '/dev/mapper/${volume} /mnt/${volume} ext4 defaults,_netdev,nofail 0 2' >> /etc/fstab`,
  ];
}
