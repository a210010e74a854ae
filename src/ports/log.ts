/** Where a component says what happened. `fields` never holds a secret or a payload. */
export interface Log {
  /** False: debug() writes nothing, and whoever would call it for each request need not. */
  readonly debugs: boolean;
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A log whose lines carry the module's name and further fields. */
  child(module: string, fields?: LogFields): Log;
}

export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;
