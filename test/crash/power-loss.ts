/**
 * Rounds of: load over NBD and iSCSI at once, the power cut at a random moment, switched on again, every sector compared
 * with what may be there (power-ledger.ts). Some cuts come before the gateway serves again: in the middle of the file
 * system's and the gateway's own recovery.
 *
 * All connections serve one ledger, so that a flush over one protocol must cover what was written over the other (P5).
 */
import assert from 'node:assert/strict';
import type { GuestImage } from '../guest/guest-image.js';
import { targetPrefix } from '../tool/gateway.js';
import type { SourcePatch } from '../tool/source-patch.js';
import { IscsiClient } from './iscsi-client.js';
import { runLoad, seededNumbers, type BlockClient } from './load.js';
import { NbdClient } from './nbd-client.js';
import { PowerLedger } from './power-ledger.js';
import { PowerMachine } from './power-machine.js';
import type { CutReport } from './volatile-disk.js';

export interface PowerLossOptions {
  readonly image: GuestImage;
  readonly cuts: number;
  readonly seed: number;
  readonly say: (line: string) => void;
  readonly patches?: readonly SourcePatch[];
}

const volume = 'power';
const sizeMiB = 16;
/** Cuts that come after so many acknowledged writes at most; the others come after so many writes of the disk. */
const acknowledgedShare = 0.3;
const writesMax = 3000;
const diskWritesMax = 400;
/** Cuts that come while the machine still starts, and after how many writes of the disk at most. */
const earlyShare = 0.25;
const earlyDiskWritesMax = 60;
/** What a cut keeps of the disk's cache: nothing, little, half, nearly all, all. */
const survivals = [0, 0.1, 0.5, 0.9, 1] as const;

export async function powerLossRounds(options: PowerLossOptions): Promise<void> {
  const random = seededNumbers(options.seed);
  const ledger = new PowerLedger(sizeMiB * 1024 * 1024);
  const machine = await PowerMachine.make({
    image: options.image,
    volumes: [
      {
        name: volume,
        size: `${sizeMiB}MiB`,
        buffer: { size: '64MiB' },
        access: 'shared',
        replicate: { interval: '500ms', segmentSize: '1MiB' },
      },
    ],
    ...(options.patches === undefined ? {} : { patches: options.patches }),
  });
  try {
    await machine.switchOn();
    await machine.untilServing();
    for (let cut = 1; cut <= options.cuts; cut += 1) {
      const survival = survivals[Math.floor(random() * survivals.length)] ?? 0;
      const early = cut > 1 && random() < earlyShare && (await diesEarly(machine, random));
      if (!early) {
        if (cut > 1) await machine.untilServing();
        await verify(machine, ledger, `before cut ${cut}, seed ${options.seed}`);
      }
      const { load, report } = early
        ? { load: 'while it started', report: await machine.cutPower(random, survival) }
        : await loadUntilCut(machine, ledger, random, survival);
      options.say(`cut ${cut} ${load}: ${report.kept} unflushed sectors survived, ${report.dropped} did not`);
      await machine.switchOn();
    }
    await machine.untilServing();
    await verify(machine, ledger, `after the last cut, seed ${options.seed}`);
  } finally {
    await machine.dispose();
  }
}

/** True: the disk was cut off before the gateway served; false: it serves. */
async function diesEarly(machine: PowerMachine, random: () => number): Promise<boolean> {
  const fate = { died: false };
  const dead = new Promise<void>((resolve) => {
    machine.onceDiskWrote(1 + Math.floor(random() * earlyDiskWritesMax), () => {
      fate.died = true;
      resolve();
    });
  });
  const serving = machine.untilServing();
  serving.catch(() => undefined); // A machine without its disk ends as it likes.
  await Promise.race([dead, serving]);
  // Now it must not come any more: a disk that takes nothing, while its contents are compared, would be waited for in vain.
  if (!fate.died) machine.onceDiskWrote(Infinity, () => undefined);
  return fate.died;
}

async function verify(machine: PowerMachine, ledger: PowerLedger, when: string): Promise<void> {
  const client = await NbdClient.connect(machine.nbdPort, volume);
  const pieceBytes = 1024 * 1024;
  const pieces: Buffer[] = [];
  for (let at = 0; at < ledger.sizeBytes; at += pieceBytes) pieces.push(await client.read(at, pieceBytes));
  client.destroy();
  const wrong = ledger.verify(Buffer.concat(pieces));
  if (wrong.length > 0) assert.fail(`${when}\n${wrong.join('\n')}\n${await machine.log()}`);
}

/**
 * Runs the load, and cuts the power in the instant in which a random number of writes was acknowledged, or in which the
 * disk has taken a random number of writes: mostly in the middle of an fdatasync, before its flush.
 */
async function loadUntilCut(
  machine: PowerMachine,
  ledger: PowerLedger,
  random: () => number,
  survival: number,
): Promise<{ load: string; report: CutReport }> {
  const target = `${targetPrefix}:${volume}`;
  const clients: BlockClient[] = [
    await NbdClient.connect(machine.nbdPort, volume),
    await NbdClient.connect(machine.nbdPort, volume),
    await IscsiClient.connect(machine.iscsiPort, target, 'iqn.2026-11.test:power'),
  ];
  let cut: Promise<CutReport> | undefined;
  const cutNow = (): void => {
    cut ??= machine.cutPower(random, survival);
  };
  const cutAfter = random() < acknowledgedShare ? 1 + Math.floor(random() * writesMax) : Infinity;
  if (cutAfter === Infinity) machine.onceDiskWrote(1 + Math.floor(random() * diskWritesMax), cutNow);
  const end = await runLoad({
    clients,
    ledger,
    random,
    requestsPerClient: 8,
    sectorsPerWriteMax: 48,
    flushShare: 0.02,
    onAcknowledged: (acknowledged) => {
      if (acknowledged >= cutAfter) cutNow();
      return true; // The load goes on until its connections are gone.
    },
  });
  for (const client of clients) client.destroy();
  assert(cut !== undefined, `a client failed before the cut: ${end.errors.join('; ')}\n${await machine.log()}`);
  const load = `after ${end.acknowledged} writes and ${ledger.durablePoints} flushes were answered`;
  return { load, report: await cut };
}
