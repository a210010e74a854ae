/**
 * Every metric that the dashboards, the rules and the pages name is one that the gateway prints, or that the rules record;
 * and every alert has its section in the operations page.
 */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { parse } from 'yaml';
import { createMetrics, families } from '../../../src/metrics/registry.js';
import { anchorOf, page, pages, projectDirectory } from './page.js';

interface Panel {
  readonly id: number;
  readonly title: string;
  readonly type: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly description: string;
  readonly fieldConfig: { readonly defaults: { readonly unit?: string } };
  readonly targets: readonly { readonly refId: string; readonly expr: string }[];
}

interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly query: unknown }[] };
}

const read = (path: string): string => readFileSync(join(projectDirectory, path), 'utf8');
const dashboards = readdirSync(join(projectDirectory, 'grafana'))
  .filter((name) => name.endsWith('.json'))
  .map((name) => ({ name, ...(JSON.parse(read(`grafana/${name}`)) as Dashboard) }));

interface Rule {
  readonly alert?: string;
  readonly record?: string;
  readonly expr: string;
  readonly labels?: { readonly severity: string };
  readonly annotations?: { readonly summary: string; readonly runbook_url: string };
}

const rulesOf = (path: string): readonly Rule[] =>
  (parse(read(path)) as { groups: { rules: Rule[] }[] }).groups.flatMap(({ rules }) => rules);
const alerts = rulesOf('grafana/keepgate-alerts.yml');
const records = rulesOf('grafana/keepgate-records.yml');

/** Every series that a scrape prints: of a histogram its three. */
const printed = new Set<string>();

function namesIn(text: string): string[] {
  return [...text.matchAll(/(?:\bvolume:)?\b(?:keepgate|process|nodejs)_[a-z0-9_]+(?::\w+)?/g)].map(([name]) => name);
}

function unknownIn(text: string): string[] {
  return namesIn(text).filter((name) => !printed.has(name));
}

before(async () => {
  for (const { record } of records) printed.add(record ?? '');
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

describe('the dashboards', () => {
  it('are four, of different names, each with few panels', () => {
    assert.deepEqual(dashboards.map(({ uid, name }) => [uid, name]).sort(), [
      ['keepgate-frontends', 'keepgate-frontends.json'],
      ['keepgate-overview', 'keepgate-overview.json'],
      ['keepgate-replication', 'keepgate-replication.json'],
      ['keepgate-volume', 'keepgate-volume.json'],
    ]);
    assert.equal(new Set(dashboards.map(({ title }) => title)).size, 4);
    for (const { name, panels } of dashboards) assert.ok(panels.length <= 18, name);
  });

  for (const { name: file, panels, templating, ...rest } of dashboards) {
    it(`${file} asks for metrics that exist`, () => {
      for (const { expr } of panels.flatMap(({ targets }) => targets)) {
        assert.deepEqual(unknownIn(expr), [], expr);
        assert.notEqual(namesIn(expr).length, 0, expr);
      }
      for (const { name, query } of templating.list) assert.deepEqual(unknownIn(JSON.stringify(query)), [], name);
    });

    it(`${file} uses the variables that it has, all of them`, () => {
      const used = [...JSON.stringify({ panels, templating, rest }).matchAll(/\$\{?(\w+)/g)].map(
        ([, name = '']) => name,
      );
      const own = new Set(used.filter((name) => !name.startsWith('__')));
      assert.deepEqual([...own].sort(), templating.list.map(({ name }) => name).sort());
    });

    it(`${file} has panels that do not overlap, each with its own id, a unit and a word on what it shows`, () => {
      assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
      const taken = new Set<string>();
      for (const { title, gridPos, description, fieldConfig } of panels) {
        assert.ok(description.length > 10, title);
        assert.ok(fieldConfig.defaults.unit !== undefined, title);
        assert.ok(gridPos.x + gridPos.w <= 24, title);
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
            assert.ok(!taken.has(`${x} ${y}`), `${title} lies on another panel`);
            taken.add(`${x} ${y}`);
          }
        }
      }
    });
  }
});

describe('the rules', () => {
  it('ask for metrics that exist', () => {
    assert.ok(alerts.length >= 5 && records.length >= 2);
    for (const { alert, record, expr } of [...alerts, ...records])
      assert.deepEqual(unknownIn(expr), [], alert ?? record);
  });

  it('have an alert for each state that needs a person, for rot, and for snapshots', () => {
    const watched = new Set(alerts.flatMap(({ expr }) => namesIn(expr)));
    for (const name of ['checksum_errors_total', 'scrub_errors_total', 'snapshot_failures_total', 'snapshots'])
      assert.ok(watched.has(`keepgate_${name}`), name);
    for (const state of ['failed', 'fenced', 'stalled'])
      assert.ok(
        alerts.some(({ expr }) => expr.includes(`state="${state}"`)),
        state,
      );
  });

  it('lead from each alert to its section in the operations page, and there is none without an alert', () => {
    const section = page('docs/operations.md').text.split('\n## Runbooks\n')[1]?.split('\n## ')[0] ?? '';
    const headings = [...section.matchAll(/^### (.+)$/gm)].map(([, heading = '']) => heading);
    assert.deepEqual(
      headings,
      alerts.map(({ alert }) => alert),
    );
    for (const { alert = '', labels, annotations } of alerts) {
      assert.equal(annotations?.runbook_url, `docs/operations.md#${anchorOf(alert)}`);
      assert.match(labels?.severity ?? '', /^(critical|warning)$/, alert);
      assert.ok(annotations.summary.length > 20, alert);
    }
  });
});

describe('Prometheus and Grafana', () => {
  it('are given YAML, with the alerts and the port of the API', () => {
    const prometheus = parse(read('grafana/prometheus.yml')) as {
      rule_files: string[];
      scrape_configs: { static_configs: { targets: string[] }[] }[];
    };
    assert.deepEqual(prometheus.rule_files, ['keepgate-records.yml', 'keepgate-alerts.yml']);
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
