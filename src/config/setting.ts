/**
 * One scalar (or list) of the configuration: its default as a user would write it, and a check that turns what was
 * written into what the program uses, or says what is wrong. Settings are convict schema items: convict merges file,
 * environment and defaults, and calls the check through the formats that are registered here.
 */
import convict from 'convict';
import { WrongValue, shown } from './problem.js';

export interface Setting<T> {
  readonly format: 'setting' | 'flag' | 'list' | 'structure';
  /** As a user would write it; null: not given. */
  readonly default: unknown;
  readonly nullable: boolean;
  readonly check: (raw: unknown) => T;
  /** Filled in from the key's path: nbd.tlsPsk is KEEPGATE_NBD_TLS_PSK. */
  readonly env?: string;
}

export interface SettingGroup {
  readonly [key: string]: SettingGroup | Setting<unknown>;
}

/** What a group of settings becomes once every check was made. */
export type Checked<S> = S extends Setting<infer T> ? T : { readonly [K in keyof S]: Checked<S[K]> };

export function isSetting(node: SettingGroup | Setting<unknown>): node is Setting<unknown> {
  return typeof node['check'] === 'function';
}

/** Has a default. */
export function setting<T>(fallback: unknown, check: (raw: unknown) => T): Setting<T> {
  return { format: 'setting', default: fallback, nullable: false, check };
}

/** May be left out. */
export function optional<T>(check: (raw: unknown) => T): Setting<T | undefined> {
  return {
    format: 'setting',
    default: null,
    nullable: true,
    check: (raw) => (raw === null ? undefined : check(raw)),
  };
}

export function required<T>(example: string, check: (raw: unknown) => T): Setting<T> {
  return setting<T>(null, (raw) => {
    if (raw === null) throw new WrongValue(`is missing; write for example ${example}`);
    return check(raw);
  });
}

export function flag(fallback: boolean): Setting<boolean> {
  return {
    format: 'flag',
    default: fallback,
    nullable: false,
    check: (raw) => {
      if (typeof raw !== 'boolean') throw new WrongValue(`${shown(raw)} is not a switch; write true or false`);
      return raw;
    },
  };
}

export function list<T>(fallback: readonly unknown[], check: (raw: unknown) => T): Setting<readonly T[]> {
  return {
    format: 'list',
    default: fallback,
    nullable: false,
    check: (raw) => {
      if (!Array.isArray(raw)) throw new WrongValue(`${shown(raw)} is not a list; write ["A", "B"]`);
      return raw.map((item) => check(item));
    },
  };
}

/** A list or mapping that is checked elsewhere; in the environment it is JSON. */
export function structure<T>(fallback: unknown, check: (raw: unknown) => T): Setting<T> {
  return { format: 'structure', default: fallback, nullable: true, check };
}

export function text(raw: unknown): string {
  if (typeof raw !== 'string' || raw.trim() === '') throw new WrongValue(`${shown(raw)} is not a text`);
  return raw;
}

export function oneOf<const T extends string>(...values: readonly T[]): (raw: unknown) => T {
  return (raw) => {
    const found = values.find((value) => value === raw);
    if (found === undefined) throw new WrongValue(`${shown(raw)} is not one of ${values.join(', ')}`);
    return found;
  };
}

function parseJson(value: unknown): unknown {
  try {
    return JSON.parse(String(value));
  } catch {
    return value;
  }
}

function register(name: Setting<unknown>['format'], coerce: (value: unknown) => unknown): void {
  convict.addFormat({
    name,
    coerce,
    validate: (value: unknown, item: convict.SchemaObj) => {
      (item as unknown as Setting<unknown>).check(value);
    },
  });
}

// Coercion is for strings only, as the environment gives them; a wrong one stays as it is for the check to name.
register('setting', (value) => value);
register('flag', (value) => (value === 'true' ? true : value === 'false' ? false : value));
register('list', (value) =>
  String(value)
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== ''),
);
register('structure', parseJson);

/** Gives every setting of a group its environment variable. */
export function withEnvironment<S extends SettingGroup>(group: S, prefix: string): S {
  const named: Record<string, SettingGroup | Setting<unknown>> = {};
  for (const [key, node] of Object.entries(group)) {
    const name = `${prefix}_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
    named[key] = isSetting(node) ? { ...node, env: name } : withEnvironment(node, name);
  }
  return named as unknown as S;
}
