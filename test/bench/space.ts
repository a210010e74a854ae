/**
 * `npm run bench:space`: what a bucket holds, and what is sent, while a full volume is overwritten at random, steadily.
 *
 *   npm run bench:space -- [--mebibytes 16] [--segments 128] [--times 8] [--hours 6] [--seed 1] [--off]
 *
 * The gateway's own replicator runs against a store and a log in memory, in a time that the bench moves: the figures are
 * bytes, not speeds, and the same on every machine. A volume of so many segments is filled once and then overwritten block
 * by block, 4 KiB each at a place drawn uniformly, which is the worst case: nothing stays cold. It takes `hours` to overwrite
 * it once, which says how much the grace period of two minutes counts.
 *
 *   stored   bytes of all objects of the volume, checkpoints and indexes included, over the volume's size
 *   sent     bytes uploaded since it was full (compaction and checkpoints included) over bytes written by the client
 */
import { parseArgs } from 'node:util';
import { SeededRandom } from '../fake/random.js';
import { BLOCK, Rig, ticks } from '../fake/replication-rig.js';
import { restoredImage } from '../fake/restored-image.js';

const { values } = parseArgs({
  options: {
    mebibytes: { type: 'string', default: '16' },
    segments: { type: 'string', default: '128' },
    times: { type: 'string', default: '8' },
    hours: { type: 'string', default: '6' },
    seed: { type: 'string', default: '1' },
    off: { type: 'boolean', default: false },
  },
});
const blocks = Number(values.mebibytes) * 256;
const segmentBlocks = Math.floor(blocks / Number(values.segments));
const times = Number(values.times);
const stepMs = (Number(values.hours) * 3_600_000) / Number(values.segments);
/** The log in memory keeps everything, and has places for so much. */
if (Number(values.mebibytes) * (times + 1) > 250) throw new Error('mebibytes x (times + 1) must be at most 250');
/** Of volume time, what runs beside the groups gets to be through. */
const besideMs = 2000;
const samplesPerTime = 4;

const rig = new Rig({
  blocks,
  seed: Number(values.seed),
  config: { segmentBytes: segmentBlocks * BLOCK, compaction: !values.off },
});
const random = new SeededRandom(Number(values.seed));

async function step(place: (at: number) => number): Promise<void> {
  const lsn = rig.write(
    Array.from({ length: segmentBlocks }, (_, at) => ({
      kind: 'write' as const,
      firstBlock: place(at),
      data: new Uint8Array(random.bytes(BLOCK)),
    })),
  );
  await rig.until(() => rig.state.replicatedLsn >= lsn);
  for (let ms = 0; ms < besideMs; ms += 50) {
    await ticks(24);
    rig.clock.advance(50);
  }
  rig.clock.advance(Math.max(0, stepMs - besideMs));
}

function storedBytes(): number {
  return rig.store.keys(`${rig.config.uuid}/`).reduce((sum, key) => sum + (rig.store.peek(key)?.length ?? 0), 0);
}

function sent(): { readonly all: number; readonly compaction: number } {
  const status = rig.messages.findLast((message) => message.type === 'status');
  return status?.type === 'status'
    ? { all: status.status.uploadedBytes, compaction: status.status.compactionBytes }
    : { all: 0, compaction: 0 };
}

rig.start();
for (let first = 0; first + segmentBlocks <= blocks; first += segmentBlocks) await step((at) => first + at);
const size = blocks * BLOCK;
const full = sent();
console.log(`volume of ${values.mebibytes} MiB in ${values.segments} segments, overwritten once in ${values.hours} h`);
console.log('| overwritten | stored | sent | of it compaction | sent lately |');
console.log('| --- | --- | --- | --- | --- |');
let written = 0;
let storedMost = 0;
let before = { written: 0, all: full.all };
const every = Math.round(blocks / segmentBlocks / samplesPerTime);
for (let at = 1; at <= times * every * samplesPerTime; at++) {
  await step(() => random.below(blocks));
  written += segmentBlocks * BLOCK;
  const stored = storedBytes() / size;
  storedMost = Math.max(storedMost, stored);
  if (at % every !== 0) continue;
  const { all, compaction } = sent();
  const lately = (all - before.all) / (written - before.written);
  before = { written, all };
  const share = ((all - full.all) / written).toFixed(2);
  console.log(
    `| ${(written / size).toFixed(2)} | ${stored.toFixed(3)} | ${share} | ${(compaction / written).toFixed(2)} | ${lately.toFixed(2)} |`,
  );
}
const { image, recoveryPoint } = await restoredImage(rig);
const equal = Buffer.compare(image, rig.log.imageAt(recoveryPoint.lsn)) === 0;
console.log(
  `most stored at any moment: ${storedMost.toFixed(3)}; a restore at the end is ${equal ? 'equal' : 'NOT EQUAL'}`,
);
await rig.kill();
process.exitCode = equal ? 0 : 1;
