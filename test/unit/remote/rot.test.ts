/**
 * One flipped bit anywhere in the directory of a volume that replicates, or in its bucket: every block is what it was or
 * an error, blocks that the bucket has are healed, and what the bucket gives back afterwards was never touched by the rot.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { restoreFull } from '../../../src/remote/restore.js';
import { EngineRig } from '../../fake/engine-rig.js';
import { SeededRandom } from '../../fake/random.js';
import { restoreRequest } from '../../fake/restored-image.js';
import { settle } from '../engine/volume-harness.js';

const BLOCK = 4096;
const BLOCKS = 512;

interface Stage {
  readonly rig: EngineRig;
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly objects: ReadonlyMap<string, Uint8Array>;
  readonly expected: Uint8Array;
}

/** Blocks 0 to 159 replicated and in the image, 160 to 169 replicated and in the log, 170 to 179 only in the log. */
async function stage(): Promise<Stage> {
  const rig = new EngineRig(1);
  const { harness, store } = rig;
  const write = async (first: number, count: number): Promise<void> => {
    for (let block = first; block < first + count; block++)
      await harness.write(block * BLOCK, harness.random.bytes(BLOCK));
  };
  await harness.create();
  await rig.replicate();
  await write(0, 160);
  await harness.zero(50 * BLOCK, 5 * BLOCK, true);
  await rig.drain();
  harness.clock.advance(6000);
  await rig.until(() => harness.volume.status().overlayBlocks === 0);
  await write(160, 10);
  await rig.drain();
  await rig.until(() => store.keys(`${rig.uuid}/checkpoints/`).length > 0);
  store.fault = ({ operation }) => (operation === 'put' ? { failBefore: 'store-unreachable' } : undefined);
  await write(170, 10);
  await harness.flush();
  harness.clock.advance(1100);
  await settle();
  store.fault = () => undefined;
  const files = harness.disk.snapshot();
  const objects = store.snapshot();
  rig.core!.receive({ type: 'stop' });
  return { rig, files, objects, expected: harness.expected(harness.operations.length) };
}

/** Blocks that are errors; fails on any that is something else than it was. */
async function lostBlocks({ rig, expected }: Stage): Promise<number[]> {
  const lost: number[] = [];
  let left = BLOCKS;
  for (let block = 0; block < BLOCKS; block++) {
    rig.harness.read(block * BLOCK, BLOCK).then(
      (found) => {
        left--;
        const right = expected.subarray(block * BLOCK, (block + 1) * BLOCK);
        if (Buffer.compare(found, right) !== 0) lost.push(-block - 1);
      },
      (error: unknown) => {
        left--;
        assert.ok(error instanceof GatewayError && error.code === 'checksum-mismatch', String(error));
        lost.push(block);
      },
    );
  }
  await rig.until(() => left === 0);
  assert.ok(
    lost.every((block) => block >= 0),
    `blocks that read as something else: ${lost.join()}`,
  );
  return lost;
}

/** What a restore on another machine gives: blocks that are errors there; fails on any that is something else. */
async function restoredLosses({ rig, expected }: Stage): Promise<number[]> {
  const image = new Uint8Array(expected.length);
  const lost: number[] = [];
  await restoreFull({
    ...restoreRequest({ store: rig.store, clock: rig.harness.clock }, 77),
    openTarget: () =>
      Promise.resolve({
        sink: {
          write: (first, bytes, start, count, sums, sumsStart) => {
            image.set(bytes.subarray(start, start + count * BLOCK), first * BLOCK);
            for (let at = 0; at < count; at++) if (sums[sumsStart + at] === 1) lost.push(first + at);
            return Promise.resolve();
          },
          finish: () => Promise.resolve(),
        },
      }),
  });
  for (let block = 0; block < BLOCKS; block++) {
    const [found, right] = [image, expected].map((bytes) => bytes.subarray(block * BLOCK, (block + 1) * BLOCK));
    if (!lost.includes(block)) assert.equal(Buffer.compare(found!, right!), 0, `block ${block} is restored wrong`);
  }
  return lost;
}

/** undefined: it was refused. */
async function local(staged: Stage, path: string, at: number, bit: number): Promise<number[] | undefined> {
  const { rig, files, objects } = staged;
  const { harness, store } = rig;
  harness.disk.restore(files);
  store.restore(objects);
  harness.disk.bytesOf(path)[at]! ^= 1 << bit;
  try {
    await harness.open();
  } catch (error) {
    assert.ok(error instanceof GatewayError && error.code === 'log-damaged', String(error));
    return undefined;
  }
  await rig.replicate();
  const lost = await lostBlocks(staged);
  harness.clock.advance(6000);
  await rig.drain();
  await settle();
  const later = await lostBlocks(staged);
  assert.ok(later.every((block) => lost.includes(block)));
  const remote = await restoredLosses(staged);
  assert.ok(
    remote.every((block) => lost.includes(block)),
    `lost in the bucket: ${remote.join()}`,
  );
  assert.ok(!rig.messages.some(({ type }) => type === 'fatal' || type === 'fenced'));
  rig.core!.receive({ type: 'stop' });
  await harness.volume.close();
  return later;
}

function place(random: SeededRandom, from: number, to: number): { at: number; bit: number } {
  return { at: from + random.below(to - from), bit: random.below(8) };
}

describe('a flipped bit in the directory of a volume that replicates', () => {
  it('in image, sums, superblocks and map is healed', async () => {
    const staged = await stage();
    const random = new SeededRandom(5);
    const ranges = {
      image: [0, 160 * BLOCK],
      sums: [0, 1024],
      'super.0': [0, 300],
      'super.1': [0, 300],
      map: [0, staged.files.get('map')!.length],
    } as const;
    for (const [path, [from, to]] of Object.entries(ranges)) {
      for (let round = 0; round < 5; round++) {
        const { at, bit } = place(random, from, to);
        assert.deepEqual(await local(staged, path, at, bit), [], `${path} at ${at}`);
      }
    }
    for (const at of [0, 13, 30, 60, 4096, 8192 + 170 * 8]) assert.deepEqual(await local(staged, 'map', at, 1), []);
  });

  it('in a change of the map on its way is found, and the map is made again', async () => {
    const staged = await stage();
    let redo: Uint8Array | undefined;
    const { disk } = staged.rig.harness;
    disk.restore(staged.files);
    staged.rig.store.restore(staged.objects);
    disk.bytesOf('map')[0]! ^= 1; // it is made again, by way of a redo file
    disk.hook = (operation, path) => {
      if (operation === 'remove' && path === 'map.redo') redo ??= disk.bytesOf('map.redo').slice();
    };
    await staged.rig.harness.open();
    await staged.rig.replicate();
    await staged.rig.drain();
    await staged.rig.until(() => redo !== undefined);
    disk.hook = () => undefined;
    staged.rig.core!.receive({ type: 'stop' });
    await settle();
    const files = new Map([...staged.files, ['map.redo', redo!]]);
    for (const at of [3, 12, 40, 50, 70, 4096, 4096 + 9, 4096 + 13, 4096 + 100, redo!.length - 1]) {
      assert.deepEqual(await local({ ...staged, files }, 'map.redo', at, at % 8), [], `map.redo at ${at}`);
    }
  });

  it('in the log is healed where the bucket has the block, and else stays an error in both places', async () => {
    const staged = await stage();
    const log = Buffer.from(staged.files.get('log/00000001')!);
    for (const block of [0, 100, 159, 160, 165, 169, 170, 174, 179]) {
      const at = log.indexOf(staged.expected.subarray(block * BLOCK, (block + 1) * BLOCK));
      assert.ok(at > 0);
      const lost = await local(staged, 'log/00000001', at + block, block % 8);
      assert.deepEqual(lost, block < 170 ? [] : [block], `block ${block}`);
      const header = log.lastIndexOf('KGLB', at);
      const opened = await local(staged, 'log/00000001', header + 16 + (block % 40), 1);
      // Before the tail nothing is needed any more.
      assert.deepEqual(opened, block < 160 ? [] : undefined, `header before block ${block}`);
    }
  });
});

describe('a flipped bit in the bucket', () => {
  it('is found by a restore, which names the object or does without it', async () => {
    const staged = await stage();
    const random = new SeededRandom(9);
    const { rig, objects, expected } = staged;
    // The last ten blocks never got there.
    const there = expected.slice();
    there.fill(0, 170 * BLOCK, 180 * BLOCK);
    const outcomes = new Map<string, Set<string>>();
    for (const [key, body] of objects) {
      const kind = key.split('/')[1] ?? '';
      const places = [4, 50, 80, body.length - 1, ...Array.from({ length: 3 }, () => random.below(body.length))];
      for (const at of places) {
        rig.store.restore(objects);
        const damaged = body.slice();
        damaged[at]! ^= 1 << random.below(8);
        rig.store.poke(key, damaged);
        let outcome = 'restored';
        try {
          assert.deepEqual(await restoredLosses({ ...staged, expected: there }), []);
        } catch (error) {
          if (!(error instanceof GatewayError)) throw error;
          outcome = error.code;
          assert.match(error.message, new RegExp(`${rig.uuid}/${kind}`), 'it names the object');
        }
        outcomes.set(kind, (outcomes.get(kind) ?? new Set()).add(outcome));
      }
    }
    const found = Object.fromEntries([...outcomes].map(([kind, set]) => [kind, [...set].sort()]));
    assert.deepEqual(found, {
      checkpoints: ['restored'],
      epochs: ['restored'],
      keys: ['object-damaged'],
      segments: ['object-damaged'],
      volume: ['object-damaged'],
    });
  });
});
