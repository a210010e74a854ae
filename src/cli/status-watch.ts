/**
 * `keepgate status --watch`: again every second until it is interrupted. On a terminal each table is drawn over the one
 * before, in one write and without a cleared screen between, on the terminal's second screen; the last one stays when it
 * ends. Elsewhere it is printed again and again. A gateway that does not answer, perhaps because it is being restarted, is
 * asked again, at the place where it says that it listens now.
 */
import type { VolumeReport } from '../api/volume-report.js';
import { GatewayError } from '../base/errors.js';
import type { Clock } from '../ports/clock.js';
import type { ApiClient } from './api-client.js';
import { painted } from './colour.js';
import { exitCodes } from './exit-code.js';
import type { ExitCode } from './exit-code.js';
import { table } from './status.js';
import type { Screen, Terminal } from './terminal.js';

const everyMs = 1000;
/** One that takes longer is called unreachable; a person sees how old the table is. */
const answerMsMax = 5000;

/** Second screen, cleared, without a cursor and without line breaks of its own; and back. */
const enter = '\u001b[?1049h\u001b[2J\u001b[?25l\u001b[?7l';
const leave = '\u001b[?7h\u001b[?25h\u001b[?1049l';
const home = '\u001b[H';
const restOfLine = '\u001b[K';
const restOfScreen = '\u001b[J';

export interface WatchOptions {
  /** Finds the gateway, again after each time that it did not answer. */
  readonly connect: () => Promise<Pick<ApiClient, 'get'>>;
  readonly terminal: Terminal;
  readonly clock: Clock;
  readonly json: boolean;
  /** Aborted: it ends. */
  readonly signal: AbortSignal;
}

/** What one look found. */
type Look = { readonly volumes: readonly VolumeReport[] } | { readonly unreachable: string };

export async function watchStatus(options: WatchOptions): Promise<ExitCode> {
  const { terminal, clock, json, signal } = options;
  const look = looker(options);
  const { screen } = terminal;
  const show = json || screen === undefined ? lineShow(options) : screenShow(screen, options);
  try {
    while (!signal.aborted) {
      const found = await look();
      if (found !== undefined) show.next(found);
      await clock.sleep(everyMs, signal).catch((error: unknown) => {
        if (!signal.aborted) throw error;
      });
    }
  } finally {
    show.end();
  }
  return exitCodes.done;
}

/** undefined: it was interrupted. */
function looker({ connect, signal }: WatchOptions): () => Promise<Look | undefined> {
  let client: Pick<ApiClient, 'get'> | undefined;
  return async () => {
    try {
      client ??= await connect();
      const volumes = (await client.get('/v1/volumes', { timeoutMs: answerMsMax, signal })) as VolumeReport[];
      return { volumes };
    } catch (error) {
      if (signal.aborted) return undefined;
      if (!(error instanceof GatewayError) || error.code !== 'gateway-unreachable') throw error;
      client = undefined;
      return { unreachable: error.message };
    }
  };
}

interface Show {
  next(found: Look): void;
  end(): void;
}

/** For a log: an outage is one line. */
function lineShow({ terminal, json }: WatchOptions): Show {
  let away = false;
  return {
    next: (found) => {
      if ('volumes' in found) terminal.print(json ? JSON.stringify(found.volumes) : table(found.volumes, terminal));
      else if (!away) terminal.note(`keepgate: unreachable, trying again: ${found.unreachable}`);
      away = !('volumes' in found);
    },
    end: () => undefined,
  };
}

function screenShow(screen: Screen, { terminal, clock }: WatchOptions): Show {
  let last: readonly string[] = [];
  screen.write(enter);
  return {
    next: (found) => {
      const time = new Date(clock.wallMs()).toISOString().slice(11, 19);
      if ('volumes' in found) last = [...table(found.volumes, terminal).split('\n'), '', `${time} UTC; Ctrl-C ends it`];
      const away = 'unreachable' in found;
      const why = away ? [painted(`${time} UTC unreachable, trying again: ${found.unreachable}`, 'red', terminal)] : [];
      const shown = fitted([...why, ...(away && last.length > 0 ? [''] : []), ...last], screen.rows - 1);
      screen.write(`${home}${shown.map((line) => `${line}${restOfLine}\n`).join('')}${restOfScreen}`);
    },
    end: () => {
      screen.write(leave);
      for (const line of last.slice(0, -2)) terminal.print(line);
    },
  };
}

/** No more lines than the terminal has, less the one that the cursor stands on: another one would scroll. */
function fitted(lines: readonly string[], linesMax: number): readonly string[] {
  if (lines.length <= linesMax) return lines;
  const shown = Math.max(0, linesMax - 1);
  return [...lines.slice(0, shown), `… ${lines.length - shown} more lines: make the terminal higher`];
}
