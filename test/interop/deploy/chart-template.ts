/**
 * Renders the chart's templates, so that what they become can be looked at where there is no Helm. It is not Helm: it knows
 * `.Values`, `.Release`, `.Chart`, `default`, `toYaml`, `nindent`, `include`, `define`, `if`, `else`, `not` and `fail`, as far as
 * the templates use them, and throws on anything else.
 */
import { stringify } from 'yaml';

export type Scope = Readonly<Record<string, unknown>>;

type Node = { readonly text: string } | { readonly code: string } | Branch;
interface Branch {
  readonly condition: string;
  readonly then: readonly Node[];
  readonly otherwise: readonly Node[];
}

/** "{{-" and "-}}" take the blanks beside them along. */
function tokens(source: string): ({ text: string } | { code: string })[] {
  const found: ({ text: string } | { code: string })[] = [];
  let at = 0;
  let trim = false;
  const add = (text: string, trimEnd: boolean): void => {
    const started = trim ? text.trimStart() : text;
    found.push({ text: trimEnd ? started.trimEnd() : started });
  };
  for (const match of source.matchAll(/\{\{(-?)\s*([\s\S]*?)\s*(-?)\}\}/g)) {
    add(source.slice(at, match.index), match[1] === '-');
    found.push({ code: match[2] ?? '' });
    trim = match[3] === '-';
    at = match.index + match[0].length;
  }
  add(source.slice(at), false);
  return found;
}

export class ChartTemplates {
  readonly #defined = new Map<string, readonly Node[]>();
  readonly #scope: Scope;

  constructor(scope: Scope, helpers: string) {
    this.#scope = scope;
    this.#parse(tokens(helpers));
  }

  render(source: string): string {
    return this.#write(this.#parse(tokens(source)));
  }

  #parse(left: ({ text: string } | { code: string })[]): Node[] {
    return this.#block(left, () => false).nodes;
  }

  #block(
    left: ({ text: string } | { code: string })[],
    ends: (code: string) => boolean,
  ): { readonly nodes: Node[]; readonly end: string } {
    const nodes: Node[] = [];
    for (;;) {
      const token = left.shift();
      if (token === undefined) return { nodes, end: '' };
      if ('text' in token) nodes.push(token);
      else if (ends(token.code)) return { nodes, end: token.code };
      else if (token.code.startsWith('if ')) {
        const closes = (code: string): boolean => code === 'end' || code === 'else';
        const then = this.#block(left, closes);
        const otherwise = then.end === 'else' ? this.#block(left, (code) => code === 'end').nodes : [];
        nodes.push({ condition: token.code.slice(3), then: then.nodes, otherwise });
      } else if (token.code.startsWith('define ')) {
        this.#defined.set(JSON.parse(token.code.slice(7)) as string, this.#block(left, (code) => code === 'end').nodes);
      } else nodes.push(token);
    }
  }

  #write(nodes: readonly Node[]): string {
    return nodes
      .map((node) => {
        if ('text' in node) return node.text;
        if ('code' in node) return textOf(this.#value(node.code));
        return this.#write(isTrue(this.#value(node.condition)) ? node.then : node.otherwise);
      })
      .join('');
  }

  /** A pipeline: each part gets what came before it. */
  #value(code: string): unknown {
    const parts = code.split('|').map((part) => part.trim());
    return parts.slice(1).reduce((value, part) => this.#piped(part, value), this.#head(parts[0] ?? ''));
  }

  #head(code: string): unknown {
    const [word = '', ...rest] = code.split(/\s+/);
    const argument = rest.join(' ');
    if (word === 'not') return !isTrue(this.#value(argument));
    if (word === 'fail') throw new Error(JSON.parse(argument) as string);
    if (word === 'toYaml') return stringify(this.#value(argument)).trimEnd();
    if (word === 'include') {
      const nodes = this.#defined.get(JSON.parse(rest[0] ?? '') as string);
      if (nodes === undefined || rest[1] !== '.') throw new Error(`{{ ${code} }}`);
      return this.#write(nodes);
    }
    if (rest.length > 0 || !word.startsWith('.')) throw new Error(`{{ ${code} }} is not known here`);
    return word
      .slice(1)
      .split('.')
      .reduce<unknown>((value, key) => {
        // Helm would write nothing; a key that is not in values.yaml is a mistake.
        if (typeof value !== 'object' || value === null || !(key in value)) throw new Error(`there is no ${word}`);
        return (value as Scope)[key];
      }, this.#scope);
  }

  #piped(code: string, value: unknown): unknown {
    const [word, argument = ''] = code.split(/\s+/);
    if (word === 'default') return isTrue(value) ? value : this.#value(argument);
    if (word === 'nindent') {
      const blanks = ' '.repeat(Number(argument));
      return `\n${textOf(value)
        .split('\n')
        .map((line) => (line === '' ? line : blanks + line))
        .join('\n')}`;
    }
    throw new Error(`| ${code} is not known here`);
  }
}

/** As Go's templates see it. */
function isTrue(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (typeof value === 'object' && value !== null) return Object.keys(value).length > 0;
  return Boolean(value);
}

function textOf(value: unknown): string {
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return String(value);
  throw new Error(`${JSON.stringify(value)} is no text`);
}
