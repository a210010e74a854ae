/**
 * What is wrong with a configuration: one line each, saying where, which key, what is wrong and what would be right.
 * All problems of a file are reported together, so that it is corrected in one go.
 */
import { GatewayError } from '../base/errors.js';
import type { ErrorCode } from '../base/errors.js';

export interface Problem {
  readonly code: ErrorCode;
  /** "keepgate.yaml:3:9", "environment KEEPGATE_NBD_LISTEN", "--data-dir". */
  readonly where: string;
  readonly key: string;
  readonly text: string;
}

/** A value that a setting's check refuses; the message says what is wrong and what would be right. */
export class WrongValue extends Error {
  override readonly name = 'WrongValue';
}

/** The code under which a setting's check failed; anything unexpected is passed on. */
export function codeOf(error: unknown): ErrorCode {
  if (error instanceof WrongValue) return 'config-invalid';
  throw error;
}

export function problemLine(problem: Problem): string {
  return [problem.where, problem.key, problem.text].filter((part) => part !== '').join(': ');
}

/** One error for all problems, its code the first problem's, its message one line per problem. */
export function configurationError(problems: readonly Problem[]): GatewayError {
  const first = problems[0];
  return new GatewayError(first?.code ?? 'config-invalid', problems.map(problemLine).join('\n'), {
    context: { problems: problems.length },
  });
}

/** A value as a message shows it: quoted, and cut when long. */
export function shown(raw: unknown): string {
  if (raw === null || raw === undefined) return 'nothing';
  const text = JSON.stringify(raw);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
