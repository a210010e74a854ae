/** Explores the ownership protocol's model in a process of its own: a processor each, and a program that may be changed. */
import { join } from 'node:path';
import { run } from '../tool/process.js';
import { patchArguments, patchEnvironment, type SourcePatch } from '../tool/source-patch.js';
import type { Exploration } from './explorer.js';
import type { Bounds } from './ownership-steps.js';

const program = join(import.meta.dirname, 'ownership-run.js');
const timeoutMs = 7_200_000;

export async function exploreApart(
  bounds: Bounds,
  statesMax: number,
  patches: readonly SourcePatch[] = [],
): Promise<Exploration> {
  const args = [...patchArguments, program, JSON.stringify({ bounds, statesMax })];
  return JSON.parse(await run(process.execPath, args, { env: patchEnvironment(patches), timeoutMs })) as Exploration;
}
