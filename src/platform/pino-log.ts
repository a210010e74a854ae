/**
 * Logs on stderr: one JSON line each (pino), or for people on a terminal. Lines are written synchronously, so that the
 * last one before an exit is there.
 */
import { isatty } from 'node:tty';
import { destination, pino, stdTimeFunctions } from 'pino';
import type { Logger } from 'pino';
import { PinoPretty } from 'pino-pretty';
import type { Log, LogFields } from '../ports/log.js';

const stderrFd = 2;

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

class PinoLog implements Log {
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
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
    return new PinoLog(this.#logger.child({ module, ...fields }));
  }
}

export function createLog(level: LogLevel): Log {
  const options = {
    level,
    base: null,
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  const stream = isatty(stderrFd)
    ? PinoPretty({
        destination: stderrFd,
        sync: true,
        ignore: 'module',
        messageFormat: '{if module}{module}: {end}{msg}',
      })
    : destination({ fd: stderrFd, sync: true });
  return new PinoLog(pino(options, stream));
}
