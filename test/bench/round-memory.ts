/**
 * `npm run bench:round`: the memory of a round. Tracks a volume in this process as the engine does (engine/rounds.ts), begins
 * a round of all of it, overwrites a part of it meanwhile, as far as a round has to keep it, and reads the round to its end
 * as its replicator does. Prints the peak of the process's resident memory after each step.
 *
 *   npm run bench:round -- [--gib 64] [--kept-gib 4] [--dir DIR]
 *
 * The dirty map is the worst there is: no two groups of it can share their bits. The image is zeros, which are kept without
 * their bytes: what a round holds in memory of a block does not depend on them, and the disk needs no 64 GiB. What a
 * replicator has on its way comes on top, and does not depend on the round's size (remote/round-upload.ts).
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { BLOCK_BYTES, MIB } from '../../src/base/units.js';
import { Image } from '../../src/engine/image.js';
import { Overlay } from '../../src/engine/overlay.js';
import { Rounds } from '../../src/engine/rounds.js';
import { SnapshotRecords } from '../../src/engine/snapshot-records.js';
import { Sums } from '../../src/engine/sums.js';
import { createSystemPorts } from '../../src/gateway/system-ports.js';
import { levelsOf } from '../../src/platform/log-levels.js';
import { createLog } from '../../src/platform/pino-log.js';
import { boundProcessMemory } from '../../src/platform/process-memory.js';
import type { LogCursor } from '../../src/ports/replication.js';

const { values } = parseArgs({
  options: {
    gib: { type: 'string', default: '64' },
    'kept-gib': { type: 'string', default: '4' },
    dir: { type: 'string', default: '/var/tmp' },
  },
});
const BLOCKS_PER_GIB = (1024 * MIB) / BLOCK_BYTES;
/** As many as a step of the destager moves at most. */
const STEP_BLOCKS = 16_384;
/** As the replicator asks for them. */
const PIECE_BLOCKS = 512;
const blocks = Number(values.gib) * BLOCKS_PER_GIB;
const keptBlocks = Math.min(blocks, Number(values['kept-gib']) * BLOCKS_PER_GIB);

await mkdir(values.dir, { recursive: true });
const folder = await mkdtemp(join(values.dir, 'keepgate-bench-round-'));
try {
  boundProcessMemory();
  await measure();
} finally {
  await rm(folder, { recursive: true, force: true });
}

async function measure(): Promise<void> {
  const ports = createSystemPorts();
  const { checksums, random } = ports;
  const disk = ports.openDisk(folder);
  const log = createLog(levelsOf('error'));
  const file = await disk.open('image', { mode: 'write', create: true, lane: 'image' });
  await file.truncate(blocks * BLOCK_BYTES);
  const sumsFile = await disk.open('sums', { mode: 'write', create: true, lane: 'sums' });
  const sums = new Sums({ file: sumsFile, checksums, holes: 'zero', onRot: () => undefined });
  const rounds = new Rounds({
    disk,
    checksums,
    image: new Image({ file, sums, checksums }),
    random,
    snapshots: new SnapshotRecords({ disk, checksums, log, found: [] }),
    log,
    logFileBytes: 8 * MIB,
    onRot: () => undefined,
    isOwed: () => Promise.resolve(false),
  });
  const cursor: LogCursor = { file: 1, offset: 0, lsn: 1, chain: 0, epoch: '0000000000000000' };
  const sizeBytes = blocks * BLOCK_BYTES;
  say('before');

  await rounds.enter(cursor, cursor, sizeBytes);
  await overwrite(rounds, blocks);
  await rounds.flush(0, 1);
  say(`${rounds.dirtyBlocks(sizeBytes)} blocks tracked`);

  const { round } = await rounds.begin({ cursor, sizeBytes, wallMs: 0, replicatedLsn: 0 });
  say('the round is begun');

  await overwrite(rounds, keptBlocks);
  say(`${keptBlocks} blocks overwritten meanwhile, and kept for it`);

  let read = 0;
  for (let next: number | undefined = 0; next !== undefined;) {
    const piece = await rounds.read(round, next, PIECE_BLOCKS);
    if (piece === undefined) throw new Error('the round was given up');
    read += piece.blocks.length + piece.zeros.reduce((sum, { count }) => sum + count, 0);
    next = piece.next;
  }
  say(`${read} blocks read`);
  await rounds.close();
  await file.close();
  await sumsFile.close();
}

/** All but every thousandth of them, in steps of the destager. */
async function overwrite(rounds: Rounds, count: number): Promise<void> {
  const none = new Overlay();
  for (let first = 0; first < count; first += STEP_BLOCKS) {
    const step = new Uint32Array(Math.min(STEP_BLOCKS, count - first)).map((_, at) => first + at);
    await rounds.moving(
      none,
      step.filter((block) => block % 1000 !== 0),
    );
  }
}

function say(step: string): void {
  console.log(`${Math.round(process.resourceUsage().maxRSS / 1024)} MiB at most: ${step}`);
}
