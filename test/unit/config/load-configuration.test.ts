import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { GatewayError } from '../../../src/base/errors.js';
import { loadConfiguration } from '../../../src/config/load-configuration.js';
import type { ConfigurationSources } from '../../../src/config/load-configuration.js';
import { GIB, MIB } from '../../../src/base/units.js';

function load(content: string, rest: Partial<ConfigurationSources> = {}) {
  return loadConfiguration({
    file: { name: 'k.yaml', directory: '/etc/keepgate', content },
    environment: {},
    workingDirectory: '/home/u',
    ...rest,
  });
}

function refusal(act: () => unknown): GatewayError {
  try {
    act();
  } catch (error) {
    assert.ok(error instanceof GatewayError, String(error));
    return error;
  }
  return assert.fail('was accepted');
}

const good = `
dataDir: /srv/kg
keyFile: /etc/keepgate/key
store: { url: "s3://bucket/prefix", endpoint: "http://127.0.0.1:7480", forcePathStyle: true }
bandwidth: { upload: 5Mbit/s }
volumes:
  - name: disk0
    size: 100GiB
    buffer: { size: 256MiB }
    replicate: { interval: 2s }
`;
/** Appended to, so that only one thing is wrong. Its volume list comes last. */
const base = 'store: { url: "file:///s" }\n';
const volumes = 'volumes:\n  - name: a\n    size: 1GiB\n';

describe('a good configuration', () => {
  it('becomes bytes, milliseconds and absolute paths', () => {
    const configuration = load(good);
    assert.equal(configuration.demonstration, false);
    assert.equal(configuration.dataDir, '/srv/kg');
    assert.equal(configuration.api.tokenFile, '/srv/kg/api-token');
    assert.deepEqual(configuration.store, {
      url: 's3://bucket/prefix',
      endpoint: 'http://127.0.0.1:7480',
      region: 'us-east-1',
      forcePathStyle: true,
      fencing: 'auto',
      caFile: undefined,
      proxy: undefined,
      storageClass: undefined,
      serverSideEncryption: undefined,
      kmsKeyId: undefined,
      requestPayer: undefined,
      expectedBucketOwner: undefined,
    });
    assert.equal(configuration.bandwidth.upload, 625_000);
    const [volume] = configuration.volumes;
    assert.ok(volume);
    assert.equal(volume.sizeBytes, 100 * GIB);
    assert.equal(volume.bufferBytes, 256 * MIB);
    assert.equal(volume.intervalMs, 2000);
    assert.equal(volume.whenFull, 'track');
    assert.equal(volume.access, 'exclusive');
    assert.equal(volume.segmentBytes, 8 * MIB);
    assert.equal(volume.chap, undefined);
  });

  it('takes relative paths from where the file is', () => {
    assert.equal(load(`dataDir: data\n${base}${volumes}`).dataDir, '/etc/keepgate/data');
  });

  it('takes TLS, with paths from where the file is, and then listens anywhere', () => {
    const nbd = 'listen: ["0.0.0.0:10809"], tls: required, tlsCertificates: pki, tlsVerifyPeer: true, tlsPsk: psk';
    const users = 'volumes: [{ name: a, size: 1GiB, nbd: { users: [alice, bob] } }]';
    const configuration = load(`nbd: { ${nbd} }\n${base}${users}`);
    assert.deepEqual(configuration.nbd.tls, {
      mode: 'required',
      certificates: '/etc/keepgate/pki',
      verifyPeer: true,
      psk: '/etc/keepgate/psk',
    });
    assert.deepEqual(configuration.volumes[0]?.nbdUsers, ['alice', 'bob']);
    assert.deepEqual(configuration.warnings, []);
  });

  it('warns where clients without a key get in beside those with one', () => {
    const configuration = load(`nbd: { tls: on, tlsCertificates: pki, tlsPsk: psk }\n${base}${volumes}`);
    assert.match(configuration.warnings.join(), /nbd.tlsPsk: with tlsCertificates and without tlsVerifyPeer: true/);
  });

  it('gives Unix sockets the mode and owner that it says, and takes sockets of systemd by name', () => {
    const listen = 'listen: ["unix:/run/a", "127.0.0.1:1", "systemd:nbd"]';
    const configuration = load(`nbd: { ${listen}, socketMode: "0660", socketOwner: ":disk" }\n${base}${volumes}`);
    assert.deepEqual(configuration.nbd.listen, [
      { kind: 'unix', path: '/run/a', mode: 0o660, owner: ':disk' },
      { kind: 'tcp', host: '127.0.0.1', port: 1 },
      { kind: 'systemd', name: 'nbd' },
    ]);
  });

  it('reads off and on as YAML 1.2 does', () => {
    assert.doesNotThrow(() => load(`nbd: { tls: off }\n${base}${volumes}`));
  });
});

describe('no configuration at all', () => {
  it('is the demonstration, under the working directory', () => {
    const configuration = loadConfiguration({ environment: {}, workingDirectory: '/home/u' });
    assert.equal(configuration.demonstration, true);
    assert.equal(configuration.dataDir, '/home/u/keepgate-data');
    assert.equal(configuration.keyFile, '/home/u/keepgate-data/key');
    assert.equal(configuration.store?.url, 'file:///home/u/keepgate-data/store');
    assert.deepEqual(configuration.nbd.listen, [{ kind: 'tcp', host: '127.0.0.1', port: 10809 }]);
    assert.deepEqual(configuration.iscsi.listen, [{ kind: 'tcp', host: '127.0.0.1', port: 3260 }]);
    assert.deepEqual(configuration.api.listen, { kind: 'tcp', host: '127.0.0.1', port: 9470 });
    assert.deepEqual(
      configuration.volumes.map(({ name, sizeBytes }) => ({ name, sizeBytes })),
      [{ name: 'demo', sizeBytes: GIB }],
    );
  });

  it('stays the demonstration when environment and flags move its ports and directory', () => {
    const configuration = loadConfiguration({
      environment: { KEEPGATE_NBD_LISTEN: '127.0.0.1:0,unix:/tmp/k.sock', KEEPGATE_DATA_DIR: 'elsewhere' },
      flags: [{ key: 'dataDir', flag: '--data-dir', value: '/flag' }],
      workingDirectory: '/home/u',
    });
    assert.equal(configuration.demonstration, true);
    assert.equal(configuration.dataDir, '/flag');
    assert.equal(configuration.nbd.listen.length, 2);
  });
});

describe('the environment', () => {
  it('wins over the file, for switches, numbers with units and lists', () => {
    const configuration = load(good, {
      environment: {
        KEEPGATE_STORE_FORCE_PATH_STYLE: 'false',
        KEEPGATE_BANDWIDTH_UPLOAD: 'unlimited',
        KEEPGATE_NBD_LISTEN: '127.0.0.1:1, [::1]:2',
        KEEPGATE_DATA_DIR: 'data',
      },
    });
    assert.equal(configuration.store?.forcePathStyle, false);
    assert.equal(configuration.bandwidth.upload, Infinity);
    assert.deepEqual(configuration.nbd.listen, [
      { kind: 'tcp', host: '127.0.0.1', port: 1 },
      { kind: 'tcp', host: '::1', port: 2 },
    ]);
    assert.equal(configuration.dataDir, '/home/u/data');
  });

  it('gives volumes as JSON', () => {
    const configuration = loadConfiguration({
      environment: { KEEPGATE_VOLUMES: '[{"name":"a","size":"2GiB","replicate":{"enabled":false}}]' },
      workingDirectory: '/home/u',
    });
    assert.equal(configuration.demonstration, false);
    assert.equal(configuration.volumes[0]?.sizeBytes, 2 * GIB);
  });

  it('names a variable that no key has, and goes on', () => {
    const { warnings } = load(good, { environment: { KEEPGATE_PORT: 'tcp://10.0.0.1:1' } });
    assert.deepEqual(warnings, ['environment KEEPGATE_PORT is no configuration key and was ignored']);
  });

  const wrong: readonly (readonly [string, Record<string, string>, string])[] = [
    [
      'a switch',
      { KEEPGATE_NBD_ENABLED: 'yes' },
      'environment KEEPGATE_NBD_ENABLED: nbd.enabled: "yes" is not a switch; write true or false',
    ],
    [
      'one of a list',
      { KEEPGATE_NBD_LISTEN: '127.0.0.1' },
      'environment KEEPGATE_NBD_LISTEN: nbd.listen: "127.0.0.1" is not a listen address; write HOST:PORT such as 127.0.0.1:10809 or [::1]:10809, or unix:/PATH',
    ],
    [
      'volumes that are not JSON',
      { KEEPGATE_VOLUMES: 'disk0' },
      'environment KEEPGATE_VOLUMES: volumes: "disk0" is not a list of volumes; write - name: disk0',
    ],
    [
      'a key inside the volumes',
      { KEEPGATE_VOLUMES: '[{"name":"a","sise":"1GiB","size":"1GiB"}]' },
      'environment KEEPGATE_VOLUMES: volumes[0].sise: unknown key; did you mean size?',
    ],
    [
      'an insecure listener',
      { KEEPGATE_ISCSI_LISTEN: '0.0.0.0:3260' },
      'environment KEEPGATE_ISCSI_LISTEN: iscsi.listen[0]: "0.0.0.0:3260" would offer iSCSI without encryption to the network; listen on loopback or a Unix socket, or set trustedNetwork: true',
    ],
  ];
  for (const [what, environment, line] of wrong) {
    it(`refuses ${what} with one line`, () => {
      assert.equal(refusal(() => load(good, { environment })).message, line);
    });
  }
});

describe('a wrong configuration gets one line that says what, where, and what would be right', () => {
  const volume = (rest: string) => `${base}volumes:\n  - name: a\n    size: 1GiB\n    ${rest}\n`;
  const table: readonly (readonly [string, string, string])[] = [
    ['an unknown key', `dataDri: /x\n${base}${volumes}`, 'k.yaml:1:1: dataDri: unknown key; did you mean dataDir?'],
    [
      'an unknown key in a group',
      `nbd:\n  listne: []\n${base}${volumes}`,
      'k.yaml:2:3: nbd.listne: unknown key; did you mean listen?',
    ],
    [
      'a key like nothing known',
      `api: { qqqqqqqq: 1 }\n${base}${volumes}`,
      'k.yaml:1:8: api.qqqqqqqq: unknown key; known here are listen, tokenFile',
    ],
    [
      'an unknown key of a volume',
      volume('acces: shared'),
      'k.yaml:5:5: volumes[0].acces: unknown key; did you mean access?',
    ],
    [
      'a key of the object prototype',
      `constructor: 1\n${base}${volumes}`,
      'k.yaml:1:1: constructor: unknown key; known here are dataDir, keyFile, trustedNetwork, nbd, iscsi, api, store, bandwidth, volumes',
    ],
    [
      'a size without sense',
      `${base}volumes:\n  - name: a\n    size: big\n`,
      'k.yaml:4:5: volumes[0].size: "big" is not a size; write a number with KiB, MiB, GiB or TiB, such as 100GiB',
    ],
    [
      'a size between blocks',
      `${base}volumes:\n  - { name: a, size: 100GB }\n`,
      'k.yaml:3:16: volumes[0].size: "100GB" is not a multiple of 4 KiB; the nearest is 97656252KiB',
    ],
    [
      'a size that is too small',
      `${base}volumes:\n  - { name: a, size: 4KiB }\n`,
      'k.yaml:3:16: volumes[0].size: "4KiB" is out of range; write 1 MiB to 16 TiB',
    ],
    [
      'a missing size',
      `${base}volumes:\n  - name: a\n`,
      'k.yaml:3:5: volumes[0].size: is missing; write for example 100GiB',
    ],
    [
      'a wrong name',
      `${base}volumes:\n  - { name: Disk_0, size: 1GiB }\n`,
      'k.yaml:3:7: volumes[0].name: "Disk_0" is not a volume name; write 1 to 63 of a-z, 0-9 and -, beginning with a letter or digit',
    ],
    [
      'a name given twice',
      `${base}volumes:\n  - { name: a, size: 1GiB }\n  - { name: a, size: 1GiB }\n`,
      'k.yaml:4:7: volumes[1].name: "a" is the name of volumes[0] too',
    ],
    [
      'a buffer that is too small',
      volume('buffer: { size: 1MiB }'),
      'k.yaml:5:15: volumes[0].buffer.size: "1MiB" is out of range; write 64 MiB to 1 TiB',
    ],
    [
      'a rate without unit',
      `bandwidth: { upload: 5 }\n${base}${volumes}`,
      'k.yaml:1:14: bandwidth.upload: 5 is not a rate; write unlimited, auto, or a rate such as 20MB/s or 5Mbit/s',
    ],
    [
      'a duration without unit',
      volume('replicate: { interval: 10 }'),
      'k.yaml:5:18: volumes[0].replicate.interval: 10 is not a duration; write a number with ms, s, min, h or d, such as 10s',
    ],
    [
      'a physical block that is none',
      volume('iscsi: { physicalBlock: 2KiB }'),
      'k.yaml:5:14: volumes[0].iscsi.physicalBlock: "2KiB" is not a physical block; write 4KiB, or 512B for initiators that refuse it',
    ],
    [
      'a word that is no choice',
      volume('access: both'),
      'k.yaml:5:5: volumes[0].access: "both" is not one of exclusive, shared',
    ],
    [
      'a mapping for a value',
      `dataDir: { a: 1 }\n${base}${volumes}`,
      'k.yaml:1:1: dataDir: is a single value, not a mapping of keys',
    ],
    [
      'a value for a mapping',
      `nbd: true\n${base}${volumes}`,
      'k.yaml:1:1: nbd: true is not a mapping; its keys are enabled, listen, socketMode, socketOwner, tls, tlsCertificates, tlsVerifyPeer, tlsPsk',
    ],
    [
      'a port that does not exist',
      `nbd: { listen: ["127.0.0.1:99999"] }\n${base}${volumes}`,
      'k.yaml:1:8: nbd.listen: "127.0.0.1:99999" is not a listen address; write HOST:PORT such as 127.0.0.1:10809 or [::1]:10809, or unix:/PATH',
    ],
    [
      'a relative socket',
      `nbd: { listen: ["unix:nbd.sock"] }\n${base}${volumes}`,
      'k.yaml:1:8: nbd.listen: "unix:nbd.sock" is not a socket path; write unix: and an absolute path',
    ],
    [
      'a store of another kind',
      `store: { url: "ftp://x" }\n${volumes}`,
      'k.yaml:1:10: store.url: "ftp://x" is not a store; write s3://BUCKET/PREFIX or file:///DIRECTORY',
    ],
    [
      'no store',
      `dataDir: /x\n${volumes}`,
      'k.yaml:1:1: store.url: is missing; write s3://BUCKET/PREFIX or file:///DIRECTORY, or replicate: { enabled: false }',
    ],
    ['no volumes', base, 'k.yaml:1:1: volumes: is empty; write - name: disk0 and size: 100GiB below it'],
    [
      'half of CHAP',
      volume('iscsi: { chap: { user: u } }'),
      'k.yaml:5:14: volumes[0].iscsi.chap: needs both user and secretFile',
    ],
    [
      'half of CHAP for discovery',
      `iscsi: { discoveryChap: { user: u } }\n${base}${volumes}`,
      'k.yaml:1:10: iscsi.discoveryChap: needs both user and secretFile',
    ],
    [
      'a key written twice',
      `dataDir: /a\ndataDir: /b\n${base}${volumes}`,
      'k.yaml:2:1: this is not YAML: Map keys must be unique',
    ],
    [
      'a list',
      '- a\n',
      'k.yaml:1:1: this is not a mapping of keys to values; write for example dataDir: /var/lib/keepgate',
    ],
    [
      'NBD on the network',
      `nbd: { listen: ["0.0.0.0:10809"] }\n${base}${volumes}`,
      'k.yaml:1:17: nbd.listen[0]: "0.0.0.0:10809" would offer NBD without TLS to the network; listen on loopback or a Unix socket, set nbd.tls: required, or set trustedNetwork: true',
    ],
    [
      'the API on the network',
      `api: { listen: "[::]:9470" }\n${base}${volumes}`,
      'k.yaml:1:8: api.listen: "[::]:9470" would offer the API and its token without TLS to the network; listen on loopback or a Unix socket, or set trustedNetwork: true',
    ],
    [
      'TLS',
      `nbd: { tls: required }\n${base}${volumes}`,
      'k.yaml:1:8: nbd.tls: "required" needs tlsCertificates: DIRECTORY or tlsPsk: FILE',
    ],
    [
      'a mode that YAML reads as another number',
      `nbd: { socketMode: 0660 }\n${base}${volumes}`,
      'k.yaml:1:8: nbd.socketMode: 660 is not a mode; write three octal digits in quotes, such as "0660"',
    ],
    [
      'an owner that is none',
      `nbd: { socketOwner: "a:b:c" }\n${base}${volumes}`,
      'k.yaml:1:8: nbd.socketOwner: "a:b:c" is not an owner; write USER, USER:GROUP or ":GROUP"',
    ],
    [
      'a socket of systemd without a name',
      `nbd: { listen: ["systemd:"] }\n${base}${volumes}`,
      'k.yaml:1:8: nbd.listen: "systemd:" names no socket; write systemd: and the FileDescriptorName= of its unit',
    ],
    [
      'a socket of systemd for iSCSI',
      `iscsi: { listen: ["systemd:iscsi"] }\n${base}${volumes}`,
      'k.yaml:1:10: iscsi.listen: "systemd:iscsi" is not a listen address; write HOST:PORT such as 127.0.0.1:10809 or [::1]:10809, or unix:/PATH',
    ],
    [
      'TLS that is no mode',
      `nbd: { tls: always }\n${base}${volumes}`,
      'k.yaml:1:8: nbd.tls: "always" is not known; write off, on or required',
    ],
    [
      'keys for TLS that is off',
      `nbd: { tlsPsk: psk }\n${base}${volumes}`,
      'k.yaml:1:8: nbd.tlsPsk: has no effect with tls: off; write tls: on or tls: required',
    ],
    [
      'clients’ certificates without an authority',
      `nbd: { tls: on, tlsPsk: psk, tlsVerifyPeer: true }\n${base}${volumes}`,
      'k.yaml:1:30: nbd.tlsVerifyPeer: needs tlsCertificates: DIRECTORY, whose ca-cert.pem signs the certificates of clients',
    ],
    [
      'users whom nobody can tell',
      `nbd: { tls: on, tlsCertificates: pki }\n${base}volumes: [{ name: a, size: 1GiB, nbd: { users: [alice] } }]\n`,
      'k.yaml:3:41: volumes[0].nbd.users: needs TLS that tells who a client is: nbd.tls with tlsPsk: FILE, or with tlsCertificates and tlsVerifyPeer: true',
    ],
    [
      'NBD for the network that need not be TLS',
      `nbd: { listen: ["0.0.0.0:10809"], tls: on, tlsPsk: psk }\n${base}${volumes}`,
      'k.yaml:1:17: nbd.listen[0]: "0.0.0.0:10809" would offer NBD without TLS to the network; listen on loopback or a Unix socket, set nbd.tls: required, or set trustedNetwork: true',
    ],
    [
      'a storage class that cannot be read',
      `store: { url: "s3://b-b", storageClass: DEEP_ARCHIVE }\n${volumes}`,
      'k.yaml:1:27: store.storageClass: "DEEP_ARCHIVE" cannot be read at once; write for example STANDARD_IA or GLACIER_IR',
    ],
    [
      'a key without its kind of encryption',
      `store: { url: "s3://b-b", kmsKeyId: abc }\n${volumes}`,
      'k.yaml:1:27: store.kmsKeyId: needs serverSideEncryption: aws:kms',
    ],
    [
      'an owner that is no account',
      `store: { url: "s3://b-b", expectedBucketOwner: me }\n${volumes}`,
      'k.yaml:1:27: store.expectedBucketOwner: "me" is not an account; write its 12 digits in quotes',
    ],
    [
      'a window without its times',
      `bandwidth:\n  schedule: [{ days: [mon], upload: 1MB/s }]\n${base}${volumes}`,
      'k.yaml:2:3: bandwidth.schedule: window 1: from: nothing is not a time of day; write "08:00", up to "24:00"',
    ],
    [
      'snapshots',
      volume('snapshots: { every: 1s, keep: 0 }'),
      'k.yaml:5:18: volumes[0].snapshots.every: "1s" is out of range; write 1min to 3650d\nk.yaml:5:29: volumes[0].snapshots.keep: 0 is no number of snapshots; write a whole number from 1 to 9000',
    ],
    [
      'compaction',
      volume('compaction: sometimes'),
      'k.yaml:5:5: volumes[0].compaction: "sometimes" is not known; write on or off',
    ],
  ];
  for (const [what, content, line] of table) {
    it(what, () => {
      assert.equal(refusal(() => load(content)).message, line);
    });
  }

  it('reports the code of the first problem', () => {
    assert.equal(refusal(() => load(`nbd: { listen: ["0.0.0.0:1"] }\n${base}${volumes}`)).code, 'insecure-listener');
    assert.equal(refusal(() => load('a: b\n')).code, 'config-invalid');
  });

  it('names all problems at once', () => {
    assert.equal(refusal(() => load('a: 1\nb: 2\nvolumes: [{ name: a, size: 1 }]\n')).message.split('\n').length, 3);
  });

  it('adds volumes of the data directory, behind its own, and says where one of them is wrong', () => {
    const added = (name: string, more = '') => ({
      name: `/srv/volumes.d/${name}.json`,
      content: `{ "name": "${name}", "size": 1048576, "replicate": { "enabled": false }${more} }`,
    });
    const { volumes: all } = load(base + volumes, { added: [added('b'), added('a')] });
    assert.deepEqual(
      all.map(({ name, sizeBytes, replicate }) => [name, sizeBytes, replicate]),
      [
        ['a', GIB, true],
        ['b', MIB, false],
      ],
    );
    const { message } = refusal(() => load(base + volumes, { added: [added('b', ', "sise": 1')] }));
    assert.match(message, /^\/srv\/volumes\.d\/b\.json:1:\d+: volumes\[1\]\.sise: /);
  });

  it('allows the network where it is trusted', () => {
    const configuration = load(`trustedNetwork: true\nnbd: { listen: ["0.0.0.0:10809"] }\n${base}${volumes}`);
    assert.equal(configuration.trustedNetwork, true);
  });
});
