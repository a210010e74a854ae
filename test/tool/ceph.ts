/**
 * A real distributed object store as the S3 endpoint: one-node Ceph (monitor, memory-backed OSD) with its RADOS
 * Gateway, on loopback, on ports that the system chose. Every daemon is a child in the foreground, ended by its id.
 *
 * Of this version (16.2): PUT If-None-Match:* is honoured; bucket names have three characters or more.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isUnpacked, packagedFile, requiredTool, type ToolName } from './clients.js';
import { freePorts } from './free-port.js';
import { eventually, run, startService, type Service } from './process.js';

export const cephTools = [
  ...(['ceph-mon', 'ceph-osd', 'radosgw', 'radosgw-admin'] as const),
  ...(['ceph', 'ceph-authtool', 'monmaptool'] as const),
] as const;

export interface CephUser {
  readonly accessKey: string;
  readonly secretKey: string;
  /** The variables from which the AWS SDK's default chain takes its credentials. */
  readonly env: Readonly<Record<string, string>>;
}

/** The owner of its buckets, and where they are. */
export interface Ceph extends CephUser {
  readonly endpoint: string;
  /** Makes another user, who owns nothing and may do what the policies of others' buckets allow; its credentials. */
  addUser(id: string): Promise<CephUser>;
  /** Stops answering without closing anything, as a network that drops packets does; `resume` ends it. */
  pause(): void;
  resume(): void;
  /** The S3 endpoint refuses connections until it is started again, at the same address; the objects stay. */
  stopEndpoint(): Promise<void>;
  startEndpoint(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Starts one. A daemon that ends while the others come up (the OSD's first command can overtake the monitor's map, and
 * another program can take a port that was free a moment ago) is tried again; on a loaded machine that takes several tries.
 */
export async function startCeph(): Promise<Ceph> {
  for (let attemptsLeft = 9; ; attemptsLeft -= 1) {
    try {
      return await startOnce();
    } catch (error) {
      if (attemptsLeft === 0) throw error;
    }
  }
}

async function startOnce(): Promise<Ceph> {
  const folder = await mkdtemp(join(tmpdir(), 'keepgate-ceph-'));
  const [monitorPort = 0, endpointPort = 0] = await freePorts(2);
  const services: Service[] = [];
  const stopped = new Set<Service>();
  const conf = join(folder, 'ceph.conf');
  const start = (name: ToolName, args: readonly string[]): Service => {
    const service = startService(requiredTool(name), ['-f', '-c', conf, ...args]);
    services.push(service);
    return service;
  };
  const stop = async (): Promise<void> => {
    for (const service of services.reverse()) await service.stop('SIGKILL'); // Nothing of it is kept.
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await prepare(folder, conf, monitorPort, endpointPort);
    start('ceph-mon', ['-i', 'a', '--public-addr', `v1:127.0.0.1:${monitorPort}`]);
    await run(requiredTool('ceph'), ['-c', conf, 'osd', 'create']);
    await run(requiredTool('ceph-osd'), ['-c', conf, '-i', '0', '--mkfs']);
    start('ceph-osd', ['-i', '0']);
    const endpoint = `http://127.0.0.1:${endpointPort}`;
    const startEndpoint = async (): Promise<Service> => {
      const service = start('radosgw', ['-n', 'client.rgw.a']);
      await eventually('Ceph answers', async () => {
        const ended = services.find((each) => !each.isRunning() && !stopped.has(each));
        if (ended !== undefined) throw new Error(`a daemon ended: ${ended.output()}`);
        return answers(endpoint);
      });
      return service;
    };
    let gateway = await startEndpoint();
    const addUser = async (id: string): Promise<CephUser> => {
      const [accessKey, secretKey] = [id, `${id}secret`];
      const keys = [`--access-key=${accessKey}`, `--secret-key=${secretKey}`];
      const user = ['user', 'create', `--uid=${id}`, `--display-name=${id}`, ...keys];
      await run(requiredTool('radosgw-admin'), ['-c', conf, '-n', 'client.rgw.a', ...user]);
      const env = { AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey, AWS_REGION: 'us-east-1' };
      return { accessKey, secretKey, env };
    };
    return {
      endpoint,
      ...(await addUser('test')),
      addUser,
      pause: () => gateway.signal('SIGSTOP'),
      resume: () => gateway.signal('SIGCONT'),
      stopEndpoint: async () => {
        stopped.add(gateway);
        await gateway.stop('SIGKILL');
      },
      startEndpoint: async () => {
        gateway = await startEndpoint();
      },
      stop,
    };
  } catch (error) {
    const outputs = services.map((service) => service.output().slice(-2000)).join('\n');
    await stop();
    throw new Error(`Ceph did not start\n${outputs}`, { cause: error });
  }
}

async function answers(endpoint: string): Promise<boolean> {
  return fetch(endpoint).then(
    (response) => response.ok,
    () => false,
  );
}

async function prepare(folder: string, conf: string, monitorPort: number, endpointPort: number): Promise<void> {
  for (const name of ['mon', 'osd0', 'rgw', 'run']) await mkdir(join(folder, name));
  const id = randomUUID();
  await writeFile(conf, configuration(folder, id, monitorPort, endpointPort));
  const keyring = join(folder, 'keyring');
  const map = join(folder, 'monmap');
  const authtool = requiredTool('ceph-authtool');
  await run(authtool, ['--create-keyring', keyring, '--gen-key', '-n', 'mon.', '--cap', 'mon', 'allow *']);
  const caps = ['mon', 'osd'].flatMap((name) => ['--cap', name, 'allow *']);
  await run(authtool, [keyring, '--gen-key', '-n', 'client.admin', ...caps]);
  const address = `[v1:127.0.0.1:${monitorPort}]`;
  await run(requiredTool('monmaptool'), ['--create', '--addv', 'a', address, '--fsid', id, map]);
  const args = ['-c', conf, '--mkfs', '-i', 'a', '--monmap', map, '--keyring', keyring];
  await run(requiredTool('ceph-mon'), args);
}

function configuration(folder: string, id: string, monitorPort: number, endpointPort: number): string {
  const libraries = '/usr/lib/x86_64-linux-gnu';
  const unpacked = isUnpacked(requiredTool('ceph-osd'))
    ? [
        `osd class dir = ${packagedFile(`${libraries}/rados-classes`) ?? ''}`,
        `erasure code dir = ${packagedFile(`${libraries}/ceph/erasure-code`) ?? ''}`,
        `plugin dir = ${packagedFile(`${libraries}/ceph`) ?? ''}`,
      ]
    : [];
  return `[global]
fsid = ${id}
mon host = [v1:127.0.0.1:${monitorPort}]
mon initial members = a
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
mon warn on pool no redundancy = false
osd crush chooseleaf type = 0
osd pool default pg num = 8
osd pool default pgp num = 8
mon max pg per osd = 1000
mon data avail crit = 0
mon data avail warn = 0
ms bind msgr2 = false
run dir = ${folder}/run
admin socket = ${folder}/run/$name.$pid.asok
log file = ${folder}/$name.log
mon data = ${folder}/mon
osd data = ${folder}/osd$id
keyring = ${folder}/keyring
osd objectstore = memstore
memstore device bytes = 6442450944
${unpacked.join('\n')}
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:${endpointPort}
rgw data = ${folder}/rgw
`;
}
