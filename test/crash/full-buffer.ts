/**
 * A buffer that is full, since the store is away and nothing in it can be reused; the process killed while clients still
 * write; started again, which reads all of the log. Says what the start cost; what is there is compared with the ledger.
 */
import assert from 'node:assert/strict';
import { rename, readFile } from 'node:fs/promises';
import { eventually } from '../tool/process.js';
import { runLoad } from './load.js';
import { NbdClient } from './nbd-client.js';
import { CrashRig } from './rig.js';

export interface FullBufferOptions {
  readonly seed: number;
  readonly bufferMiB: number;
  readonly sizeMiB: number;
  readonly connections: number;
  readonly requestsPerClient: number;
  /** Between the process's death and its next start. */
  readonly beforeStart?: () => Promise<void>;
}

export interface RecoveryCost {
  readonly logBytes: number;
  /** From the start of the process until it says that it is ready. */
  readonly startMs: number;
  /** Highest resident memory of the process until then. */
  readonly residentBytesMax: number;
  /** What recovery itself said. */
  readonly said: string;
}

const mebibyte = 1024 * 1024;

export async function recoverFullBuffer(options: FullBufferOptions): Promise<RecoveryCost> {
  const { seed, bufferMiB, sizeMiB } = options;
  const rig = await CrashRig.start({ seed, bufferMiB, sizeMiB, whenFull: 'throttle' });
  const { gateway } = rig;
  const away = `${gateway.storeDirectory}-away`;
  try {
    await rename(gateway.storeDirectory, away);
    const logBytes = await fillAndKill(rig, options);
    await options.beforeStart?.();
    const startedMs = performance.now();
    await gateway.startAgain();
    const startMs = performance.now() - startedMs;
    const residentBytesMax = await highestResidentBytes(gateway.pid);
    const said = /recovered [^"]*/.exec(gateway.log())?.[0] ?? 'nothing had to be made durable again';
    await rig.verify('nbd', 'after the recovery of a full buffer');
    // Killed once more, since a process whose store was away waits a while before it asks again.
    await gateway.kill();
    await rename(away, gateway.storeDirectory);
    await gateway.startAgain();
    await gateway.drain(rig.volume, 600_000);
    return { logBytes, startMs, residentBytesMax, said };
  } finally {
    await gateway.dispose();
  }
}

/** Kills the process once the buffer has no more than the last, reserved file and a bit of the one before it. */
async function fillAndKill(rig: CrashRig, options: FullBufferOptions): Promise<number> {
  const { gateway, ledger, random } = rig;
  const clients: NbdClient[] = [];
  for (let index = 0; index < options.connections; index += 1) {
    clients.push(await NbdClient.connect(gateway.nbdPort, rig.volume));
  }
  const load = runLoad({
    clients,
    ledger,
    random,
    requestsPerClient: options.requestsPerClient,
    sectorsPerWriteMax: 256,
    wholeBlocks: 0.9,
    onAcknowledged: () => true,
  });
  const capacity = options.bufferMiB * mebibyte;
  const full = capacity - 1.5 * Math.min(64 * mebibyte, capacity / 8);
  let used = 0;
  await eventually(
    'the buffer is full',
    async () => {
      used = await gateway.metric('keepgate_buffer_used_bytes');
      return used >= full;
    },
    { timeoutMs: 600_000, explain: () => rig.explain() },
  );
  await gateway.kill();
  const { acknowledged } = await load;
  assert(acknowledged > 0);
  return used;
}

async function highestResidentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? NaN) * 1024;
}
