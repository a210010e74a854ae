/**
 * `keepgate completion` in the shells themselves, with a running gateway for the names; and the man page, asked of mandoc
 * whether it is good roff.
 */
import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, before, it } from 'node:test';
import { isUnpacked, packagedFile, requiredTool } from '../tool/clients.js';
import { keepgatePath, TestGateway } from '../tool/gateway.js';
import { attempt, run } from '../tool/process.js';
import { suite } from '../tool/suite.js';

let gateway: TestGateway;
let folder: string;
let environment: Record<string, string>;

async function begin(): Promise<void> {
  gateway = await TestGateway.start({
    volumes: ['disk0', 'disk1'].map((name) => ({ name, size: '16MiB', buffer: { size: '64MiB' } })),
  });
  assert.equal((await gateway.command(['snapshot', 'create', 'disk0', 'before-upgrade'])).status, 0);
  folder = await mkdtemp(join(tmpdir(), 'keepgate-completion-'));
  await mkdir(join(folder, 'bin'));
  const script = join(folder, 'bin/keepgate');
  await writeFile(script, `#!/bin/sh\nexec '${process.execPath}' '${keepgatePath}' "$@"\n`);
  await chmod(script, 0o755);
  for (const shell of ['bash', 'zsh', 'fish']) {
    await writeFile(join(folder, shell), await run(process.execPath, [keepgatePath, 'completion', shell]));
  }
  await mkdir(join(folder, 'a directory'));
  await writeFile(join(folder, 'a file'), '');
  environment = {
    PATH: `${join(folder, 'bin')}${delimiter}${process.env['PATH'] ?? ''}`,
    KEEPGATE_CONFIG: gateway.configFile,
    HOME: folder,
    TERM: 'dumb',
  };
}

async function end(): Promise<void> {
  await gateway.dispose();
  await rm(folder, { recursive: true, force: true });
}

/** Types into a shell that takes it for a person: what it shows. */
async function typed(shell: string, lines: readonly string[]): Promise<string> {
  const args = ['-qec', shell, '/dev/null'];
  const options = { cwd: folder, env: environment, input: `${lines.join('\n')}\nexit\n` };
  const { stdout, stderr } = await attempt(requiredTool('script'), args, options);
  return stdout + stderr;
}

const cases = [
  ['keepgate snap', ['snapshot']],
  ['keepgate attach --protocol ', ['nbd', 'iscsi']],
  ['keepgate attach --protocol=i', ['iscsi']],
  ['keepgate drain ', ['disk0', 'disk1']],
  ['keepgate snapshot delete disk0 ', ['before-upgrade']],
  ['keepgate snapshot delete disk0 --api unix:/nowhere ', []],
  ['keepgate receipt disk0 --out a', ['a directory', 'a file']],
  ['keepgate receipt disk0 --out=a\\ f', ['a file']],
  ['keepgate init a', ['a directory']],
] as const;

suite('completion in bash', ['script'], () => {
  before(begin);
  after(end);

  for (const [line, expected] of cases) {
    it(`of "${line}" is ${expected.join(', ') || 'nothing'}`, async () => {
      // As readline does it: $2 is what stands behind the last blank, = or :, and COMP_WORDS has those as words.
      const current = /[^ =:]*(?:\\ [^ =:]*)*$/.exec(line)?.[0] ?? '';
      const words = [...line.matchAll(/(?:\\ |[^ =:])+|[=:]/g)].map(([word]) => `'${word}'`);
      const script = [
        'source ./bash',
        `COMP_WORDS=(${words.join(' ')} ${current === '' ? "''" : ''})`,
        'COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))',
        `COMP_LINE='${line}'`,
        'COMP_POINT=${#COMP_LINE}',
        `_keepgate keepgate '${current.replaceAll('\\', '')}' "\${COMP_WORDS[COMP_CWORD-1]}"`,
        `printf '%s\\n' "\${COMPREPLY[@]}"`,
      ].join('\n');
      const { stdout, stderr } = await attempt('bash', ['-c', script], { cwd: folder, env: environment });
      assert.equal(stderr, '');
      assert.deepEqual(
        stdout
          .split('\n')
          .filter((word) => word !== '')
          .sort(),
        [...expected].sort(),
      );
    });
  }

  it('completes what somebody types', async () => {
    const shown = await typed('bash --norc --noprofile -i', ['source ./bash', 'keepgate snaps\tlis\tdisk0 --j\t']);
    assert.match(shown, /\[\{"name":"before-upgrade"/);
  });
});

suite('completion in zsh', ['zsh', 'script'], () => {
  before(begin);
  after(end);

  it('is valid', async () => {
    await run(requiredTool('zsh'), ['-n', join(folder, 'zsh')]);
  });

  it('completes what somebody types', async () => {
    const zsh = requiredTool('zsh');
    const root = packagedFile('/usr/share/zsh/functions') ?? '';
    const modules = packagedFile('/usr/lib/x86_64-linux-gnu/zsh') ?? '';
    // One that was only unpacked does not find its own files.
    const places = isUnpacked(zsh) ? [`module_path=(${modules}/*(N)); fpath=(${root} ${root}/**/*(/N))`] : [];
    const shown = await typed(`'${zsh.path}' -f -i`, [
      ...places,
      'autoload -Uz compinit; compinit -u -D; source ./zsh',
      'keepgate snaps\tlis\tdisk0 --j\t',
      'keepgate receipt disk0 --out=a\\ f\t',
    ]);
    assert.match(shown, /\[\{"name":"before-upgrade"/, shown);
    assert.match(shown, /\/a file: keep it where/, shown);
  });
});

suite('completion in fish', ['fish'], () => {
  before(begin);
  after(end);

  for (const [line, expected] of cases) {
    it(`of "${line}" is ${expected.join(', ') || 'nothing'}`, async () => {
      const fish = requiredTool('fish');
      const script = `source ./fish; complete -C '${line.replaceAll('\\', '\\\\')}'`;
      const args = ['--no-config', '-c', script];
      const { stdout, stderr } = await attempt(fish, args, { cwd: folder, env: { ...fish.env, ...environment } });
      assert.equal(stderr, '');
      const words = stdout.split('\n').map(
        (each) =>
          each
            .split('\t')[0]
            ?.replace(/^--\w+=/, '')
            .replace(/\/$/, '') ?? '',
      );
      assert.deepEqual(words.filter((word) => word !== '').sort(), [...expected].sort());
    });
  }
});

suite('the man page', ['mandoc'], () => {
  it('has no fault that mandoc finds', async () => {
    const page = await run(process.execPath, [keepgatePath, 'man']);
    const linted = await attempt(requiredTool('mandoc'), ['-T', 'lint', '-W', 'warning'], { input: page });
    assert.equal(linted.stdout, '');
    assert.equal(linted.status, 0);
    const shown = await attempt(requiredTool('mandoc'), ['-T', 'ascii', '-O', 'width=200'], { input: page });
    assert.match(shown.stdout.replaceAll(/.[\b]/g, ''), /keepgate restore volume --from url \[options\]/);
  });
});
