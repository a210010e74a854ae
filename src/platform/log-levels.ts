/**
 * How much is said, by module: `info,request=debug,replication=warn`. A module's lines carry the names of all modules
 * around it (`volume.scrub`); the innermost one that has a level of its own decides.
 */

export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];

/** Every name that a log's child is given; a test holds the list to the sources. */
export const logModules = [
  'api',
  'hydrator',
  'iscsi',
  'nbd',
  'nbd-watch',
  'replication',
  'replicator',
  'request',
  'scrub',
  'snapshots',
  'volume',
] as const;

export interface LogLevels {
  readonly level: LogLevel;
  readonly modules: Readonly<Record<string, LogLevel>>;
}

export function levelsOf(level: LogLevel): LogLevels {
  return { level, modules: {} };
}

/** Of a module by its path, such as `replication.replicator`; empty: the gateway itself. */
export function levelOf(levels: LogLevels, path: string): LogLevel {
  for (const name of path.split('.').reverse()) {
    const own = levels.modules[name];
    if (own !== undefined) return own;
  }
  return levels.level;
}

/** @throws Error with one line that says what is wrong and what would be right. */
export function parseLogLevels(text: string): LogLevels {
  let level: LogLevel = 'info';
  const modules: Record<string, LogLevel> = {};
  for (const part of text.split(',')) {
    const [name = '', own] = part.trim().split('=');
    if (own === undefined) {
      level = levelNamed(name);
    } else {
      if (!(logModules as readonly string[]).includes(name)) {
        throw new Error(`there is no module "${name}"; there are ${logModules.join(', ')}`);
      }
      modules[name] = levelNamed(own);
    }
  }
  return { level, modules };
}

function levelNamed(name: string): LogLevel {
  const level = logLevels.find((known) => known === name);
  if (level === undefined) throw new Error(`"${name}" is no level; write ${logLevels.join(', ')}, or MODULE=LEVEL`);
  return level;
}
