/** Rules that concern several keys at once; a single key's rule is its check in schema.ts. */
import type { ErrorCode } from '../base/errors.js';
import type { Configuration } from './configuration.js';
import { formatListenAddress, isLocal } from './listen-address.js';
import type { ListenAddress } from './listen-address.js';
import type { gatewaySettings, volumeSettings } from './schema.js';
import type { Checked } from './setting.js';

type Report = (path: string, text: string, code?: ErrorCode) => void;

interface Written {
  readonly gateway: Checked<typeof gatewaySettings>;
  readonly volumes: readonly Checked<typeof volumeSettings>[];
}

export function checkRules(configuration: Configuration, written: Written, report: Report): void {
  checkListeners(configuration, report);
  checkTls(configuration, report);
  checkVolumeRules(configuration, written.volumes, report);
  const { user, secretFile } = written.gateway.iscsi.discoveryChap;
  if ((user === undefined) !== (secretFile === undefined)) {
    report('iscsi.discoveryChap', 'needs both user and secretFile');
  }
  const { kmsKeyId, serverSideEncryption } = written.gateway.store;
  if (kmsKeyId !== undefined && !(serverSideEncryption ?? '').startsWith('aws:kms')) {
    report('store.kmsKeyId', 'needs serverSideEncryption: aws:kms');
  }
}

/** What concerns volumes, whether all of a configuration or one that is added to it. */
export function checkVolumeRules(
  configuration: Configuration,
  written: readonly Checked<typeof volumeSettings>[],
  report: Report,
): void {
  checkUsers(configuration, report);
  checkVolumes(configuration, written, report);
  if (configuration.store === undefined && configuration.volumes.some((volume) => volume.replicate)) {
    report('store.url', 'is missing; write s3://BUCKET/PREFIX or file:///DIRECTORY, or replicate: { enabled: false }');
  }
}

/** Without TLS and authentication, only this machine may reach a listener (docs/threat-model.md). */
function checkListeners(configuration: Configuration, report: Report): void {
  const { nbd, iscsi, api, trustedNetwork } = configuration;
  const refuse = (path: string, address: ListenAddress, what: string): void => {
    if (trustedNetwork || isLocal(address)) return;
    report(path, insecureListener(path, address, what), 'insecure-listener');
  };
  if (nbd.enabled) {
    if (nbd.listen.length === 0) report('nbd.listen', 'is empty; write an address, or nbd: { enabled: false }');
    if (nbd.tls.mode !== 'required') {
      nbd.listen.forEach((address, index) => {
        // Where systemd's sockets listen is known when they are handed over: gateway.ts refuses them then.
        if (address.kind !== 'systemd') refuse(`nbd.listen[${index}]`, address, 'NBD without TLS');
      });
    }
  }
  if (iscsi.enabled) {
    if (iscsi.listen.length === 0) report('iscsi.listen', 'is empty; write an address, or iscsi: { enabled: false }');
    iscsi.listen.forEach((address, index) => refuse(`iscsi.listen[${index}]`, address, 'iSCSI without encryption'));
  }
  refuse('api.listen', api.listen, 'the API and its token without TLS');
}

export function insecureListener(path: string, address: ListenAddress, what: string): string {
  const tls = path.startsWith('nbd.') ? 'set nbd.tls: required, ' : '';
  return `"${formatListenAddress(address)}" would offer ${what} to the network; listen on loopback or a Unix socket, ${tls}or set trustedNetwork: true`;
}

function checkTls({ nbd }: Configuration, report: Report): void {
  const { mode, certificates, verifyPeer, psk } = nbd.tls;
  if (mode === 'off') {
    const said = Object.entries({ tlsCertificates: certificates, tlsPsk: psk, tlsVerifyPeer: verifyPeer || undefined });
    for (const [key, value] of said) {
      if (value !== undefined) report(`nbd.${key}`, 'has no effect with tls: off; write tls: on or tls: required');
    }
  } else if (certificates === undefined && psk === undefined) {
    report('nbd.tls', `"${mode}" needs tlsCertificates: DIRECTORY or tlsPsk: FILE`);
  } else if (verifyPeer && certificates === undefined) {
    report(
      'nbd.tlsVerifyPeer',
      'needs tlsCertificates: DIRECTORY, whose ca-cert.pem signs the certificates of clients',
    );
  }
}

function checkUsers({ nbd, volumes }: Configuration, report: Report): void {
  const { mode, verifyPeer, psk } = nbd.tls;
  volumes.forEach(({ nbdUsers }, index) => {
    if (nbdUsers.length === 0 || (mode !== 'off' && (psk !== undefined || verifyPeer))) return;
    report(
      `volumes[${index}].nbd.users`,
      'needs TLS that tells who a client is: nbd.tls with tlsPsk: FILE, or with tlsCertificates and tlsVerifyPeer: true',
    );
  });
}

function checkVolumes(
  configuration: Configuration,
  written: readonly Checked<typeof volumeSettings>[],
  report: Report,
): void {
  if (configuration.volumes.length === 0) report('volumes', 'is empty; write - name: disk0 and size: 100GiB below it');
  const seen = new Map<string, number>();
  configuration.volumes.forEach((volume, index) => {
    const before = seen.get(volume.name);
    if (before !== undefined)
      report(`volumes[${index}].name`, `"${volume.name}" is the name of volumes[${before}] too`);
    seen.set(volume.name, index);
  });
  written.forEach(({ iscsi, replicate, snapshots }, index) => {
    if (snapshots.every !== undefined && !replicate.enabled)
      report(`volumes[${index}].snapshots.every`, 'needs replicate: { enabled: true }: snapshots lie in the bucket');
    const { user, secretFile, mutualUser, mutualSecretFile } = iscsi.chap;
    const path = `volumes[${index}].iscsi.chap`;
    if ((user === undefined) !== (secretFile === undefined)) report(path, 'needs both user and secretFile');
    if ((mutualUser === undefined) !== (mutualSecretFile === undefined)) {
      report(path, 'needs both mutualUser and mutualSecretFile');
    }
    if (mutualUser !== undefined && user === undefined) report(path, 'needs user and secretFile for mutual CHAP');
  });
}
