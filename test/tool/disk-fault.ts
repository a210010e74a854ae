/**
 * Makes the disk of one child process full, failing or slow, without rights, mounts or a slow disk: a small library that is
 * preloaded (disk-fault.c) and rules that can change while it runs.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { requiredTool } from './clients.js';
import { run } from './process.js';

const source = join(resolve(import.meta.dirname, '../../..'), 'test/tool/disk-fault.c');
const rulesBytes = 4096;

export interface FaultRule {
  readonly errno: 'ENOSPC' | 'EIO' | { readonly delayMs: number };
  readonly call: 'open' | 'read' | 'write' | 'allocate' | 'sync' | 'mkdir' | 'any';
  /** A part of the file's path, without spaces; its end, where it ends with $. */
  readonly path: string;
}

export class FaultyDisk {
  private readonly rules: number;

  private constructor(private readonly folder: string) {
    this.rules = openSync(join(folder, 'rules'), 'w+');
    this.set([]);
  }

  static async make(): Promise<FaultyDisk> {
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-fault-'));
    await run(requiredTool('cc'), ['-O1', '-Wall', '-shared', '-fPIC', '-o', join(folder, 'fault.so'), source, '-ldl']);
    return new FaultyDisk(folder);
  }

  /** For the process whose disk it is. */
  get env(): Readonly<Record<string, string>> {
    return { LD_PRELOAD: join(this.folder, 'fault.so'), KEEPGATE_TEST_DISK_FAULTS: join(this.folder, 'rules') };
  }

  /** Holds at once; replaces the rules of before. */
  set(rules: readonly FaultRule[]): void {
    const number = (errno: FaultRule['errno']): number =>
      typeof errno === 'string' ? constants.errno[errno] : -errno.delayMs;
    const lines = rules.map(({ errno, call, path }) => `${number(errno)} ${call} ${path}\n`).join('');
    const page = Buffer.alloc(rulesBytes);
    page.write(lines, 0);
    writeSync(this.rules, page, 0, rulesBytes, 0);
  }

  async dispose(): Promise<void> {
    closeSync(this.rules);
    await rm(this.folder, { recursive: true, force: true });
  }
}
