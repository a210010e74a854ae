/**
 * Debian's Prometheus beside the gateways of a test, with the rules of grafana/: it scrapes and evaluates twice a second,
 * and its alerts do not wait for what `for` says. And promtool, which runs rules over series without a Prometheus.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parse, stringify } from 'yaml';
import { requiredTool } from './clients.js';
import { freePorts } from './free-port.js';
import { attempt, eventually, startService, type Finished, type Service } from './process.js';

const folder = join(resolve(import.meta.dirname, '../../..'), 'grafana');
export const ruleFiles = ['keepgate-records.yml', 'keepgate-alerts.yml'].map((name) => join(folder, name));
export const ruleGroups = ['keepgate-records', 'keepgate-alerts'];

export interface Rule {
  readonly alert?: string;
  readonly record?: string;
  readonly expr: string;
  readonly for?: string;
}

interface RuleFile {
  readonly groups: readonly { readonly name: string; readonly rules: readonly Rule[] }[];
}

export async function readRules(): Promise<Rule[]> {
  const files = await Promise.all(ruleFiles.map(async (path) => parse(await readFile(path, 'utf8')) as RuleFile));
  return files.flatMap(({ groups }) => groups.flatMap(({ rules }) => rules));
}

export interface Series {
  readonly metric: Readonly<Record<string, string>>;
  /** Seconds since 1970, and the value as text. */
  readonly values: readonly (readonly [number, string])[];
}

export interface FiringAlert {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly state: string;
}

export class Prometheus {
  private constructor(
    private readonly folder: string,
    private readonly url: string,
    private readonly service: Service,
  ) {}

  /** Asks the gateways at these URLs, as the job that the alerts know. */
  static async start(gateways: readonly string[]): Promise<Prometheus> {
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-prometheus-'));
    const rules = await Promise.all(
      ruleFiles.map(async (path, index) => {
        const name = `rules-${index}.yml`;
        await writeFile(join(folder, name), (await readFile(path, 'utf8')).replaceAll(/^ +for: \w+\n/gm, ''));
        return name;
      }),
    );
    const configuration = {
      global: { scrape_interval: '500ms', scrape_timeout: '500ms', evaluation_interval: '500ms' },
      rule_files: rules,
      scrape_configs: [
        { job_name: 'keepgate', static_configs: [{ targets: gateways.map((gateway) => new URL(gateway).host) }] },
      ],
    };
    await writeFile(join(folder, 'prometheus.yml'), stringify(configuration));
    const [port] = await freePorts(1);
    const address = `127.0.0.1:${port}`;
    const service = startService(requiredTool('prometheus'), [
      `--config.file=${join(folder, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(folder, 'data')}`,
      `--web.listen-address=${address}`,
      '--log.level=warn',
    ]);
    const prometheus = new Prometheus(folder, `http://${address}`, service);
    await eventually(
      'Prometheus is ready',
      async () => {
        if (!service.isRunning()) throw new Error(`Prometheus ended\n${service.output()}`);
        return (await fetch(`http://${address}/-/ready`).catch(() => undefined))?.ok === true;
      },
      { explain: () => service.output() },
    );
    return prometheus;
  }

  /** What the expression gave, second by second, in the last seconds. */
  async range(expression: string, seconds: number): Promise<readonly Series[]> {
    const end = Date.now() / 1000;
    const query = { query: expression, start: String(end - seconds), end: String(end), step: '1' };
    return ((await this.ask('query_range', query)) as { result: readonly Series[] }).result;
  }

  async alerts(): Promise<readonly FiringAlert[]> {
    const { alerts } = (await this.ask('alerts')) as { alerts: readonly FiringAlert[] };
    return alerts.filter(({ state }) => state === 'firing');
  }

  /** Waits until the alert fires, of the volume if one is named. */
  async untilFiring(alert: string, volume?: string): Promise<FiringAlert> {
    let found: FiringAlert | undefined;
    await eventually(`${alert} fires`, async () => {
      found = (await this.alerts()).find(
        ({ labels }) => labels['alertname'] === alert && (volume === undefined || labels['volume'] === volume),
      );
      return found !== undefined;
    });
    return found as FiringAlert;
  }

  async stop(): Promise<void> {
    await this.service.stop();
    await rm(this.folder, { recursive: true, force: true });
  }

  private async ask(what: string, query: Readonly<Record<string, string>> = {}): Promise<unknown> {
    const response = await fetch(`${this.url}/api/v1/${what}?${new URLSearchParams(query).toString()}`);
    const answer = (await response.json()) as { status: string; error?: string; data: unknown };
    if (answer.status !== 'success') throw new Error(`${JSON.stringify(query)}: ${answer.error ?? ''}`);
    return answer.data;
  }
}

/** One case of `promtool test rules`: series in its notation, and what is asked of them when. */
export interface RuleCase {
  readonly name: string;
  /** Between two samples; default: 1. */
  readonly minutes?: number;
  readonly series: Readonly<Record<string, string>>;
  readonly checks: readonly { readonly at: string; readonly expr: string; readonly samples: readonly RuleSample[] }[];
}

export interface RuleSample {
  readonly labels: string;
  readonly value: number;
}

export interface RuleTestOptions {
  /** Beside the rules of grafana/. */
  readonly further?: readonly string[];
  /** Between two evaluations; default: 1. */
  readonly evaluationMinutes?: number;
}

/** Runs the rules of grafana/ over the series of each case. */
export async function testRules(cases: readonly RuleCase[], options: RuleTestOptions = {}): Promise<Finished> {
  const { further = [], evaluationMinutes = 1 } = options;
  const folder = await mkdtemp(join(tmpdir(), 'keepgate-rules-'));
  try {
    const file = join(folder, 'test.yml');
    const content = {
      rule_files: [...ruleFiles, ...further],
      evaluation_interval: `${evaluationMinutes}m`,
      group_eval_order: ruleGroups,
      tests: cases.map(({ name, minutes = 1, series, checks }) => ({
        name,
        interval: `${minutes}m`,
        input_series: Object.entries(series).map(([key, values]) => ({ series: key, values })),
        promql_expr_test: checks.map(({ at, expr, samples }) => ({ expr, eval_time: at, exp_samples: samples })),
      })),
    };
    await writeFile(file, stringify(content, { lineWidth: 0 }));
    return await attempt(requiredTool('promtool'), ['test', 'rules', file], { timeoutMs: 300_000 });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
