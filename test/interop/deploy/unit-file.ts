/** Units of systemd as text: which settings each section has, and what that says of the order of units. */

export interface UnitFile {
  /** As systemd names it, an instance of a template already. */
  readonly name: string;
  readonly sections: ReadonlyMap<string, ReadonlyMap<string, readonly string[]>>;
}

export function parseUnit(name: string, text: string): UnitFile {
  const sections = new Map<string, Map<string, string[]>>();
  let section: Map<string, string[]> | undefined;
  const instance = /@(.+)\.\w+$/.exec(name)?.[1] ?? '';
  for (const line of text.replaceAll(/\\\n/g, ' ').split('\n')) {
    if (/^\s*([#;]|$)/.test(line)) continue;
    const header = /^\[(\w+)\]$/.exec(line)?.[1];
    if (header !== undefined) {
      section = sections.get(header) ?? new Map<string, string[]>();
      sections.set(header, section);
      continue;
    }
    const setting = /^(\w+)=(.*)$/.exec(line);
    if (setting === null || section === undefined) throw new Error(`${name}: ${line}`);
    const [, key = '', value = ''] = setting;
    section.set(key, [...(section.get(key) ?? []), value.replaceAll('%i', instance)]);
  }
  return { name, sections };
}

export function settings(unit: UnitFile, section: string, key: string): readonly string[] {
  return unit.sections.get(section)?.get(key) ?? [];
}

/** For each unit those that start after it, and so stop before it. */
export function startOrder(units: readonly UnitFile[]): Map<string, Set<string>> {
  const order = new Map<string, Set<string>>();
  const put = (first: string, second: string): void => {
    order.set(first, (order.get(first) ?? new Set<string>()).add(second));
  };
  for (const unit of units) {
    const names = (key: string): string[] => settings(unit, 'Unit', key).flatMap((value) => value.split(/\s+/));
    for (const other of names('After')) put(other, unit.name);
    for (const other of names('Before')) put(unit.name, other);
  }
  return order;
}

export function startsBefore(order: ReadonlyMap<string, ReadonlySet<string>>, first: string, second: string): boolean {
  const seen = new Set<string>();
  const visit = (name: string): boolean => {
    if (seen.has(name)) return false;
    seen.add(name);
    for (const next of order.get(name) ?? []) if (next === second || visit(next)) return true;
    return false;
  };
  return visit(first);
}
