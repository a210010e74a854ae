/** Parts of the guests' scripts: how a volume is attached there, over both protocols, and encrypted. */
import { targetPrefix, type TestGateway } from '../tool/gateway.js';

/** The host's loopback, seen from a guest. */
const host = '10.0.2.2';

/** Attach and detach as functions of the script; `$disk` is the block device. */
export function attachNbd(gateway: TestGateway, volume: string): string {
  return `
attach() { nbd-client -b 512 -N ${volume} ${host} ${gateway.nbdPort} /dev/nbd0 && disk=/dev/nbd0; }
detach() { nbd-client -d /dev/nbd0; }
`;
}

export interface IscsiSettings {
  /** Of the node record: node.session.… and node.conn[0].… */
  readonly record?: Readonly<Record<string, string>>;
}

/** Both sides prove themselves, by SHA-256 alone. */
export function chapRecord(secret: string, mutualSecret: string): Readonly<Record<string, string>> {
  return {
    'node.session.auth.authmethod': 'CHAP',
    'node.session.auth.chap_algs': 'SHA256',
    'node.session.auth.username': 'guest',
    'node.session.auth.password': secret,
    'node.session.auth.username_in': 'gate',
    'node.session.auth.password_in': mutualSecret,
  };
}

/** The node record is made by hand: discovery would give the address that the gateway has on the host. */
export function attachIscsi(gateway: TestGateway, volume: string, { record = {} }: IscsiSettings = {}): string {
  const portal = `${host}:${gateway.iscsiPort}`;
  const node = `iscsiadm -m node -T ${targetPrefix}:${volume} -p ${portal}`;
  const updates = Object.entries(record).map(
    ([name, value]) => `${node} -o update -n '${name}' -v '${value}' || return 1`,
  );
  return `
iscsid -c /etc/iscsi/iscsid.conf || exit 90
attach() {
  ${node} -o new >/dev/null || return 1
  ${updates.join('\n  ')}
  ${node} --login || return 1
  i=0; while [ $i -lt 100 ] && [ ! -b /dev/sda ]; do sleep 0.1; i=$((i+1)); done
  [ -b /dev/sda ] && disk=/dev/sda
}
detach() { ${node} --logout; }
`;
}

/** Makes one disk of all that are there, which uses each in turn. */
export function joinPaths(count: number): string {
  const disks = 'abcdefgh'.slice(0, count).split('');
  return `
joinPaths() {
  i=0; while [ $i -lt 200 ] && ! [ ${disks.map((letter) => `-b /dev/sd${letter}`).join(' -a ')} ]; do sleep 0.1; i=$((i+1)); done
  dmsetup create paths --table "0 $(blockdev --getsz /dev/sda) multipath 1 queue_if_no_path 0 1 1 round-robin 0 ${count} 1 ${disks.map((letter) => `/dev/sd${letter} 4`).join(' ')}" || return 1
  dmsetup mknodes
  disk=/dev/mapper/paths
}
`;
}

/** The cheapest settings that make a real LUKS2 volume: the key derivation is not what is tried here. */
export const luksOptions = '--pbkdf pbkdf2 --pbkdf-force-iterations 1000 --batch-mode --key-file /tmp/passphrase';
