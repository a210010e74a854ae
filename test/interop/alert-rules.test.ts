/** The rules of grafana/ as promtool runs them: each alert fires over series that it is for, and not over their near misses. */
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { it } from 'node:test';
import { requiredTool } from '../tool/clients.js';
import { describeFailure, attempt } from '../tool/process.js';
import { readRules, ruleFiles, testRules, type RuleCase } from '../tool/prometheus.js';
import { suite } from '../tool/suite.js';

type Lines = Readonly<Record<string, string>>;

interface Example {
  readonly fires: Lines;
  /** What is alike, and no alert at all. */
  readonly quiet: readonly Lines[];
}

const gateway = 'job="keepgate",instance="gateway:9470"';
const volume = `${gateway},volume="disk0"`;
const state = (name: string): string => `keepgate_volume_state{${volume},state="${name}"}`;
const mode = (name: string): string => `keepgate_replication_mode{${volume},mode="${name}"}`;
const of = (metric: string, labels = ''): string => `keepgate_${metric}{${volume}${labels}}`;

/** The buffer has 1000 bytes. */
function buffer(used: string, secondsToFull: string): Lines {
  return {
    [of('buffer_capacity_bytes')]: '1000x60',
    [of('buffer_used_bytes')]: used,
    [of('buffer_time_to_full_seconds')]: secondsToFull,
  };
}

/** Flushes that took at most half a second, at most a second, and all. */
function flushes(halfSecond: string, second: string, all: string): Lines {
  const within = (le: string): string => of('flush_duration_seconds_bucket', `,le="${le}"`);
  return { [within('0.5')]: halfSecond, [within('1')]: second, [within('+Inf')]: all };
}

function storeErrors(errors: string, uploads: string): Lines {
  return {
    [of('store_errors_total', ',code="store-failed"')]: errors,
    [of('upload_requests_total', ',outcome="stored"')]: uploads,
  };
}

/** promtool has no notation for +Inf. */
const never = '1000000000000x60';

/** A sample a minute: `axN` is N + 1 times a, `a+bxN` grows by b each minute. */
const examples: Readonly<Record<string, Example>> = {
  KeepgateDown: { fires: { [`up{${gateway}}`]: '1 0x3' }, quiet: [{ [`up{${gateway}}`]: '1 0 1x9' }] },
  KeepgateVolumeFailed: { fires: { [state('failed')]: '0 1x3' }, quiet: [{ [state('online')]: '1x9' }] },
  KeepgateVolumeFenced: { fires: { [state('fenced')]: '0 1x3' }, quiet: [{ [state('hydrating')]: '1x9' }] },
  KeepgateVolumeStalled: { fires: { [state('stalled')]: '0 1x3' }, quiet: [{ [state('opening')]: '1x9' }] },
  KeepgateReplicationLag: {
    fires: { [of('replication_lag_seconds')]: '0+60x30' },
    quiet: [{ [of('replication_lag_seconds')]: '0+60x19 0x9' }, { [of('replication_lag_seconds')]: '890x60' }],
  },
  KeepgateReplicationBlocked: {
    fires: { [mode('blocked')]: '0 1x6' },
    quiet: [{ [mode('blocked')]: '1x3 0x9' }, { [mode('draining')]: '1x60' }],
  },
  KeepgateReplicationTracking: {
    fires: { [mode('tracking')]: '1x8 0x8', [mode('resyncing')]: '0x8 1x8' },
    quiet: [{ [mode('tracking')]: '1x8 0x8', [mode('resyncing')]: '0x8 1x4 0x3' }],
  },
  KeepgateBufferFillsUp: {
    fires: buffer('650x60', '3000x60'),
    // A busy buffer that is destaged at its half, and one that does not fill.
    quiet: [buffer('500x60', '30x60'), buffer('650x60', never), buffer('650x60', '3700x60')],
  },
  KeepgateBufferFull: { fires: buffer('800x6', never), quiet: [buffer('800x3 300x9', never)] },
  KeepgateStoreErrors: {
    fires: storeErrors('0+1x20', '0+1x20'),
    quiet: [storeErrors('0+1x20', '0+100x20'), storeErrors('0 0 4x18', '0x20'), storeErrors('900x60', '1000x60')],
  },
  KeepgateFlushSlow: {
    fires: flushes('0+50x20', '0+100x20', '0+100x20'),
    quiet: [flushes('0+100x20', '0+100x20', '0+100x20'), flushes('5x60', '100x60', '100x60')],
  },
  KeepgateChecksumErrors: {
    fires: { [of('checksum_errors_total')]: '0 0 1x3' },
    quiet: [{ [of('checksum_errors_total')]: '3x60' }],
  },
  KeepgateScrubErrors: {
    fires: { [of('scrub_errors_total', ',place="remote"')]: '0 0 256x3' },
    quiet: [{ [of('scrub_errors_total', ',place="remote"')]: '256x60' }],
  },
  KeepgateSnapshotsFail: {
    fires: { [of('snapshot_failures_total')]: '0 1x3' },
    quiet: [{ [of('snapshot_failures_total')]: '1x60' }],
  },
  KeepgateSnapshotPending: {
    fires: { [of('snapshots', ',state="pending"')]: '1x130' },
    quiet: [
      { [of('snapshots', ',state="pending"')]: '1x115 0x9' },
      { [of('snapshots', ',state="complete"')]: '9x200' },
    ],
  },
};

/** Everything that ever fired. */
function caseOf(name: string, series: Lines, fired: readonly string[]): RuleCase {
  const at = name.includes('SnapshotPending') ? '3h' : '70m';
  const samples = fired.map((alert) => ({ labels: `{alertname="${alert}"}`, value: 1 }));
  const expr = 'count by (alertname) (count_over_time(ALERTS{alertstate="firing"}[3h]))';
  return { name, series, checks: [{ at, expr, samples }] };
}

suite('the rules for Prometheus', ['promtool'], () => {
  const promtool = (...args: string[]) => attempt(requiredTool('promtool'), args);

  it('are accepted by promtool, and so is the configuration that names them', async () => {
    const rules = await promtool('check', 'rules', ...ruleFiles);
    assert.equal(rules.status, 0, rules.stdout + rules.stderr);
    const file = join(dirname(ruleFiles[0] ?? ''), 'prometheus.yml');
    const configuration = await promtool('check', 'config', file);
    assert.equal(configuration.status, 0, configuration.stdout + configuration.stderr);
    assert.match(configuration.stdout, /2 rule files found/);
  });

  it('fire over what they are for, each alone, and not over what is nearly that', async () => {
    const alerts = (await readRules()).flatMap(({ alert }) => (alert === undefined ? [] : [alert]));
    assert.deepEqual(Object.keys(examples).sort(), alerts.sort(), 'every alert has its example');
    const cases = Object.entries(examples).flatMap(([alert, { fires, quiet }]) => [
      caseOf(alert, fires, [alert]),
      ...quiet.map((series, index) => caseOf(`near ${alert}, ${index + 1}`, series, [])),
    ]);
    const tested = await testRules(cases);
    assert.equal(tested.status, 0, describeFailure('promtool', ['test', 'rules'], tested));
  });

  it('are found out where an example is wrong', async () => {
    const tested = await testRules([caseOf('a volume that failed', { [state('failed')]: '1x3' }, [])]);
    assert.equal(tested.status, 1);
    assert.match(tested.stderr + tested.stdout, /KeepgateVolumeFailed/);
  });
});
