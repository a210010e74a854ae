/** A Log that keeps its lines, for tests that look at them. */
import type { Log, LogFields } from '../../src/ports/log.js';

export class RecordedLog implements Log {
  readonly debugs = true;
  readonly lines: string[] = [];

  debug(message: string): void {
    this.lines.push(`debug ${message}`);
  }

  info(message: string): void {
    this.lines.push(`info ${message}`);
  }

  warn(message: string): void {
    this.lines.push(`warn ${message}`);
  }

  error(message: string): void {
    this.lines.push(`error ${message}`);
  }

  child(_module: string, _fields?: LogFields): Log {
    return this;
  }
}
