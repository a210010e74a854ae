/**
 * `keepgate doctor`: looks at everything that a gateway needs on this machine and in its store; a line for each finding,
 * with what to do, and where it is not well why it matters. What can be mended without any risk to data, and replaces
 * nothing, is mended with --fix, and otherwise named.
 */
import { painted } from './colour.js';
import type { Colour } from './colour.js';
import { findings } from './doctor-check.js';
import type { CheckOptions } from './doctor-check.js';
import { reasonOf } from './doctor-finding.js';
import type { Finding, Verdict } from './doctor-finding.js';
import { exitCodes } from './exit-code.js';
import type { ExitCode } from './exit-code.js';
import type { Terminal } from './terminal.js';

export interface DoctorOptions extends CheckOptions {
  readonly terminal: Terminal;
  readonly fix: boolean;
  readonly json: boolean;
}

const colours: Readonly<Record<Verdict | 'fixed', Colour>> = {
  ok: 'green',
  note: 'yellow',
  wrong: 'red',
  fixed: 'green',
};

/** How a repair went: not tried, done, or why not. */
interface Outcome {
  readonly finding: Finding;
  readonly command: string | undefined;
  readonly done: boolean;
  readonly problem: string | undefined;
}

/** Exit code 1 when something is wrong, and was not mended. */
export async function doctor(options: DoctorOptions): Promise<ExitCode> {
  const { terminal, json, fix } = options;
  const outcomes: Outcome[] = [];
  for await (const first of findings(options)) {
    const outcome = fix
      ? await repaired(first)
      : { finding: first, command: first.repair?.command, done: false, problem: undefined };
    outcomes.push(outcome);
    if (!json) for (const line of lines(outcome, terminal)) terminal.print(line);
  }
  if (json) terminal.print(JSON.stringify(outcomes.map(asJson)));
  return outcomes.some(({ finding }) => finding.verdict === 'wrong') ? exitCodes.failed : exitCodes.done;
}

async function repaired(first: Finding): Promise<Outcome> {
  const { repair } = first;
  if (repair === undefined) return { finding: first, command: undefined, done: false, problem: undefined };
  const { command } = repair;
  try {
    await repair.run();
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    return { finding: first, command, done: false, problem };
  }
  return { finding: await repair.again(), command, done: true, problem: undefined };
}

function lines({ finding, command, done, problem }: Outcome, terminal: Terminal): string[] {
  const { verdict, what, text } = finding;
  const line = (word: keyof typeof colours, rest: string): string =>
    `${painted(word, colours[word], terminal)}${' '.repeat(5 - word.length)}  ${what}: ${rest}`;
  const reason = verdict === 'ok' ? undefined : reasonOf(finding);
  const indent = ' '.repeat(7);
  return [
    ...(done && command !== undefined ? [line('fixed', command)] : []),
    line(verdict, text),
    ...(reason === undefined ? [] : [`${indent}why: ${reason}`]),
    // What is well needs no more than to be told of.
    ...(command === undefined || done || (verdict === 'ok' && problem === undefined)
      ? []
      : [
          `${indent}fix: ${problem === undefined ? `keepgate doctor --fix does this: ${command}` : `${command} failed: ${problem}`}`,
        ]),
  ];
}

function asJson({ finding, command, done, problem }: Outcome): object {
  const { verdict, what, text } = finding;
  const fix = command === undefined ? null : { command, done, problem: problem ?? null };
  return { verdict, what, text, why: reasonOf(finding) ?? null, fix };
}
