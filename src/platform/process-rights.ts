/**
 * What keeps the gateway alive when the machine that it serves runs out of memory (design.md: gateway and client may be
 * one machine), and what identifies this boot.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { loadAddon } from './addon.js';
import { diskError } from './disk-error.js';

export interface ProcessRight {
  readonly name: 'io-flusher' | 'locked-memory' | 'oom-score';
  readonly granted: boolean;
  /** One line: what was achieved, or what is missing and how to give it. */
  readonly detail: string;
}

/** Of /proc/self/oom_score_adj: killed after nearly everything else, but not exempt (-1000), in case it leaks. */
const OOM_SCORE_ADJ = -900;
const OOM_SCORE_PATH = '/proc/self/oom_score_adj';

/** Takes what the process may have; never fails. Threads that are started later inherit it. */
export function takeProcessRights(): ProcessRight[] {
  const addon = loadAddon();
  const unmarked = addon.setIoFlusher();
  const exception = unmarked > 0 ? `, but for ${unmarked} of the threads` : '';
  return [
    right('io-flusher', unmarked, `memory for I/O never waits for the volumes${exception}`, 'CAP_SYS_RESOURCE'),
    right('locked-memory', addon.lockMemory(), 'the program stays in memory', 'CAP_IPC_LOCK, or LimitMEMLOCK=infinity'),
    lowerOomScore(),
  ];
}

function right(name: ProcessRight['name'], result: number, achieved: string, needs: string): ProcessRight {
  if (result >= 0) return { name, granted: true, detail: achieved };
  if (result === -constants.errno.EPERM) return { name, granted: false, detail: `needs ${needs}` };
  return { name, granted: false, detail: diskError({ call: 'setting', path: name, result }).message };
}

function lowerOomScore(): ProcessRight {
  const name = 'oom-score';
  try {
    const now = Number(readFileSync(OOM_SCORE_PATH, 'utf8'));
    if (now > OOM_SCORE_ADJ) writeFileSync(OOM_SCORE_PATH, String(OOM_SCORE_ADJ));
    return { name, granted: true, detail: `oom_score_adj is ${Math.min(now, OOM_SCORE_ADJ)}` };
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    const needs = 'needs CAP_SYS_RESOURCE, or OOMScoreAdjust=-900 in the unit';
    return {
      name,
      granted: false,
      detail: code === 'EACCES' || code === 'EPERM' ? needs : `${OOM_SCORE_PATH}: ${code}`,
    };
  }
}

/** Identifies this boot of the kernel: what the page cache held survives a process, but not a boot. */
export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
