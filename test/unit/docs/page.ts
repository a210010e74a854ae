/** The pages that a user reads, taken apart: code blocks, inline code, links. Line breaks inside a paragraph are blanks. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

export const projectDirectory = resolve(import.meta.dirname, '../../../..');

export interface Block {
  /** As the fence says: sh, yaml, ini; empty for a drawing. */
  readonly language: string;
  readonly text: string;
}

export interface Page {
  readonly path: string;
  readonly text: string;
  readonly blocks: readonly Block[];
  /** Everything that is not in a block. */
  readonly prose: string;
}

export function readPage(path: string): Page {
  return takeApart(path, readFileSync(join(projectDirectory, path), 'utf8'));
}

function takeApart(path: string, text: string): Page {
  const blocks: Block[] = [];
  const fence = /^( *)```(\w*)\n([\s\S]*?)^\1```$/gm;
  const prose = text.replace(fence, (_, indent: string, language: string, content: string) => {
    blocks.push({ language, text: content.replaceAll(new RegExp(`^${indent}`, 'gm'), '') });
    return '';
  });
  return { path, text, blocks, prose };
}

/** What stands under a heading of the second level. */
export function section({ path, text }: Page, heading: string): Page {
  const [, behind] = text.split(`\n## ${heading}\n`);
  if (behind === undefined) throw new Error(`${path} has no section "${heading}"`);
  return takeApart(path, behind.split('\n## ')[0] ?? '');
}

/** Paragraphs, list items and table cells may break anywhere: one blank for any white space. */
export function flat(text: string): string {
  return text.replaceAll(/\s+/g, ' ');
}

export function inlineCode({ prose }: Page): string[] {
  return [...flat(prose).matchAll(/`([^`]+)`/g)].map(([, code = '']) => code);
}

/** As GitHub makes it of a heading. */
export function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s-]/gu, '')
    .trim()
    .replaceAll(' ', '-');
}

/** Lines of the sh blocks, continued ones joined, without comments. */
export function shellLines({ blocks }: Pick<Page, 'blocks'>): string[] {
  return blocks
    .filter(({ language }) => language === 'sh')
    .flatMap(({ text }) => text.replaceAll(/\\\n\s*/g, '').split('\n'))
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

/** Lines of the one sh block that has such a line. */
export function linesBeside({ path, blocks }: Page, wanted: RegExp): readonly string[] {
  const [lines, second] = blocks
    .map((block) => shellLines({ blocks: [block] }))
    .filter((candidate) => candidate.some((line) => wanted.test(line)));
  if (lines === undefined || second !== undefined) {
    throw new Error(`${path} has ${lines === undefined ? 'no block' : 'several blocks'} with ${String(wanted)}`);
  }
  return lines;
}

export const pages: readonly Page[] = [
  'README.md',
  'deploy/README.md',
  'docs/architecture.md',
  'docs/durability.md',
  'docs/errors.md',
  'docs/formats.md',
  'docs/operations.md',
  'docs/comparison.md',
  'docs/performance.md',
  'docs/providers.md',
  'docs/scale.md',
  'docs/testing.md',
  'docs/threat-model.md',
].map(readPage);

export function page(path: string): Page {
  const found = pages.find((candidate) => candidate.path === path);
  if (found === undefined) throw new Error(`${path} is not among the pages`);
  return found;
}
