/** What a run of a crash test is repeated by: its seed, and the version of the program that it ran. */
import { randomInt } from 'node:crypto';
import { resolve } from 'node:path';
import { attempt } from '../tool/process.js';

/** KEEPGATE_TEST_SEED, or a fresh one. */
export function chosenSeed(): number {
  const given = process.env['KEEPGATE_TEST_SEED'];
  return given === undefined ? randomInt(2 ** 31) : Number(given);
}

/** Runs `body`; its failure is made to name the seed and the commit. */
export async function withSeed(seed: number, body: (seed: number) => Promise<void>): Promise<void> {
  try {
    await body(seed);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`seed ${seed}, commit ${await gitCommit()}: ${message}`, { cause });
  }
}

async function gitCommit(): Promise<string> {
  const cwd = resolve(import.meta.dirname, '../../..');
  const head = await attempt('git', ['rev-parse', '--short', 'HEAD'], { cwd }).catch(() => undefined);
  if (head?.status !== 0) return 'unknown';
  const changed = await attempt('git', ['status', '--porcelain'], { cwd });
  return `${head.stdout.trim()}${changed.stdout === '' ? '' : ', with changes'}`;
}
