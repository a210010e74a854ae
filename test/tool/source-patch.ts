/**
 * Changes to the compiled program for one child process: deliberate faults (a test that must then fail) and failpoints
 * (places where a process kills itself). See patch-register.mjs.
 */
import { pathToFileURL } from 'node:url';
import { join, resolve } from 'node:path';

export interface SourcePatch {
  /** Below dist: "src/engine/log.js". */
  readonly file: string;
  /** Text of the compiled module, which must occur exactly once: a patch that no longer fits is an error. */
  readonly find: string;
  readonly replace: string;
}

const register = pathToFileURL(join(resolve(import.meta.dirname, '../../..'), 'test/tool/patch-register.mjs')).href;

/** Arguments for node, before the program. */
export const patchArguments: readonly string[] = ['--import', register];

export function patchEnvironment(patches: readonly SourcePatch[]): Record<string, string> {
  return { KEEPGATE_TEST_PATCHES: JSON.stringify(patches) };
}
