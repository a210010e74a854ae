/**
 * The README, line by line, as a new user would: every command that it shows runs here, in the order in which it stands
 * there, or in a guest with a kernel of its own (test/guest/readme.test.ts), or says why it runs nowhere. Ports are the
 * system's, folders this test's.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { page, shellLines } from '../unit/docs/page.js';
import { linesInGuest } from '../guest/readme-script.js';
import { startDiskS3 } from '../fake/disk-s3.js';
import { tool, requiredTool } from '../tool/clients.js';
import { keepgatePath } from '../tool/gateway.js';
import { attempt, eventually, startService } from '../tool/process.js';
import type { Finished, Service } from '../tool/process.js';

type Where =
  /** Below. */
  'here' | { readonly nowhere: string };

const copyLines =
  'keepgate restore disk0 --from s3://my-bucket/keepgate --key-file key --data-dir ./restored --as disk0-copy';
const takeOver =
  'keepgate restore disk0 --config /etc/keepgate/keepgate.yaml --from s3://my-bucket/keepgate --take-over';

/** Beside those that a guest takes from the page itself (`linesInGuest`). */
const lines: Readonly<Record<string, Where>> = {
  'npm ci && npm start': 'here',
  'npm ci && npm test': { nowhere: 'it is what runs this' },
  'alias keepgate="node $PWD/dist/src/cli/main.js"': {
    nowhere: 'it is for a shell: what it stands for runs here for each line',
  },
  'source <(keepgate completion bash)': {
    nowhere: 'it is for a shell: test/interop/completion.test.ts has bash, zsh and fish do it',
  },
  'keepgate attach demo --protocol nbd': 'here',
  'keepgate attach demo --protocol iscsi': 'here',
  'nbdinfo nbd://127.0.0.1:10809/demo': 'here',
  'iscsi-ls -s iscsi://127.0.0.1:3260': 'here',
  'keepgate status': 'here',
  'keepgate drain demo': 'here',
  'keepgate remote ls file://$PWD/keepgate-data/store --key-file keepgate-data/key': 'here',
  'keepgate init /etc/keepgate': 'here',
  'keepgate doctor --config /etc/keepgate/keepgate.yaml': 'here',
  'keepgate serve --config /etc/keepgate/keepgate.yaml': 'here',
  'keepgate remote ls s3://my-bucket/keepgate --key-file key': 'here',
  [copyLines]: 'here',
  'keepgate serve --config restored.yaml': 'here',
  'keepgate attach disk0-copy --config restored.yaml': 'here',
  [takeOver]: 'here',
  'prometheus --config.file=grafana/prometheus.yml': {
    nowhere: 'it scrapes a fixed port; test/interop/prometheus.test.ts runs one that scrapes a gateway',
  },
};

/** What a reader's machine has, and this test has elsewhere. */
class Reader {
  readonly #done = new Set<string>();
  readonly #folder: string;
  readonly #env: Record<string, string>;
  #service: Service | undefined;

  constructor(folder: string, env: Record<string, string>) {
    this.#folder = folder;
    this.#env = {
      KEEPGATE_NBD_LISTEN: '127.0.0.1:0',
      KEEPGATE_ISCSI_LISTEN: '127.0.0.1:0',
      KEEPGATE_API_LISTEN: '127.0.0.1:0',
      ...env,
    };
  }

  get done(): readonly string[] {
    return [...this.#done];
  }

  /** A line of the README that ends by itself, with success. `further` arguments are those that the README speaks of. */
  async run(line: string, further: readonly string[] = []): Promise<string> {
    const finished = await this.attempt(line, further);
    assert.equal(finished.status, 0, `${line}\n${finished.stdout}${finished.stderr}`);
    return finished.stdout;
  }

  attempt(line: string, further: readonly string[] = []): Promise<Finished> {
    const [program = '', ...args] = this.#words(line);
    const { cwd, env } = this.#options();
    if (program === 'keepgate') return attempt(process.execPath, [keepgatePath, ...args, ...further], { cwd, env });
    return attempt(requiredTool(program as 'nbdinfo'), [...args, ...further], { cwd, env });
  }

  /** A line that serves, until `stop`; with its addresses. */
  async serve(line: string, dataDir: string): Promise<{ readonly nbd: string; readonly iscsi: string }> {
    const args = line.endsWith('npm start') ? ['keepgate', 'serve'] : this.#words(line);
    this.#done.add(line);
    const service = startService(process.execPath, [keepgatePath, ...args.slice(1)], this.#options());
    this.#service = service;
    const runFile = join(this.#folder, dataDir, 'run.json');
    let run: { pid: number; nbd: string[]; iscsi: string[]; api: string } | undefined;
    const ready = async (): Promise<boolean> => {
      assert.ok(service.isRunning(), service.output());
      run = existsSync(runFile) ? (JSON.parse(await readFile(runFile, 'utf8')) as typeof run) : undefined;
      if (run?.pid !== service.pid) return false;
      return (await fetch(`http://${run.api}/readyz`).catch(() => undefined))?.ok === true;
    };
    await eventually('it serves', ready, { explain: () => service.output() });
    return { nbd: run?.nbd[0] ?? '', iscsi: run?.iscsi[0] ?? '' };
  }

  async stop(): Promise<void> {
    await this.#service?.stop();
  }

  #words(line: string): string[] {
    this.#done.add(line);
    return line.replaceAll('$PWD', this.#folder).replaceAll('/etc/keepgate', join(this.#folder, 'etc')).split(' ');
  }

  #options(): { cwd: string; env: Record<string, string> } {
    return { cwd: this.#folder, env: this.#env };
  }
}

describe('the README', () => {
  it('shows commands of which each is run, here or in a guest, or says why not', () => {
    const shown = new Set(shellLines(page('README.md')));
    assert.deepEqual(
      [...shown].filter((line) => !(line in lines) && !linesInGuest.includes(line)),
      [],
      'no test takes them',
    );
    assert.deepEqual(
      Object.keys(lines).filter((line) => !shown.has(line)),
      [],
      'the README has them no more',
    );
  });

  it('leads from nothing to a volume that is restored elsewhere', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-readme-'));
    const s3 = await startDiskS3();
    const reader = new Reader(folder, { AWS_ACCESS_KEY_ID: 'any', AWS_SECRET_ACCESS_KEY: 'any' });
    try {
      const { nbd, iscsi } = await reader.serve('npm ci && npm start', 'keepgate-data');
      assert.match(await reader.run('keepgate attach demo --protocol nbd'), /nbd-watch \/dev\/nbd\d+ /);
      assert.match(await reader.run('keepgate attach demo --protocol iscsi'), /iscsiadm .*--login/);
      const clients: readonly (readonly [string, string])[] = [
        ['nbdinfo nbd://127.0.0.1:10809/demo', `nbdinfo nbd://${nbd}/demo`],
        ['iscsi-ls -s iscsi://127.0.0.1:3260', `iscsi-ls -s iscsi://${iscsi}`],
      ];
      const absent = clients.filter(([line]) => typeof tool(line.split(' ')[0] as 'nbdinfo') === 'string');
      for (const client of clients) {
        if (!absent.includes(client)) assert.match(await reader.run(client[1]), /demo|export/);
      }
      assert.match(await reader.run('keepgate status'), /demo/);
      await reader.run('keepgate drain demo');
      const listed = 'keepgate remote ls file://$PWD/keepgate-data/store --key-file keepgate-data/key';
      assert.match(await reader.run(listed), /demo/);
      await reader.stop();

      await reader.run('keepgate init /etc/keepgate');
      await writeFile(join(folder, 'key'), await readFile(join(folder, 'etc/key')), { mode: 0o600 });
      // The README's configuration, with its lines for a store that is not AWS.
      const [least = ''] = page('README.md').blocks.flatMap(({ language, text }) =>
        language === 'yaml' ? [text] : [],
      );
      const configuration = least
        .replace('/var/lib/keepgate', join(folder, 'lib'))
        .replace('/etc/keepgate', join(folder, 'etc'))
        .replace('  region:', `  endpoint: ${s3.endpoint}\n  forcePathStyle: true\n  region:`);
      await writeFile(join(folder, 'etc/keepgate.yaml'), configuration);
      const doctor = await reader.attempt('keepgate doctor --config /etc/keepgate/keepgate.yaml');
      assert.match(doctor.stdout, /^ok +store: /m, doctor.stdout + doctor.stderr);
      const serve = 'keepgate serve --config /etc/keepgate/keepgate.yaml';
      await reader.serve(serve, 'lib');
      await reader.stop();

      const notAws = ['--endpoint', s3.endpoint, '--force-path-style', '--region', 'eu-central-1'];
      assert.match(await reader.run('keepgate remote ls s3://my-bucket/keepgate --key-file key', notAws), /disk0/);
      assert.match(await reader.run(copyLines, notAws), /disk0-copy/);
      const restored = page('README.md').blocks.find(({ text }) => text.startsWith('dataDir: ./restored'))?.text ?? '';
      await writeFile(join(folder, 'restored.yaml'), restored);
      await reader.serve('keepgate serve --config restored.yaml', 'restored');
      const attach = await reader.run('keepgate attach disk0-copy --config restored.yaml');
      assert.match(attach, /disk0-copy/);
      await reader.stop();

      await rm(join(folder, 'lib'), { recursive: true });
      await mkdir(join(folder, 'lib'));
      await reader.run(takeOver);
      await reader.serve(serve, 'lib');
      await reader.stop();

      const here = Object.entries(lines).flatMap(([line, where]) => (where === 'here' ? [line] : []));
      const left = here.filter((line) => !reader.done.includes(line) && !clients.some(([shown]) => shown === line));
      assert.deepEqual(left, []);
      for (const [line] of absent) t.diagnostic(`left out, its client is missing: ${line}`);
    } finally {
      await reader.stop();
      await s3.stop();
      await rm(folder, { recursive: true, force: true });
    }
  });
});
