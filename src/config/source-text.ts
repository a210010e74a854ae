/**
 * A configuration file as text: parses YAML 1.2 and remembers where each key stands, so that every later problem can
 * name line and column.
 */
import { LineCounter, isAlias, isMap, isScalar, isSeq, parseDocument } from 'yaml';
import type { Document, Node } from 'yaml';
import { configurationError } from './problem.js';

export interface SourceText {
  /** Plain objects, arrays and scalars; a mapping, empty for an empty file. */
  readonly value: Readonly<Record<string, unknown>>;
  /** "FILE:LINE:COLUMN" of a key path such as "volumes[0].size"; for a key that is missing, of what should hold it. */
  where(path: string): string;
}

/** @throws GatewayError config-invalid, with one line per syntax error */
export function parseSource(fileName: string, content: string): SourceText {
  const lines = new LineCounter();
  const document = parseDocument(content, { version: '1.2', lineCounter: lines, prettyErrors: false });
  const place = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${fileName}:${line}:${col}`;
  };
  const refuse = (where: string, text: string): never => {
    throw configurationError([{ code: 'config-invalid', where, key: '', text }]);
  };
  if (document.errors.length > 0) {
    throw configurationError(
      document.errors.map((error) => ({
        code: 'config-invalid',
        where: place(error.pos[0]),
        key: '',
        text: `this is not YAML: ${error.message}`,
      })),
    );
  }
  const places = new Map<string, string>();
  if (document.contents !== null) remember(document, document.contents, '', places, place);
  let value: unknown;
  try {
    value = document.toJS() ?? {};
  } catch (error) {
    return refuse(fileName, `this is not YAML: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return refuse(
      `${fileName}:1:1`,
      'this is not a mapping of keys to values; write for example dataDir: /var/lib/keepgate',
    );
  }
  return { value: value as Record<string, unknown>, where: (path) => nearestPlace(places, path, `${fileName}:1:1`) };
}

/** "volumes[0].size" to "volumes[0]" to "volumes" to "". */
export function parentPath(path: string): string {
  return path.replace(/(^|\.)[^.[\]]*$|\[\d+\]$/, '');
}

function nearestPlace(places: ReadonlyMap<string, string>, path: string, otherwise: string): string {
  for (let at = path; at !== ''; at = parentPath(at)) {
    const found = places.get(at);
    if (found !== undefined) return found;
  }
  return otherwise;
}

function remember(
  document: Document,
  node: Node,
  path: string,
  places: Map<string, string>,
  place: (offset: number) => string,
): void {
  const target = isAlias(node) ? node.resolve(document) : node;
  if (isMap(target)) {
    for (const { key, value } of target.items) {
      if (!isScalar(key)) continue;
      const keyPath = path === '' ? String(key.value) : `${path}.${String(key.value)}`;
      places.set(keyPath, place(key.range?.[0] ?? 0));
      if (value !== null) remember(document, value as Node, keyPath, places, place);
    }
  } else if (isSeq(target)) {
    target.items.forEach((item, index) => {
      const itemPath = `${path}[${index}]`;
      const offset = (item as Node).range?.[0];
      if (offset !== undefined) places.set(itemPath, place(offset));
      remember(document, item as Node, itemPath, places, place);
    });
  }
}
