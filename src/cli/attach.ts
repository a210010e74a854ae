/**
 * `keepgate attach VOLUME`: prints, and never runs, the exact commands that put a volume on this machine, with LUKS and
 * a file system on it, that bring it back after a reboot, and the way back.
 */
import { GatewayError } from '../base/errors.js';
import type { Configuration, TlsConfiguration, VolumeConfiguration } from '../config/configuration.js';
import { formatNbdUri } from '../nbd-client/uri.js';
import type { ListenAddress } from '../ports/stream.js';

export interface AttachOptions {
  readonly configuration: Configuration;
  readonly volume: string;
  readonly protocol: 'nbd' | 'iscsi';
  /** Where the gateway listens for this protocol. */
  readonly listen: readonly ListenAddress[];
}

/** @throws GatewayError not-found, config-invalid */
export function attachLines(options: AttachOptions): readonly string[] {
  const { configuration, volume, protocol } = options;
  const found = configuration.volumes.find(({ name }) => name === volume);
  if (found === undefined) {
    const known = configuration.volumes.map(({ name }) => name).join(', ');
    throw new GatewayError('not-found', `there is no volume "${volume}" (there are: ${known})`);
  }
  const served =
    protocol === 'nbd'
      ? configuration.nbd.enabled && found.nbdEnabled
      : configuration.iscsi.enabled && found.iscsiEnabled;
  const encrypted = protocol === 'nbd' && isEncrypted(found, configuration.nbd.tls);
  // The kernel has TLS over TCP only.
  const address = (encrypted ? options.listen.find(({ kind }) => kind === 'tcp') : undefined) ?? options.listen[0];
  if (served && address === undefined) {
    throw new GatewayError('gateway-unreachable', 'where sockets of systemd listen is known once the gateway runs');
  }
  if (!served || address === undefined) {
    throw new GatewayError(
      'config-invalid',
      `volume ${volume} is not served over ${protocol}; see ${protocol}.enabled`,
    );
  }
  const target = `${configuration.iscsi.targetPrefix}:${volume}`;
  const way = protocol === 'nbd' ? nbdWay(found, address, configuration.nbd.tls) : iscsiWay(target, address);
  return [
    `# Run as root on the machine that gets the disk. Nothing was run by this command.`,
    '',
    '# 1. Attach',
    ...way.attach,
    '',
    ...luksLines(volume, way.device),
    '',
    ...bootLines(volume, way),
    '',
    '# 5. The way back',
    `umount /mnt/${volume}`,
    `cryptsetup close ${volume}`,
    ...way.detach,
  ];
}

interface Way {
  readonly device: string;
  readonly attach: readonly string[];
  readonly boot: readonly string[];
  readonly detach: readonly string[];
}

function isEncrypted({ nbdUsers }: VolumeConfiguration, tls: TlsConfiguration): boolean {
  return tls.mode === 'required' || nbdUsers.length > 0;
}

function nbdWay(volume: VolumeConfiguration, address: ListenAddress, tls: TlsConfiguration): Way {
  const { name } = volume;
  const encrypted = isEncrypted(volume, tls);
  if (encrypted && address.kind === 'unix') {
    throw new GatewayError(
      'config-invalid',
      `volume ${name} is to be had over TLS only, and the gateway listens on a Unix socket, where the kernel has none: let it listen on a port, or set nbd.tls: on without nbd.users of the volume`,
    );
  }
  const where = address.kind === 'unix' ? `-unix ${address.path}` : `${address.host} ${address.port}`;
  const uri = encrypted ? tlsUri(formatNbdUri(address, name), tls) : formatNbdUri(address, name);
  const plain = `nbd-client ${where} /dev/nbd0 -N ${name} -b 512`;
  return {
    device: '/dev/nbd0',
    attach: [
      `modprobe ${encrypted ? '-a nbd tls' : 'nbd'.padEnd(11)}              # any free /dev/nbdN will do`,
      '# The client unit attaches the disk and keeps it through restarts of the gateway of up to 10 minutes; it is',
      '# deploy/keepgate-nbd@.service of Keepgate, which has to be installed on this machine too.',
      ...(encrypted ? tlsLines(tls) : []),
      'mkdir -p /etc/keepgate/nbd',
      `echo 'URI=${uri}' > /etc/keepgate/nbd/nbd0`,
      'systemctl enable --now keepgate-nbd@nbd0',
      `# Without systemd, in the foreground:  keepgate nbd-watch /dev/nbd0 '${uri}'`,
      '# Without Keepgate on this machine (apt-get install nbd-client), the disk fails when the gateway restarts:',
      `#   ${encrypted ? `${plain} -C 4${tlsOptions(tls)}` : plain}`,
    ],
    boot: ['# The unit was enabled above; it comes before the mounts that have _netdev.'],
    detach: ['systemctl disable --now keepgate-nbd@nbd0     # or: nbd-client -d /dev/nbd0'],
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

function iscsiWay(target: string, address: ListenAddress): Way {
  if (address.kind === 'unix') throw new GatewayError('config-invalid', 'iSCSI does not listen on a Unix socket');
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  const portal = `${host}:${address.port}`;
  const node = `iscsiadm -m node -T ${target} -p ${portal}`;
  const update = (name: string, value: string): string => `${node} -o update -n ${name} -v ${value}`;
  return {
    device: `/dev/disk/by-path/ip-${portal}-iscsi-${target}-lun-0`,
    attach: [
      'apt-get install open-iscsi        # Debian',
      `iscsiadm -m discovery -t sendtargets -p ${portal}`,
      '# Time-outs that survive a restart of the gateway: set them before the login.',
      update('node.session.timeo.replacement_timeout', '600'),
      update('node.conn[0].timeo.noop_out_interval', '60'),
      update('node.conn[0].timeo.noop_out_timeout', '600'),
      `echo 'ACTION=="add|change", SUBSYSTEM=="block", ENV{DEVTYPE}=="disk", ATTRS{vendor}=="KEEPGATE", ATTR{device/timeout}="600"' > /etc/udev/rules.d/60-keepgate.rules`,
      'udevadm control --reload',
      `${node} --login`,
    ],
    boot: [update('node.startup', 'automatic')],
    detach: [`${node} --logout`, `${node} -o delete`],
  };
}

function luksLines(volume: string, device: string): string[] {
  return [
    '# 2. Encrypt: the passphrase never leaves this machine. luksFormat destroys what is on the disk: once only.',
    `cryptsetup luksFormat --type luks2 --sector-size 4096 ${device}`,
    '# With --allow-discards freed space is given back to the gateway and the bucket, which then see which blocks are',
    '# free; leave it out to hide that, and drop "discard" below.',
    `cryptsetup open --allow-discards ${device} ${volume}`,
    '',
    '# 3. File system',
    `mkfs.ext4 /dev/mapper/${volume}             # once only`,
    `mkdir -p /mnt/${volume}`,
    `mount /dev/mapper/${volume} /mnt/${volume}`,
    'fstrim -v /mnt/' + volume + '              # now and then, with --allow-discards',
  ];
}

function bootLines(volume: string, way: Way): string[] {
  return [
    '# 4. After a reboot',
    ...way.boot,
    `echo '${volume} ${way.device} none luks,discard,_netdev,nofail' >> /etc/crypttab`,
    `echo '/dev/mapper/${volume} /mnt/${volume} ext4 defaults,_netdev,nofail 0 2' >> /etc/fstab`,
  ];
}
