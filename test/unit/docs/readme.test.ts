/** What the pages say of commands, keys, states, files and tests is so in the program. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import type { Command } from 'commander';
import { loadConfiguration } from '../../../src/config/load-configuration.js';
import { gatewaySettings, volumeSettings } from '../../../src/config/schema.js';
import { isSetting } from '../../../src/config/setting.js';
import type { SettingGroup } from '../../../src/config/setting.js';
import { volumeStates } from '../../../src/ports/volume-status.js';
import { quietProgram } from '../cli/program.js';
import { anchorOf, flat, inlineCode, page, pages, projectDirectory, shellLines } from './page.js';

const program = quietProgram();

/** The command that the words name, and the words behind its name. */
function resolveCommand(words: readonly string[]): { command: Command; rest: readonly string[] } | undefined {
  let command: Command = program;
  let at = 0;
  while (command.commands.length > 0) {
    const next = command.commands.find((candidate) => candidate.name() === words[at]);
    if (next === undefined) break;
    command = next;
    at += 1;
  }
  return command === program ? undefined : { command, rest: words.slice(at) };
}

/** undefined when the line is right; else what is wrong. `whole`: it is there to be typed, not a mere mention. */
function fault(line: string, whole: boolean): string | undefined {
  const words = line.split(' ').filter((word) => word !== '');
  if (words[1] === 'help') return undefined;
  const found = resolveCommand(words.slice(1));
  if (found === undefined) return `there is no command ${words[1] ?? ''}`;
  const { command, rest } = found;
  const given = new Set<string>();
  let positionals = 0;
  for (let at = 0; at < rest.length; at += 1) {
    const word = rest[at] ?? '';
    if (!word.startsWith('--')) {
      positionals += 1;
      continue;
    }
    const option = command.options.find(({ long }) => long === word);
    if (option === undefined) return `${command.name()} has no ${word}`;
    given.add(word);
    if (option.required) at += 1;
    if (at >= rest.length && whole) return `${word} wants a value`;
  }
  if (!whole) return undefined;
  const needed = command.registeredArguments.filter(({ required }) => required).length;
  const variadic = command.registeredArguments.some((argument) => argument.variadic);
  if (positionals < needed || (!variadic && positionals > command.registeredArguments.length)) {
    return `${command.name()} takes ${command.registeredArguments.length} arguments, not ${positionals}`;
  }
  const missing = command.options.find(({ mandatory, long }) => mandatory && !given.has(long ?? ''));
  return missing === undefined ? undefined : `${command.name()} needs ${missing.long ?? missing.flags}`;
}

const asKeepgate = (line: string): string =>
  line.replace(/^(sudo -u \w+ )?node \S*dist\/src\/cli\/main\.js /, 'keepgate ');

describe('the README', () => {
  it('names exactly two commands that build and run something', () => {
    const { blocks } = page('README.md');
    const npm = blocks
      .filter(({ language, text }) => language === 'sh' && /\bnpm\b/.test(text))
      .map(({ text }) => text);
    assert.deepEqual(npm, ['npm ci && npm start\n', 'npm ci && npm test\n']);
  });
});

describe('commands in the pages', () => {
  for (const { path } of pages) {
    it(`of ${path} exist, with their options`, () => {
      const typed = shellLines(page(path))
        .map(asKeepgate)
        .filter((line) => line.startsWith('keepgate '));
      const mentioned = inlineCode(page(path))
        .map(asKeepgate)
        .filter((code) => code.startsWith('keepgate '));
      const faults = [
        ...typed.map((line) => [line, fault(line, true)] as const),
        ...mentioned.map((line) => [line, fault(line, false)] as const),
      ].filter(([, wrong]) => wrong !== undefined);
      assert.deepEqual(faults, []);
    });
  }

  it('are found at all, and wrong ones too', () => {
    const lines = shellLines(page('README.md')).filter((line) => line.startsWith('keepgate '));
    assert.ok(lines.length >= 8, lines.join('\n'));
    assert.match(fault('keepgate nothing', true) ?? '', /no command/);
    assert.match(fault('keepgate drain', true) ?? '', /takes 1 arguments/);
    assert.match(fault('keepgate drain disk0 --hard', true) ?? '', /has no --hard/);
    assert.match(fault('keepgate restore disk0 --full', true) ?? '', /needs --from/);
  });

  it('of npm are scripts', () => {
    const { scripts } = JSON.parse(readFileSync(join(projectDirectory, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>;
    };
    for (const { path, text } of pages) {
      for (const [, name = ''] of text.matchAll(/npm run ([\w:]+)/g))
        assert.ok(name in scripts, `${path}: npm run ${name}`);
    }
    assert.ok('start' in scripts && 'test' in scripts);
  });
});

describe('configuration in the pages', () => {
  const base = { dataDir: 'dataDir: /srv\n', store: 'store: { url: "file:///srv/store" }\n' };
  const blocks = pages.flatMap(({ path, blocks: found }) =>
    found.filter(({ language }) => language === 'yaml').map(({ text }) => ({ path, text })),
  );

  it('is accepted', () => {
    assert.ok(blocks.length >= 3);
    for (const { path, text } of blocks) {
      const volumes = /^volumes:/m.test(text) ? '' : 'volumes: [{ name: disk0, size: 1GiB }]\n';
      const rest = Object.entries(base).map(([key, line]) => (new RegExp(`^${key}:`, 'm').test(text) ? '' : line));
      const content = `${text}${rest.join('')}${volumes}`;
      const file = { name: `${path}, a yaml block`, directory: '/', content };
      assert.doesNotThrow(() => loadConfiguration({ file, environment: {}, workingDirectory: '/' }), content);
    }
  });

  it('has keys, wherever one is mentioned', () => {
    const groups: readonly SettingGroup[] = [gatewaySettings, volumeSettings];
    const known = (key: string): boolean =>
      groups.some((group) => {
        let node: SettingGroup[string] | undefined = group;
        for (const part of key.split('.')) node = node === undefined || isSetting(node) ? undefined : node[part];
        return node !== undefined;
      });
    const tops = new Set(groups.flatMap((group) => Object.keys(group).filter((key) => !isSetting(group[key] ?? {}))));
    let seen = 0;
    for (const each of pages) {
      for (const code of inlineCode(each)) {
        const [, key = ''] = /^(\w+(?:\.\w+)+)(?::|$)/.exec(code) ?? [];
        if (!tops.has(key.split('.')[0] ?? '')) continue;
        seen += 1;
        assert.ok(known(key), `${each.path}: \`${key}\` is no key of the configuration`);
      }
    }
    assert.ok(seen >= 5, `only ${seen} keys were found`);
  });
});

describe('the operations page', () => {
  const tableCells = (heading: string): string[] => {
    const section = page('docs/operations.md').text.split(`## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
    return section.split('\n').flatMap((line) => {
      const first = /^\| (`[^|]+`) \|/.exec(line)?.[1] ?? '';
      return [...first.matchAll(/`([^`]+)`/g)].map(([, cell = '']) => cell);
    });
  };

  it('explains every state of a volume', () => {
    assert.deepEqual(tableCells('States of a volume').sort(), [...volumeStates].sort());
  });

  it('explains every mode of replication', () => {
    const modes = ['idle', 'draining', 'tracking', 'resyncing', 'blocked', 'off'];
    assert.deepEqual(tableCells('Modes of replication').sort(), modes.sort());
  });
});

describe('links and references', () => {
  it('of the pages lead to files and headings', () => {
    let seen = 0;
    for (const { path, prose } of pages) {
      for (const [, target = ''] of prose.matchAll(/\]\(([^)]+)\)/g)) {
        if (/^https?:/.test(target)) continue;
        seen += 1;
        const [file = '', anchor] = target.split('#');
        const linked = file === '' ? path : join(dirname(path), file);
        assert.ok(existsSync(join(projectDirectory, linked)), `${path}: ${target}`);
        if (anchor === undefined) continue;
        const text = readFileSync(join(projectDirectory, linked), 'utf8');
        const anchors = [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => anchorOf(heading));
        assert.ok(anchors.includes(anchor), `${path}: ${target}`);
      }
    }
    assert.ok(seen >= 10);
  });

  it('to files of the project in the pages are right', () => {
    for (const each of pages) {
      for (const code of inlineCode(each)) {
        if (!/^(src|test|deploy|grafana|docs|native)\/[\w./-]*$/.test(code) || code === 'test/.cache') continue;
        assert.ok(existsSync(join(projectDirectory, code)), `${each.path}: \`${code}\``);
      }
    }
  });

  it('to tests name tests that exist', () => {
    let seen = 0;
    for (const { path, prose } of pages) {
      // A path, then titles in quotes, separated by commas or "and".
      for (const [, file = '', titles = ''] of flat(prose).matchAll(/`(test\/[^`]+\.ts)`((?:,? (?:and )?"[^"]+")+)/g)) {
        const source = flat(readFileSync(join(projectDirectory, file), 'utf8'));
        for (const [, title = ''] of titles.matchAll(/"([^"]+)"/g)) {
          seen += 1;
          assert.ok(source.includes(title), `${path}: ${file} has no test "${title}"`);
        }
      }
    }
    assert.ok(seen >= 25, `only ${seen} were found`);
  });
});
