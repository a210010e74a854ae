/** Loads a module of the running kernel, which root alone can. */
import { execFile } from 'node:child_process';
import { GatewayError } from '../base/errors.js';

/** A module that waits for its hardware is waited for no longer. */
const loadMsMax = 30_000;

export function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

/** @throws GatewayError not-supported with what modprobe says */
export function loadKernelModule(name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile('modprobe', ['--', name], { timeout: loadMsMax }, (error, _, stderr) => {
      if (error === null) resolve();
      else reject(new GatewayError('not-supported', stderr.trim().split('\n')[0] || error.message, { cause: error }));
    });
  });
}
