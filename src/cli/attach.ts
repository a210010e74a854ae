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
  const [address] = options.listen;
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

function nbdWay({ name, nbdUsers }: VolumeConfiguration, address: ListenAddress, tls: TlsConfiguration): Way {
  const where = address.kind === 'unix' ? `-unix ${address.path}` : `${address.host} ${address.port}`;
  const connect = `nbd-client ${where} /dev/nbd0 -N ${name} -b 512`;
  if (tls.mode === 'required' || nbdUsers.length > 0) return nbdTlsWay(`${connect} -C 4${tlsOptions(tls)}`, tls);
  const uri = formatNbdUri(address, name);
  return {
    device: '/dev/nbd0',
    attach: [
      'modprobe nbd                      # any free /dev/nbdN will do',
      '# The client unit attaches the disk and keeps it through restarts of the gateway of up to 10 minutes; it is',
      '# deploy/keepgate-nbd@.service of Keepgate, which has to be installed on this machine too.',
      'mkdir -p /etc/keepgate/nbd',
      `echo 'URI=${uri}' > /etc/keepgate/nbd/nbd0`,
      'systemctl enable --now keepgate-nbd@nbd0',
      `# Without systemd, in the foreground:  keepgate nbd-watch /dev/nbd0 '${uri}'`,
      '# Without Keepgate on this machine (apt-get install nbd-client), the disk fails when the gateway restarts:',
      `#   ${connect}`,
    ],
    boot: ['# The unit was enabled above; it comes before the mounts that have _netdev.'],
    detach: ['systemctl disable --now keepgate-nbd@nbd0     # or: nbd-client -d /dev/nbd0'],
  };
}

/** The kernel has no TLS: nbd-client stays between, and the disk does not survive a restart. */
function nbdTlsWay(connect: string, tls: TlsConfiguration): Way {
  return {
    device: '/dev/nbd0',
    attach: [
      'apt-get install nbd-client        # Debian; any free /dev/nbdN will do',
      'modprobe nbd',
      ...tlsLines(tls),
      connect,
      '# Over TLS the disk fails when the gateway restarts; over iSCSI it survives a restart of 10 minutes.',
    ],
    boot: [`# Attach before the mount, for example from a unit of your own:  ${connect}`],
    detach: ['nbd-client -d /dev/nbd0'],
  };
}

/** Debian's nbd-client 3.24 does not take the -F of its own help. */
function tlsOptions({ verifyPeer }: TlsConfiguration): string {
  const own = verifyPeer ? ' -certfile client-cert.pem -keyfile client-key.pem' : '';
  return ` -enable-tls -cacertfile ca-cert.pem${own}`;
}

function tlsLines({ certificates, verifyPeer }: TlsConfiguration): readonly string[] {
  if (certificates === undefined) {
    return ['# nbd-client knows no pre-shared keys: give the gateway certificates too (nbd.tlsCertificates) for it.'];
  }
  const needed = verifyPeer ? 'ca-cert.pem, client-cert.pem and client-key.pem' : 'ca-cert.pem';
  return [`# Over TLS, with ${needed} of docs/operations.md; HOST as the gateway's certificate names it.`];
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
