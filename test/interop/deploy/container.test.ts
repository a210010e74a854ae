/**
 * The image, the compose file and the chart, as far as they can be looked at without a container engine, Kubernetes or Helm:
 * what they name is there, what they configure is accepted, and nothing has more rights than it says.
 */
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';
import { loadConfiguration } from '../../../src/config/load-configuration.js';
import { SystemRandom } from '../../../src/platform/system-random.js';
import { loadMasterKey } from '../../../src/gateway/identity.js';
import { requiredTool } from '../../tool/clients.js';
import { attempt } from '../../tool/process.js';
import { suite } from '../../tool/suite.js';
import { projectDirectory } from '../../unit/docs/page.js';
import { ChartTemplates } from './chart-template.js';

const deploy = (name: string): string => join(projectDirectory, 'deploy', name);
const read = (name: string): string => readFileSync(deploy(name), 'utf8');

describe('the Containerfile', () => {
  const instructions = read('Containerfile')
    .replaceAll(/\\\n/g, ' ')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [name = '', ...rest] = line.trim().split(/\s+/);
      return { name, rest };
    });
  const known = 'FROM WORKDIR COPY RUN USER VOLUME EXPOSE STOPSIGNAL HEALTHCHECK ENTRYPOINT CMD'.split(' ');

  it('builds in one stage and runs in another, unprivileged', () => {
    for (const { name } of instructions) assert.ok(known.includes(name), name);
    assert.equal(instructions.filter(({ name }) => name === 'FROM').length, 2);
    const lastFrom = instructions.findLastIndex(({ name }) => name === 'FROM');
    const users = instructions.slice(lastFrom).filter(({ name }) => name === 'USER');
    assert.deepEqual(users, [{ name: 'USER', rest: ['10001:10001'] }]);
    // Nothing runs behind it as somebody else.
    const at = instructions.findIndex(({ name }) => name === 'USER');
    assert.ok(instructions.slice(at).every(({ name }) => name !== 'RUN' && name !== 'COPY'));
  });

  it('copies what is there, and starts and asks what the program has', () => {
    for (const { name, rest } of instructions) {
      if (name !== 'COPY' || rest.some((word) => word.startsWith('--from'))) continue;
      for (const source of rest.slice(0, -1)) assert.ok(existsSync(join(projectDirectory, source)), source);
    }
    const text = read('Containerfile');
    assert.match(text, /ENTRYPOINT \["node", "\/opt\/keepgate\/dist\/src\/cli\/main\.js"\]/);
    assert.ok(existsSync(join(projectDirectory, 'dist/src/cli/main.js')));
    assert.match(text, /HEALTHCHECK [^\n]*\\\n.*\/livez/);
  });
});

interface Service {
  readonly image?: string;
  readonly build?: { readonly context: string; readonly dockerfile: string };
  readonly volumes?: readonly string[];
  readonly env_file?: string;
  readonly user?: string;
  readonly network_mode?: string;
  readonly ports?: readonly string[];
  readonly depends_on?: unknown;
  readonly privileged?: boolean;
}

describe('the compose file', () => {
  const { services } = parse(read('compose/compose.yaml')) as { services: Readonly<Record<string, Service>> };
  const inCompose = (path: string): string => resolve(deploy('compose'), path);

  it('has a store, a gateway, Prometheus and Grafana, with fixed versions, none of them root', () => {
    assert.deepEqual(Object.keys(services), ['store', 'keepgate', 'prometheus', 'grafana']);
    for (const [name, { image, build, user, privileged }] of Object.entries(services)) {
      assert.ok(build !== undefined || /:[\w.-]*\d[\w.-]*$/.test(image ?? ''), `${name} has no version`);
      assert.ok(user, name);
      assert.equal(privileged, undefined);
    }
  });

  it('mounts and builds what is there, or what `prepare` makes', () => {
    const prepared = read('compose/prepare');
    for (const { volumes = [], build } of Object.values(services)) {
      if (build) assert.ok(existsSync(join(inCompose(build.context), build.dockerfile)));
      for (const volume of volumes) {
        const [source = ''] = volume.split(':');
        if (source.startsWith('./state/')) assert.ok(prepared.includes(source.split('/')[2] ?? '?'), source);
        else assert.ok(existsSync(inCompose(source)), source);
      }
    }
  });

  it('opens nothing beyond loopback', () => {
    for (const [name, { ports = [], network_mode }] of Object.entries(services)) {
      for (const port of ports) assert.match(port, /^127\.0\.0\.1:/, name);
      assert.ok(network_mode === 'host' || ports.length > 0, name);
    }
    assert.match(read('compose/compose.yaml'), /web\.listen-address=127\.0\.0\.1:/);
    assert.match(read('compose/compose.yaml'), /GF_SERVER_HTTP_ADDR: 127\.0\.0\.1/);
    const file = { name: 'keepgate.yaml', directory: '/etc/keepgate', content: read('compose/keepgate.yaml') };
    assert.equal(loadConfiguration({ file, environment: {}, workingDirectory: '/' }).trustedNetwork, false);
  });
});

suite('the script that prepares it', ['shellcheck'], () => {
  it('has no fault that shellcheck finds', async () => {
    const { path, env } = requiredTool('shellcheck');
    const { status, stdout } = await attempt(path, [deploy('compose/prepare')], { env });
    assert.equal(status, 0, stdout);
  });

  it('makes a key and secrets that nobody else can read, and never replaces them', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'keepgate-compose-'));
    try {
      cpSync(deploy('compose'), folder, { recursive: true, filter: (from) => !/\/(state|\.env)$/.test(from) });
      const prepare = async (): Promise<Record<string, string>> => {
        const { status, stderr } = await attempt(join(folder, 'prepare'), []);
        assert.equal(status, 0, stderr);
        const made = ['state/etc/key', 'state/etc/keepgate.yaml', 'state/store.env', 'state/keepgate.env', '.env'];
        return Object.fromEntries(made.map((name) => [name, readFileSync(join(folder, name), 'utf8')]));
      };
      const first = await prepare();
      await loadMasterKey(join(folder, 'state/etc/key'), false, new SystemRandom());
      const [, password = ''] = /^MINIO_ROOT_PASSWORD=([\w=]{40})$/m.exec(first['state/store.env'] ?? '') ?? [];
      assert.ok(first['state/keepgate.env']?.includes(`AWS_SECRET_ACCESS_KEY=${password}\n`));
      for (const name of ['key', '../store.env', '../keepgate.env'])
        assert.equal(statSync(join(folder, 'state/etc', name)).mode & 0o077, 0, name);
      assert.ok(existsSync(join(folder, 'state/store/keepgate')), 'the bucket');
      assert.deepEqual(await prepare(), first);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

type Manifest = Readonly<Record<string, unknown>> & { readonly kind: string };

describe('the chart', () => {
  const chart = parse(read('helm/keepgate/Chart.yaml')) as { appVersion: string; version: string };
  const values = parse(read('helm/keepgate/values.yaml')) as Readonly<Record<string, unknown>>;
  const templates = 'helm/keepgate/templates';

  const rendered = (changes: Readonly<Record<string, unknown>> = {}): Map<string, Manifest> => {
    const scope = {
      Values: { ...values, ...changes },
      Release: { Name: 'gate', Namespace: 'storage' },
      Chart: { AppVersion: chart.appVersion },
    };
    const engine = new ChartTemplates(scope, read(`${templates}/_helpers.tpl`));
    const found = new Map<string, Manifest>();
    for (const name of readdirSync(deploy(templates))) {
      const text = name.startsWith('_') ? '' : engine.render(read(`${templates}/${name}`));
      if (!name.endsWith('.yaml') || text.trim() === '') continue;
      for (const document of parseAllDocuments(text)) {
        if (!('errors' in document)) throw new Error(`${name} is empty`);
        assert.deepEqual(document.errors, [], name);
        const manifest = document.toJS() as Manifest;
        found.set(manifest.kind, manifest);
      }
    }
    return found;
  };
  /** What stands at a path such as "spec.template.spec.containers.0". */
  const at = (manifest: Manifest | undefined, path: string): unknown =>
    path.split('.').reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], manifest);
  const configuration = (manifests: Map<string, Manifest>) => {
    const data = at(manifests.get('ConfigMap'), 'data') as Record<string, string>;
    const file = { name: 'keepgate.yaml', directory: '/etc/keepgate', content: data['keepgate.yaml'] ?? '' };
    return loadConfiguration({ file, environment: {}, workingDirectory: '/' });
  };

  it('has the version of the program', () => {
    const { version } = JSON.parse(readFileSync(join(projectDirectory, 'package.json'), 'utf8')) as { version: string };
    assert.deepEqual([chart.appVersion, chart.version], [version, version]);
  });

  it('makes one pod, with one owner of its disk, without rights', () => {
    const set = rendered().get('StatefulSet');
    assert.equal(at(set, 'spec.replicas'), 1);
    assert.deepEqual(at(set, 'spec.volumeClaimTemplates.0.spec.accessModes'), ['ReadWriteOncePod']);
    assert.equal(at(set, 'spec.template.spec.securityContext.runAsNonRoot'), true);
    assert.equal(at(set, 'spec.template.spec.automountServiceAccountToken'), false);
    for (const where of ['initContainers', 'containers']) {
      assert.deepEqual(at(set, `spec.template.spec.${where}.0.securityContext`), {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
    }
    assert.ok((at(set, 'spec.template.spec.terminationGracePeriodSeconds') as number) > 10);
  });

  it('mounts what it declares, and reaches its pod', () => {
    for (const tokenSecret of ['', 'keepgate-token']) {
      const manifests = rendered({ tokenSecret });
      const set = manifests.get('StatefulSet');
      const names = (path: string): string[] => (at(set, path) as { name: string }[]).map(({ name }) => name);
      const declared = [...names('spec.template.spec.volumes'), 'data'].sort();
      const mounted = ['initContainers', 'containers'].flatMap((where) =>
        names(`spec.template.spec.${where}.0.volumeMounts`),
      );
      assert.deepEqual([...new Set(mounted)].sort(), declared);
      const labels = at(set, 'spec.template.metadata.labels');
      for (const [kind, path] of [
        ['StatefulSet', 'spec.selector.matchLabels'],
        ['Service', 'spec.selector'],
        ['NetworkPolicy', 'spec.podSelector.matchLabels'],
      ] as const)
        assert.deepEqual(at(manifests.get(kind), path), labels, kind);
      const ports = names('spec.template.spec.containers.0.ports');
      const targets = at(manifests.get('Service'), 'spec.ports') as { targetPort: string }[];
      assert.deepEqual(
        targets.map(({ targetPort }) => targetPort),
        ports,
      );
    }
  });

  it('configures a gateway that offers NBD over TLS alone, and lets nobody in who was not named', () => {
    const manifests = rendered();
    const { nbd, iscsi, api, trustedNetwork, volumes, keyFile } = configuration(manifests);
    assert.deepEqual(
      [nbd.tls.mode, nbd.tls.verifyPeer, iscsi.enabled, trustedNetwork, keyFile],
      ['required', true, false, false, '/run/keepgate/key'],
    );
    assert.deepEqual(api.listen, { kind: 'tcp', host: '127.0.0.1', port: 9470 });
    assert.deepEqual(
      volumes.map(({ name }) => name),
      ['disk0'],
    );
    assert.equal(at(manifests.get('NetworkPolicy'), 'spec.ingress'), null);
    assert.ok(!manifests.has('ServiceMonitor'));
    const clients = [{ podSelector: { matchLabels: { app: 'vm' } } }];
    const policy = rendered({ networkPolicy: { enabled: true, clients, monitoring: [] } }).get('NetworkPolicy');
    assert.deepEqual(at(policy, 'spec.ingress'), [{ from: clients, ports: [{ protocol: 'TCP', port: 'nbd' }] }]);
  });

  it('lets Prometheus in where that is asked for, with the token', () => {
    const serviceMonitor = { enabled: true, interval: '30s', labels: {} };
    assert.throws(() => rendered({ serviceMonitor }), /needs api\.network: true/);
    const manifests = rendered({ serviceMonitor, api: { network: true }, tokenSecret: 'keepgate-token' });
    const { api, trustedNetwork } = configuration(manifests);
    assert.deepEqual(api, { listen: { kind: 'tcp', host: '0.0.0.0', port: 9470 }, tokenFile: '/run/keepgate/token' });
    assert.equal(trustedNetwork, true);
    assert.deepEqual(at(manifests.get('ServiceMonitor'), 'spec.endpoints.0.authorization.credentials'), {
      name: 'keepgate-token',
      key: 'token',
    });
    assert.equal(at(manifests.get('ServiceMonitor'), 'spec.endpoints.0.port'), 'api');
  });
});
