/** Gateway and client on one machine: a guest that has what a gateway needs as its first disk, and an empty one for its data as its second. */
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { GuestImage } from './guest-image.js';
import { runGuest, type GuestResult } from './kernel-guest.js';
import { makeRuntimeImage } from './runtime-image.js';

const dataBytes = 6 * 1024 ** 3;

export interface OneMachine {
  readonly script: string;
  readonly memoryMiB: number;
  readonly timeoutMs: number;
}

export async function runOneMachine(image: GuestImage, machine: OneMachine): Promise<GuestResult> {
  const folder = await mkdtemp(join(tmpdir(), 'keepgate-one-machine-'));
  try {
    const runtime = join(folder, 'runtime.img');
    const data = join(folder, 'data.img');
    await makeRuntimeImage(runtime);
    await writeFile(data, '');
    await truncate(data, dataBytes);
    const disks = [
      { path: runtime, readOnly: true },
      { path: data, readOnly: false },
    ];
    return await runGuest(image, { ...machine, processors: 2, disks });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
