/** Every metric that the dashboard, the alerts and the pages name is one that the gateway prints. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { parse } from 'yaml';
import { createMetrics, families } from '../../../src/metrics/registry.js';
import { pages, projectDirectory } from './page.js';

interface Panel {
  readonly id: number;
  readonly title: string;
  readonly type: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly refId: string; readonly expr: string }[];
}

interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly query: unknown }[] };
}

const read = (path: string): string => readFileSync(join(projectDirectory, path), 'utf8');
const dashboard = JSON.parse(read('grafana/keepgate-volumes.json')) as Dashboard;
const alerts = parse(read('grafana/keepgate-alerts.yml')) as {
  groups: { rules: { alert: string; expr: string }[] }[];
};

/** Every series that a scrape prints: of a histogram its three. */
const printed = new Set<string>();

function namesIn(text: string): string[] {
  return [...text.matchAll(/\b(?:keepgate|process|nodejs)_[a-z0-9_]+/g)].map(([name]) => name);
}

function unknownIn(text: string): string[] {
  return namesIn(text).filter((name) => !printed.has(name));
}

before(async () => {
  for (const { name, type } of families) {
    const suffixes = type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
    for (const suffix of suffixes) printed.add(name + suffix);
  }
  const sessions = { nbd: { logins: 0, rejections: new Map() }, iscsi: { logins: 0, rejections: new Map() } };
  const metrics = createMetrics({
    version: '0',
    sessions: () => sessions,
    volumes: () => [],
    uploadLimit: () => undefined,
  });
  for (const [, name = ''] of (await metrics.render()).matchAll(/^(\w+)[{ ]/gm)) printed.add(name);
});

describe('the dashboard', () => {
  it('asks for metrics that exist', () => {
    const expressions = dashboard.panels.flatMap(({ targets }) => targets ?? []).map(({ expr }) => expr);
    assert.ok(expressions.length > 20);
    for (const expression of expressions) {
      assert.deepEqual(unknownIn(expression), [], expression);
      assert.notEqual(namesIn(expression).length, 0, expression);
    }
    for (const { name, query } of dashboard.templating.list)
      assert.deepEqual(unknownIn(JSON.stringify(query)), [], name);
  });

  it('uses only variables that it has', () => {
    const known = new Set([...dashboard.templating.list.map(({ name }) => name), '__rate_interval', '__all']);
    for (const [, name = ''] of JSON.stringify(dashboard).matchAll(/\$\{?(\w+)/g)) assert.ok(known.has(name), name);
  });

  it('has panels that do not overlap, each with its own id', () => {
    assert.equal(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length);
    const taken = new Set<string>();
    for (const { title, gridPos } of dashboard.panels) {
      assert.ok(gridPos.x + gridPos.w <= 24, title);
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
        for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
          assert.ok(!taken.has(`${x} ${y}`), `${title} lies on another panel`);
          taken.add(`${x} ${y}`);
        }
      }
    }
  });
});

describe('the alerts', () => {
  it('ask for metrics that exist', () => {
    const rules = alerts.groups.flatMap((group) => group.rules);
    assert.ok(rules.length >= 5);
    for (const { alert, expr } of rules) assert.deepEqual(unknownIn(expr), [], alert);
  });

  it('watch snapshots that fail, and that do not get into the store', () => {
    const watched = new Set(alerts.groups.flatMap((group) => group.rules).flatMap(({ expr }) => namesIn(expr)));
    for (const name of ['keepgate_snapshot_failures_total', 'keepgate_snapshots']) assert.ok(watched.has(name), name);
  });
});

describe('Prometheus and Grafana', () => {
  it('are given YAML, with the alerts and the port of the API', () => {
    const prometheus = parse(read('grafana/prometheus.yml')) as {
      rule_files: string[];
      scrape_configs: { static_configs: { targets: string[] }[] }[];
    };
    assert.deepEqual(prometheus.rule_files, ['keepgate-alerts.yml']);
    assert.deepEqual(prometheus.scrape_configs[0]?.static_configs[0]?.targets, ['127.0.0.1:9470']);
    for (const kind of ['dashboard', 'datasource']) {
      assert.equal((parse(read(`grafana/provisioning-${kind}.yaml`)) as { apiVersion: number }).apiVersion, 1);
    }
  });
});

describe('the pages', () => {
  it('name metrics that exist', () => {
    for (const { path, text } of pages) {
      const named = [...text.matchAll(/`(keepgate_[a-z_]+)`/g)].map(([, name = '']) => name);
      const missing = named.filter((name) => !printed.has(name) && !families.some((family) => family.name === name));
      assert.deepEqual(missing, [], path);
    }
  });
});
