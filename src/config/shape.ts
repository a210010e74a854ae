/**
 * Compares the shape of what was written with the schema: unknown keys (with the nearest known one), a mapping where a
 * value belongs, a value where a mapping belongs. Returns what fits, so that convict sees only declared keys.
 */
import { nearestKey } from './nearest-key.js';
import { isSetting } from './setting.js';
import type { SettingGroup } from './setting.js';
import { shown } from './problem.js';

/** Called with the key's path and what is wrong with it. */
export type Report = (path: string, text: string) => void;

export function fitting(
  value: Readonly<Record<string, unknown>>,
  group: SettingGroup,
  prefix: string,
  report: Report,
): Record<string, unknown> {
  const kept: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) {
    const path = prefix === '' ? key : `${prefix}.${key}`;
    const node = Object.hasOwn(group, key) ? group[key] : undefined;
    if (node === undefined) {
      report(path, unknownKey(key, group));
    } else if (isSetting(node)) {
      if (isMapping(item) && node.format !== 'structure') report(path, 'is a single value, not a mapping of keys');
      else kept[key] = item;
    } else if (item !== null) {
      if (isMapping(item)) kept[key] = fitting(item, node, path, report);
      else report(path, `${shown(item)} is not a mapping; its keys are ${Object.keys(node).join(', ')}`);
    }
  }
  return kept;
}

function unknownKey(key: string, group: SettingGroup): string {
  const known = Object.keys(group);
  const meant = nearestKey(key, known);
  return meant === undefined
    ? `unknown key; known here are ${known.join(', ')}`
    : `unknown key; did you mean ${meant}?`;
}

export function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
