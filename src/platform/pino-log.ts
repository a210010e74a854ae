/**
 * Logs on stderr: one JSON line each (pino), or for people on a terminal. Lines are written synchronously, so that the
 * last one before an exit is there.
 */
import { isatty } from 'node:tty';
import { destination, pino, stdTimeFunctions } from 'pino';
import type { Logger } from 'pino';
import type { Log, LogFields } from '../ports/log.js';
import { levelOf } from './log-levels.js';
import type { LogLevels } from './log-levels.js';

const stderrFd = 2;
/** Only where somebody looks: a service loads nothing for it. */
const pretty = isatty(stderrFd) ? await import('pino-pretty') : undefined;

class PinoLog implements Log {
  readonly #root: Logger;
  readonly #levels: LogLevels;
  readonly #module: string;
  readonly #fields: LogFields;
  readonly #logger: Logger;

  /** pino would print a field twice that a child has again, so each child is made from the root. */
  constructor(root: Logger, levels: LogLevels, module: string, fields: LogFields) {
    this.#root = root;
    this.#levels = levels;
    this.#module = module;
    this.#fields = fields;
    const level = levelOf(levels, module);
    this.#logger = module === '' ? root : root.child({ module, ...fields }, { level });
  }

  get debugs(): boolean {
    return this.#logger.isLevelEnabled('debug');
  }

  debug(message: string, fields: LogFields = {}): void {
    this.#logger.debug(fields, message);
  }

  info(message: string, fields: LogFields = {}): void {
    this.#logger.info(fields, message);
  }

  warn(message: string, fields: LogFields = {}): void {
    this.#logger.warn(fields, message);
  }

  error(message: string, fields: LogFields = {}): void {
    this.#logger.error(fields, message);
  }

  child(module: string, fields: LogFields = {}): Log {
    const path = this.#module === '' || this.#module === module ? module : `${this.#module}.${module}`;
    return new PinoLog(this.#root, this.#levels, path, { ...this.#fields, ...fields });
  }
}

export function createLog(levels: LogLevels): Log {
  const options = {
    level: levels.level,
    base: null,
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  const stream =
    pretty?.PinoPretty({
      destination: stderrFd,
      sync: true,
      ignore: 'module',
      messageFormat: '{if module}{module}: {end}{msg}',
    }) ?? destination({ fd: stderrFd, sync: true });
  return new PinoLog(pino(options, stream), levels, '', {});
}
