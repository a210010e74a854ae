/**
 * Debian's Prometheus on running gateways: what they print is what promtool accepts, every query of every dashboard has
 * an answer under load, each alert fires where its cause is real, and none over a week of an idle volume. Only a lag of a
 * quarter of an hour is not waited for: the wall clock of its gateway runs fast.
 */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, open, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { IscsiClient } from '../crash/iscsi-client.js';
import { NbdClient } from '../crash/nbd-client.js';
import { requiredTool } from '../tool/clients.js';
import { FaultyDisk } from '../tool/disk-fault.js';
import { TestGateway, targetPrefix } from '../tool/gateway.js';
import { Prometheus, readRules, testRules } from '../tool/prometheus.js';
import { attempt, describeFailure, eventually } from '../tool/process.js';
import { suite } from '../tool/suite.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const replicate = { segmentSize: '1MiB', interval: '100ms' };
const volumeNamed = (name: string, more: object = {}): Record<string, unknown> => ({
  name,
  size: '96MiB',
  buffer: { size: '64MiB' },
  replicate,
  ...more,
});

interface Panel {
  readonly title: string;
  readonly targets: readonly { readonly expr: string }[];
}

const dashboardFolder = resolve(import.meta.dirname, '../../../grafana');
const dashboards = readdirSync(dashboardFolder)
  .filter((name) => name.endsWith('.json'))
  .map((name) => {
    const { panels } = JSON.parse(readFileSync(join(dashboardFolder, name), 'utf8')) as { panels: readonly Panel[] };
    return { name, panels };
  });

/** As Grafana substitutes its variables, for the volume `work`. */
function substituted(expression: string): string {
  const values: Readonly<Record<string, string>> = {
    $__rate_interval: '5s',
    $job: '.*',
    $volume: 'work',
    $price_gb: '0.023',
    $price_put: '0.005',
  };
  return expression.replaceAll(/\$\w+/g, (name) => values[name] ?? name);
}

const scrape = async (gateway: TestGateway): Promise<string> => (await fetch(`${gateway.apiUrl}/metrics`)).text();

suite('Prometheus', ['prometheus', 'promtool', 'cc'], () => {
  let quiet: TestGateway;
  let slow: TestGateway;
  let sick: TestGateway;
  let hasty: TestGateway;
  let disk: FaultyDisk;
  let prometheus: Prometheus;
  const gateways: TestGateway[] = [];
  const clients: (NbdClient | IscsiClient)[] = [];

  before(async () => {
    disk = await FaultyDisk.make();
    // Something always reads, writes and is measured.
    quiet = await started({ volumes: [volumeNamed('work')] });
    slow = await started({
      bandwidth: { upload: '64kB/s' },
      volumes: [
        volumeNamed('full', { buffer: { size: '64MiB', whenFull: 'throttle' } }),
        volumeNamed('let-go', { buffer: { size: '64MiB', whenFull: 'track' } }),
      ],
    });
    sick = await started({
      env: disk.env,
      volumes: [
        volumeNamed('owned'),
        volumeNamed('cut-off'),
        volumeNamed('rotten'),
        volumeNamed('unreadable', { replicate: { enabled: false } }),
        volumeNamed('no-space', { replicate: { enabled: false }, fullTimeout: '1s' }),
        volumeNamed('slow-disk', { replicate: { enabled: false } }),
        volumeNamed('no-snapshots', { snapshots: { every: '1m', keep: 2 } }),
      ],
    });
    hasty = await started({
      patches: [
        {
          file: 'src/platform/system-clock.js',
          find: 'return Date.now();',
          replace: 'return Date.now() + 1000 * Math.round(performance.now());',
        },
      ],
      volumes: [volumeNamed('late')],
    });
    prometheus = await Prometheus.start([quiet.apiUrl, slow.apiUrl, sick.apiUrl, hasty.apiUrl]);
  });

  after(async () => {
    for (const client of clients) client.destroy();
    await prometheus.stop();
    for (const gateway of gateways) await gateway.dispose();
    await disk.dispose();
  });

  async function started(options: Parameters<typeof TestGateway.start>[0]): Promise<TestGateway> {
    const gateway = await TestGateway.start(options);
    gateways.push(gateway);
    return gateway;
  }

  async function nbd(gateway: TestGateway, volume: string): Promise<NbdClient> {
    const client = await NbdClient.connect(gateway.nbdPort, volume);
    clients.push(client);
    return client;
  }

  it('reads what promtool accepts', async () => {
    const text = await scrape(quiet);
    const checked = await attempt(requiredTool('promtool'), ['check', 'metrics'], { input: text });
    // 3: it parses, and breaks conventions; nodejs_active_handles_total and its like are prom-client's.
    assert.ok([0, 3].includes(checked.status), describeFailure('promtool', ['check', 'metrics'], checked));
    const complaints = (checked.stdout + checked.stderr).split('\n').filter((line) => line !== '');
    assert.deepEqual(
      complaints.filter((line) => !line.startsWith('nodejs_')),
      [],
    );
    const wrong = await attempt(requiredTool('promtool'), ['check', 'metrics'], {
      input: text.replaceAll('keepgate_uploaded_bytes_total', 'keepgate_uploaded_bytes'),
    });
    assert.match(wrong.stdout + wrong.stderr, /keepgate_uploaded_bytes counter metrics should have/);
  });

  it('has an answer to every query of every dashboard under load', async () => {
    const client = await nbd(quiet, 'work');
    // Over iSCSI somebody asks for what another one has.
    const initiator = 'iqn.2026-11.test:second';
    await assert.rejects(
      IscsiClient.connect(quiet.iscsiPort, `${targetPrefix}:work`, initiator).then((second) =>
        second.read(0, 4096).finally(() => second.destroy()),
      ),
    );
    const stop = new AbortController();
    const load = (async () => {
      for (let n = 0; !stop.signal.aborted; n += 1) {
        await client.write((n % 512) * 4096, Buffer.alloc(4096, n));
        await client.read(((n * 7) % 512) * 4096, 4096);
        if (n % 4 === 0) await client.flush();
        await delay(5, undefined, { signal: stop.signal }).catch(() => undefined);
      }
    })();
    try {
      await quiet.command(['snapshot', 'create', 'work', 'one']);
      for (const { name, panels } of dashboards) {
        for (const { title, targets } of panels) {
          for (const { expr } of targets) await eventually(`${name}, ${title}: ${expr} has data`, () => hasData(expr));
        }
      }
    } finally {
      stop.abort();
      await load;
    }
  });

  async function hasData(expression: string): Promise<boolean> {
    const series = await prometheus.range(substituted(expression), 3);
    return series.some(({ values }) => values.some(([, value]) => value !== 'NaN'));
  }

  it('has no answer to a query of what does not exist', async () => {
    assert.equal(await hasData('keepgate_no_such_thing'), false);
    assert.equal(await hasData('keepgate_volume_state{volume="no-such-volume"}'), false);
  });

  describe('fires', () => {
    const seen = new Set<string>();

    async function firing(alert: string, volume?: string): Promise<void> {
      const { annotations } = await prometheus.untilFiring(alert, volume);
      seen.add(alert);
      assert.match(annotations['summary'] ?? '', volume === undefined ? /./ : new RegExp(volume));
      assert.doesNotMatch(JSON.stringify(annotations), /<error|<no value/);
    }

    it('nothing as long as nothing is wrong', async () => {
      // Without its `for`, one fires for a moment where a scrape or a sync took long on a busy machine.
      let alerts = await prometheus.alerts();
      await eventually(
        'no alert fires',
        async () => {
          alerts = await prometheus.alerts();
          return alerts.length === 0;
        },
        { explain: () => JSON.stringify(alerts) },
      );
    });

    it('on a full disk, and on a log that cannot be read', async () => {
      disk.set([
        { errno: 'ENOSPC', call: 'allocate', path: '/no-space/image' },
        { errno: 'ENOSPC', call: 'allocate', path: '/no-space/log/new' },
        { errno: 'EIO', call: 'read', path: '/unreadable/log/' },
      ]);
      const unreadable = await nbd(sick, 'unreadable');
      await unreadable.write(0, Buffer.alloc(MIB, 1));
      await unreadable.flush();
      const stalled = await nbd(sick, 'no-space');
      await assert.rejects(fill(stalled, 88));
      await firing('KeepgateVolumeStalled', 'no-space');
      await firing('KeepgateVolumeFailed', 'unreadable');
    });

    it('on an image that rots', async () => {
      const client = await nbd(sick, 'rotten');
      for (let at = 0; at < 4; at += 1) await client.write(at * MIB, Buffer.alloc(MIB, 1 + at));
      await client.flush();
      await sick.drain('rotten');
      const overlay = (): Promise<number> => sick.metric('keepgate_overlay_blocks', 'volume="rotten"');
      await eventually('all is in the image', async () => (await overlay()) === 0);
      const image = await open(join(sick.dataDir, 'volumes/rotten/image'), 'r+');
      await image.write(Buffer.alloc(5000, 9), 0, 5000, MIB + 77);
      await image.close();
      assert.equal((await sick.command(['scrub', 'rotten'])).status, 1);
      await firing('KeepgateChecksumErrors', 'rotten');
      await firing('KeepgateScrubErrors', 'rotten');
    });

    it('on a volume that another gateway took over', async () => {
      const elsewhere = await mkdtemp(join(tmpdir(), 'keepgate-elsewhere-'));
      let other: TestGateway | undefined;
      try {
        const client = await nbd(sick, 'owned');
        await client.write(0, Buffer.alloc(MIB, 1));
        await client.flush();
        await sick.drain('owned');
        await mkdir(join(elsewhere, 'data'));
        await copyFile(sick.keyFile, join(elsewhere, 'key'));
        const url = `file://${sick.storeDirectory}`;
        const from = ['--from', url, '--data-dir', join(elsewhere, 'data')];
        const taken = await sick.command(['restore', 'owned', ...from, '--full', '--take-over']);
        assert.equal(taken.status, 0, taken.stderr);
        const volumes = [volumeNamed('owned')];
        other = await TestGateway.start({ volumes, folder: elsewhere, store: { url } });
        const owner = await NbdClient.connect(other.nbdPort, 'owned');
        await owner.write(2 * MIB, Buffer.alloc(MIB, 3));
        await owner.close();
        await other.drain('owned');
        await client.write(MIB, Buffer.alloc(MIB, 2));
        await client.flush().catch(() => undefined);
        await firing('KeepgateVolumeFenced', 'owned');
      } finally {
        await other?.dispose();
        await rm(elsewhere, { recursive: true, force: true });
      }
    });

    it('while the store is away', async () => {
      const client = await nbd(sick, 'cut-off');
      await client.write(0, Buffer.alloc(MIB, 1));
      await client.flush();
      await sick.drain('cut-off');
      const away = `${sick.storeDirectory}-away`;
      await rename(sick.storeDirectory, away);
      await client.write(0, Buffer.alloc(MIB, 2));
      await client.flush();
      assert.equal((await sick.command(['snapshot', 'create', 'cut-off', 'later'])).status, 0);
      await firing('KeepgateReplicationBlocked', 'cut-off');
      await firing('KeepgateSnapshotPending', 'cut-off');
      await firing('KeepgateStoreErrors', 'cut-off');
      await rename(away, sick.storeDirectory);
    });

    it('on a disk that syncs slowly, and on snapshots that cannot be taken', async () => {
      disk.set([
        { errno: { delayMs: 800 }, call: 'sync', path: '/slow-disk/log/' },
        { errno: 'EIO', call: 'read', path: '/no-snapshots/log/' },
      ]);
      const broken = await nbd(sick, 'no-snapshots');
      await broken.write(0, Buffer.alloc(MIB, 1));
      await broken.flush();
      const waiting = await nbd(sick, 'slow-disk');
      const flushed = async (): Promise<void> => {
        await waiting.write(0, Buffer.alloc(4 * KIB, 1));
        await waiting.flush();
      };
      let found = false;
      const fires = firing('KeepgateFlushSlow', 'slow-disk').finally(() => (found = true));
      while (!found) await flushed();
      await fires;
      await firing('KeepgateSnapshotsFail', 'no-snapshots');
    });

    it('on what has not reached the store for long', async () => {
      const client = await nbd(hasty, 'late');
      await rename(hasty.storeDirectory, `${hasty.storeDirectory}-away`);
      await client.write(0, Buffer.alloc(MIB, 1));
      await client.flush();
      await firing('KeepgateReplicationLag', 'late');
    });

    it('on buffers that fill, that are full, and that were let go', async () => {
      const full = await nbd(slow, 'full');
      const letGo = fill(await nbd(slow, 'let-go'), 96);
      const ratio = async (): Promise<number> =>
        (await slow.metric('keepgate_buffer_used_bytes', 'volume="full"')) /
        (await slow.metric('keepgate_buffer_capacity_bytes', 'volume="full"'));
      for (let at = 0; (await ratio()) < 0.62; at = (at + 1) % 96) await full.write(at * MIB, Buffer.alloc(MIB, 1));
      await firing('KeepgateBufferFillsUp', 'full');
      const writing = fill(full, 96).catch(() => undefined); // Waits for room at its end, until the gateway goes.
      await firing('KeepgateBufferFull', 'full');
      await letGo;
      await firing('KeepgateReplicationTracking', 'let-go');
      await slow.kill();
      await writing;
    });

    it('when a gateway is gone', async () => {
      await firing('KeepgateDown');
    });

    it('each alert that there is', async () => {
      const alerts = (await readRules()).flatMap(({ alert }) => (alert === undefined ? [] : [alert]));
      assert.deepEqual([...seen].sort(), alerts.sort());
    });
  });

  async function fill(client: NbdClient, megabytes: number): Promise<void> {
    for (let at = 0; at < megabytes; at += 1) await client.write(at * MIB, Buffer.alloc(MIB, at));
  }

  describe('over a week of an idle, fully replicated volume', () => {
    const minutes = 2;
    const evaluationMinutes = 4;
    const ever = 'count by (alertname) (count_over_time(ALERTS{alertstate="firing"}[7d]))';
    /** What alerts ask for, as it was twice, a second apart. */
    let first: ReadonlyMap<string, number>;
    let second: ReadonlyMap<string, number>;
    let wallSeconds = 0;

    before(async () => {
      await quiet.drain('work');
      const idle = async (): Promise<boolean> => {
        first = await samplesOf(quiet);
        wallSeconds = Date.now() / 1000;
        await delay(1000);
        second = await samplesOf(quiet);
        const still = ['keepgate_buffer_used_bytes{volume="work"}', 'keepgate_overlay_blocks{volume="work"}'];
        return still.every((key) => first.get(key) === second.get(key)) && second.get(still[1] ?? '') === 0;
      };
      await eventually('the volume is idle', idle);
      assert.equal(second.get('keepgate_replication_mode{volume="work",mode="idle"}'), 1);
      assert.equal(second.get('keepgate_replication_pending_bytes{volume="work"}'), 0);
    });

    /** A sample every two minutes, from what was scraped: what moved within the second goes on moving as fast. */
    function stretched(days: number): Record<string, string> {
      const count = (days * 24 * 60) / minutes;
      const series: Record<string, string> = { 'up{job="keepgate",instance="gateway:9470"}': `1x${count}` };
      for (const [key, value] of second) {
        // The clock of promtool begins in 1970: a moment is told by its distance from now.
        const base = key.includes('timestamp_seconds') ? value - wallSeconds : value;
        const growth = Math.round((value - (first.get(key) ?? value)) * 60 * minutes);
        const step = `${growth < 0 ? '-' : '+'}${plain(Math.abs(growth))}`;
        const values = Number.isFinite(base) ? `${plain(base)}${step}` : never;
        series[withTarget(key)] = `${values}x${count}`;
      }
      return series;
    }

    it('no alert fires', async () => {
      const series = stretched(7);
      assert.ok(Object.keys(series).length > 50, 'the alerts ask for much');
      const checks = [{ at: '7d', expr: ever, samples: [] }];
      const tested = await testRules([{ name: 'an idle week', minutes, series, checks }], { evaluationMinutes });
      assert.equal(tested.status, 0, describeFailure('promtool', ['test', 'rules'], tested));
    });

    it('one would within a day, if it asked for the age of a recovery point, or if the lag were that', async () => {
      const folder = await mkdtemp(join(tmpdir(), 'keepgate-rule-'));
      try {
        const rule = { alert: 'Age', expr: 'time() - keepgate_recovery_point_timestamp_seconds > 900' };
        const file = join(folder, 'age.yml');
        await writeFile(file, JSON.stringify({ groups: [{ name: 'age', rules: [rule] }] }));
        const series = stretched(1);
        const lag = withTarget('keepgate_replication_lag_seconds{volume="work"}');
        assert.ok(lag in series);
        series[lag] = `0+${60 * minutes}x720`;
        const samples = ['Age', 'KeepgateReplicationLag'].map((name) => ({
          labels: `{alertname="${name}"}`,
          value: 1,
        }));
        const checks = [{ at: '1d', expr: ever, samples }];
        const tested = await testRules([{ name: 'a day', minutes, series, checks }], {
          further: [file],
          evaluationMinutes,
        });
        assert.equal(tested.status, 0, describeFailure('promtool', ['test', 'rules'], tested));
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    });
  });
});

/** promtool has no notation for +Inf. */
const never = '1000000000000';

/** Without an exponent, which promtool does not read. */
const plain = (value: number): string => value.toFixed(6).replace(/\.?0+$/, '');

function withTarget(key: string): string {
  const target = 'job="keepgate",instance="gateway:9470"';
  return key.includes('{') ? key.replace('{', `{${target},`) : `${key}{${target}}`;
}

/** The samples of one scrape that the alerts ask for, and of recovery points. */
async function samplesOf(gateway: TestGateway): Promise<ReadonlyMap<string, number>> {
  const rules = await readRules();
  const alerts = rules.filter(({ alert }) => alert !== undefined).map(({ expr }) => expr);
  const records = rules.filter(({ record }) => record !== undefined && alerts.some((expr) => expr.includes(record)));
  const expressions = [...alerts, ...records.map(({ expr }) => expr)];
  const asked = expressions.flatMap((expr) => [...expr.matchAll(/\bkeepgate_\w+/g)].map(([name]) => name));
  const further = ['recovery_point_timestamp_seconds', 'overlay_blocks', 'replication_pending_bytes'];
  const names = new Set([...asked, ...further.map((name) => `keepgate_${name}`)]);
  const lines = (await scrape(gateway)).split('\n').filter((line) => !line.startsWith('#'));
  const samples = lines.map((line) => {
    const at = line.lastIndexOf(' ');
    return [line.slice(0, at), Number(line.slice(at + 1).replace('Inf', 'Infinity'))] as const;
  });
  return new Map(samples.filter(([key]) => names.has(/^\w*/.exec(key)?.[0] ?? '')));
}
