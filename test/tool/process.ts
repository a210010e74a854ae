/**
 * Child processes of the tests: short ones that are run to their end, long ones that are ended by their id.
 * Whatever a child printed is part of the error when it fails, so that a red run can be read without a second one.
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

/** A program and the variables that it needs beside the caller's own. */
export interface Program {
  readonly path: string;
  readonly env: Readonly<Record<string, string>>;
}

export interface RunOptions {
  /** The child is killed, and the run fails, when it takes longer. */
  readonly timeoutMs?: number;
  /** The child is killed when this aborts, which is an end like any other. */
  readonly killWhen?: AbortSignal;
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Open files of this process that a service gets as its own, from 3 on. */
  readonly descriptors?: readonly number[];
}

export interface Finished {
  /** The exit status; 128 + signal number is not imitated: a child that died by a signal has status -1. */
  readonly status: number;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

const outputCharsMax = 4_000_000;
/** Only a run that fails, or a machine that has very much else to do, takes so long. */
const waitMsMax = 180_000;

/** Runs a program to its end, whatever its status. */
export async function attempt(
  program: Program | string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Finished> {
  const { path, env } = typeof program === 'string' ? { path: program, env: {} } : program;
  const child: ChildProcessByStdio<Writable, Readable, Readable> = spawn(path, args, {
    env: { ...process.env, ...env, ...options.env },
    cwd: options.cwd,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  child.stdin.on('error', () => undefined); // A child may end without reading what it was given.
  child.stdin.end(options.input ?? '');
  const timeoutMs = options.timeoutMs ?? waitMsMax;
  const kill = (): void => void child.kill('SIGKILL');
  const timer = setTimeout(kill, timeoutMs);
  options.killWhen?.addEventListener('abort', kill);
  try {
    const [status, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
    return { status: status ?? -1, signal, stdout: stdout(), stderr: stderr() };
  } finally {
    clearTimeout(timer);
    options.killWhen?.removeEventListener('abort', kill);
  }
}

/** Runs a program that must end with status 0 and returns what it wrote to its standard output. */
export async function run(
  program: Program | string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const finished = await attempt(program, args, options);
  if (finished.status !== 0) throw new Error(describeFailure(program, args, finished));
  return finished.stdout;
}

export function describeFailure(program: Program | string, args: readonly string[], finished: Finished): string {
  const name = typeof program === 'string' ? program : program.path;
  const how = finished.signal === null ? `status ${finished.status}` : `signal ${finished.signal}`;
  return `${name} ${args.join(' ')}\nended with ${how}\n${finished.stdout}${finished.stderr}`;
}

function collect(stream: Readable): () => string {
  let text = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    if (text.length < outputCharsMax) text += chunk;
  });
  return () => text;
}

export interface Service {
  readonly pid: number;
  readonly output: () => string;
  /** Settles when the process is gone, with the signal that ended it, if one did. */
  readonly ended: Promise<NodeJS.Signals | null>;
  /** Its exit status once it ended by itself; undefined while it runs, and when a signal ended it. */
  readonly status: () => number | undefined;
  isRunning(): boolean;
  signal(signal: NodeJS.Signals): void;
  /** Ends the process: the signal first, SIGKILL after five seconds. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** Starts a program that runs until it is stopped. Its standard output and error are kept together. */
export function startService(program: Program | string, args: readonly string[], options: RunOptions = {}): Service {
  const { path, env } = typeof program === 'string' ? { path: program, env: {} } : program;
  const child = spawn(path, args, {
    env: { ...process.env, ...env, ...options.env },
    cwd: options.cwd,
    stdio: ['ignore', 'pipe', 'pipe', ...(options.descriptors ?? [])],
  }) as ChildProcessByStdio<null, Readable, Readable>;
  let text = '';
  const append = (chunk: Buffer): void => {
    text = (text + chunk.toString('utf8')).slice(-outputCharsMax);
  };
  child.stdout.on('data', append);
  child.stderr.on('data', append);
  let running = true;
  let exitStatus: number | undefined;
  const ended = new Promise<NodeJS.Signals | null>((resolve) => {
    const done = (by: NodeJS.Signals | null): void => {
      running = false;
      resolve(by);
    };
    child.once('close', (status: number | null, by: NodeJS.Signals | null) => {
      exitStatus = status ?? undefined;
      done(by);
    });
    child.once('error', (error) => {
      text += `${error.message}\n`;
      done(null);
    });
  });
  const signal = (name: NodeJS.Signals): void => {
    if (running) child.kill(name);
  };
  return {
    pid: child.pid ?? -1,
    output: () => text,
    ended,
    status: () => exitStatus,
    isRunning: () => running,
    signal,
    async stop(name = 'SIGTERM') {
      signal(name);
      if (await endsWithin(ended, 5_000)) return;
      signal('SIGKILL');
      await ended;
    },
  };
}

async function endsWithin(ended: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  const cancel = new AbortController();
  const tooLate = delay(timeoutMs, false, { signal: cancel.signal }).catch(() => false);
  const first = await Promise.race([ended.then(() => true), tooLate]);
  cancel.abort();
  return first;
}

/**
 * Waits until a condition of another process holds, which gives no event: asks every few milliseconds, up to a limit
 * that only a failing run reaches. `explain` is added to the error.
 */
export async function eventually(
  what: string,
  condition: () => Promise<boolean> | boolean,
  options: { readonly timeoutMs?: number; readonly explain?: () => string } = {},
): Promise<void> {
  const timeoutMs = options.timeoutMs ?? waitMsMax;
  const startedMs = performance.now();
  while (!(await condition())) {
    if (performance.now() - startedMs > timeoutMs) {
      throw new Error(`${what}: not within ${timeoutMs / 1000} s\n${options.explain?.() ?? ''}`);
    }
    await delay(20);
  }
}
