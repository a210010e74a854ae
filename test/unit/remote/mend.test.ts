/** Objects that a bucket loses, or damages, on the way to its blocks: a scrub names them, and a checkpoint does without them. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { decodeHeader } from '../../../src/remote/seal-header.js';
import type { FetchFailure, FromReplicator, ToReplicator } from '../../../src/remote/replication-messages.js';
import type { Mended } from '../../../src/remote/mend.js';
import type { RemoteDamage, RemoteScrub } from '../../../src/remote/remote-scrub.js';
import { BLOCK, Rig } from '../../fake/replication-rig.js';
import { restoredImage } from '../../fake/restored-image.js';

/** One block in each segment: the first 1024 segments make a table shard. */
const BLOCKS = 1100;
/** No table shard. */
const FEW_BLOCKS = 400;
/** Of these some are written again and again. */
const BUSY_BLOCKS = 40;

async function filledRig(blocks = BLOCKS): Promise<Rig> {
  const rig = new Rig({ seed: 12, blocks, config: { segmentBytes: BLOCK, shardRewriteBlocks: 100 } });
  rig.start();
  const data = Uint8Array.from({ length: blocks * BLOCK }, (_, at) => 1 + (Math.floor(at / BLOCK) % 250));
  rig.write([{ kind: 'write', firstBlock: 0, data }]);
  await rig.drain();
  await rewrite(rig, [0]);
  for (let kept = 0; kept < 4; kept++) await checkpoint(rig);
  return rig;
}

/** Writes a block as it is, and has a checkpoint written. */
async function checkpoint(rig: Rig): Promise<void> {
  await rewrite(rig, [more++ % BUSY_BLOCKS]);
  assert.deepEqual(await mend(rig, []), { written: true, problems: [] });
}
let more = 0;

async function rewrite(rig: Rig, blocks: readonly number[]): Promise<void> {
  const image = rig.log.imageAt(rig.log.lastLsn);
  for (const block of blocks)
    rig.write([{ kind: 'write', firstBlock: block, data: image.slice(block * BLOCK, (block + 1) * BLOCK) }]);
  await rig.drain();
}

async function answer<Result>(
  rig: Rig,
  question: (id: number) => ToReplicator,
  resultOf: (message: FromReplicator, id: number) => Result | FetchFailure | undefined,
): Promise<Result> {
  const id = rig.random.below(1e9);
  rig.core?.receive(question(id));
  let result: Result | FetchFailure | undefined;
  await rig.until(() => rig.messages.some((message) => (result ??= resultOf(message, id)) !== undefined));
  assert.ok(result !== undefined);
  if (typeof result === 'object' && result !== null && 'code' in result)
    assert.fail(`${result.code}: ${result.message}`);
  return result;
}

function scrub(rig: Rig): Promise<RemoteScrub> {
  return answer<RemoteScrub>(
    rig,
    (id) => ({ type: 'scrub', id }),
    (message, id) => (message.type === 'scrubbed' && message.id === id ? message.result : undefined),
  );
}

function mend(rig: Rig, objects: readonly string[]): Promise<Mended> {
  return answer<Mended>(
    rig,
    (id) => ({ type: 'mend', id, objects }),
    (message, id) => (message.type === 'mended' && message.id === id ? message.result : undefined),
  );
}

/** As the gateway heals, but for the reports. */
async function heal(rig: Rig, damages: readonly RemoteDamage[]): Promise<Mended> {
  await rewrite(
    rig,
    damages.flatMap(({ blocks }) => blocks),
  );
  const objects = damages.filter(({ current }) => current).map(({ object }) => object);
  let mended = await mend(rig, objects);
  if (mended.written) return mended;
  await rewrite(rig, [0]);
  mended = await mend(rig, objects);
  assert.ok(mended.written, 'there is a new recovery point');
  return mended;
}

async function assertRestores(rig: Rig, what: string): Promise<void> {
  const { image } = await restoredImage(rig);
  assert.equal(Buffer.compare(image, rig.log.imageAt(rig.log.lastLsn)), 0, `what was restored differs ${what}`);
}

/** As if deletion had done its work: the newest three checkpoints, and no way from the first segment on. */
async function forgetBeginning(rig: Rig): Promise<void> {
  const { names } = await rig.sealer();
  const numberOf = (name: string): number => Number(name.split('-').at(-1));
  const roots = rig.store.keys(names.checkpointsPrefix).sort((left, right) => numberOf(left) - numberOf(right));
  for (const name of roots.slice(0, -3)) rig.store.poke(name, undefined);
  // Block 0 was written again since.
  rig.store.poke(names.segment({ epoch: 1, number: 1 }), undefined);
}

type Part = 'map shard' | 'table shard' | 'root' | 'segment' | 'segment that is only on the way';

async function nameOf(rig: Rig, part: Part): Promise<string> {
  const { names } = await rig.sealer();
  const keys = (folder: string): string[] => rig.store.keys(`${rig.config.uuid}/${folder}/`);
  const byNumber = (name: string): number => {
    const parsed = names.parse(name);
    return parsed !== undefined && 'number' in parsed ? parsed.number : 0;
  };
  const newest = (folder: string, more: (name: string) => boolean = () => true): string => {
    const found = keys(folder)
      .filter(more)
      .sort((left, right) => byNumber(right) - byNumber(left));
    assert.ok(found[0] !== undefined, `there is none in ${folder}`);
    return found[0];
  };
  const isMap = (name: string): boolean => decodeHeader(name, rig.store.peek(name)!).kind === 'mapShard';
  if (part === 'root') return newest('checkpoints');
  if (part === 'map shard') return newest('shards', isMap);
  if (part === 'table shard') return newest('shards', (name) => !isMap(name));
  if (part === 'segment') return names.segment({ epoch: rig.state.remoteEpoch, number: 300 });
  // Written over before the next checkpoint: nothing lives in the first of them.
  await rewrite(rig, [5]);
  const name = names.segment({ epoch: rig.state.remoteEpoch, number: rig.state.segmentNumber });
  await rewrite(rig, [5]);
  return name;
}

function damage(rig: Rig, name: string, how: string): void {
  const body = rig.store.peek(name);
  assert.ok(body !== undefined, `${name} is there`);
  if (how === 'removed') rig.store.poke(name, undefined);
  else if (how === 'cut off') rig.store.poke(name, body.slice(0, 60));
  else rig.store.poke(name, flipped(body));
}

function flipped(body: Uint8Array): Uint8Array {
  const changed = body.slice();
  changed[70]! ^= 4;
  return changed;
}

describe('an object of the bucket that is damaged or missing', () => {
  const parts: readonly Part[] = ['map shard', 'table shard', 'root', 'segment', 'segment that is only on the way'];
  for (const [how, blocks] of [
    ['flipped', FEW_BLOCKS],
    ['cut off', FEW_BLOCKS],
    ['removed', BLOCKS],
  ] as const) {
    it(`is named, and a bucket without it restores again after a heal: ${how}`, async () => {
      const rig = await filledRig(blocks);
      for (const part of parts) {
        if (part === 'table shard' && blocks < BLOCKS) continue;
        const name = await nameOf(rig, part);
        damage(rig, name, how);
        const found = await scrub(rig);
        const named = found.damages.find(({ object }) => object === name);
        assert.ok(named?.current === true, `${part}, ${how}: ${JSON.stringify(found.damages)}`);
        assert.deepEqual(await heal(rig, found.damages), { written: true, problems: [] }, part);
        await assertRestores(rig, `after a ${part} was ${how}`);
        // Three more, and nothing that is kept needs it.
        for (let kept = 0; kept < 3; kept++) await checkpoint(rig);
        assert.deepEqual((await scrub(rig)).damages, [], part);
      }
      await rig.kill();
    });
  }

  it('that all checkpoints share makes the bucket unreadable, and a restarted owner heals it', async () => {
    for (const part of ['map shard', 'table shard'] as const) {
      const rig = await filledRig();
      await forgetBeginning(rig);
      const name = await nameOf(rig, part);
      damage(rig, name, 'removed');
      await assert.rejects(restoredImage(rig), /missing|gap|404/, part);
      await rig.kill();
      rig.start();
      await rig.until(() => rig.messages.some(({ type }) => type === 'attached'));
      const { damages } = await scrub(rig);
      assert.ok(damages.some(({ object }) => object === name));
      await heal(rig, damages);
      await assertRestores(rig, `after the ${part} was lost`);
      assert.ok(rig.store.peek(name) === undefined, 'a name is given once');
      await rig.kill();
    }
  });

  it('does not cost the owner its map', async () => {
    const rig = await filledRig(FEW_BLOCKS);
    const { names } = await rig.sealer();
    const roots = (): number => rig.store.keys(names.checkpointsPrefix).length;
    // The process dies between the root and its own map file, which so shows the checkpoint before.
    const before = roots();
    rig.disk.hook = (operation, path) => {
      if (operation === 'sync' && path === 'map.redo') throw new GatewayError('disk-full', 'the process dies here');
    };
    await rewrite(rig, [7]);
    rig.core?.receive({ type: 'mend', id: 1, objects: [] });
    await rig.until(() => rig.messages.some((message) => message.type === 'mended' && message.id === 1));
    assert.ok(roots() > before, 'its root is in the bucket');
    await rig.kill();
    rig.disk.hook = () => undefined;
    await forgetBeginning(rig);
    damage(rig, await nameOf(rig, 'map shard'), 'removed');
    rig.start();
    await rig.until(() => rig.messages.some(({ type }) => type === 'attached'));
    await heal(rig, (await scrub(rig)).damages);
    await assertRestores(rig, 'after the shard was lost');
    await rig.kill();
  });

  it('is not called replaced where the segments that would say what stood in a table are gone too', async () => {
    const rig = await filledRig();
    const table = await nameOf(rig, 'table shard');
    const segment = await nameOf(rig, 'segment');
    damage(rig, table, 'removed');
    damage(rig, segment, 'removed');
    const { damages } = await scrub(rig);
    const blocks = damages.find(({ object }) => object === segment)?.blocks ?? [];
    assert.equal(blocks.length, 1, 'the block in it is known by the map');
    await rewrite(rig, [3]);
    const mended = await mend(
      rig,
      damages.map(({ object }) => object),
    );
    assert.match(mended.problems.join(), /cannot be written again: .*is missing/);
    assert.deepEqual(await heal(rig, damages), { written: true, problems: [] }, 'its block was sent again');
    await assertRestores(rig, 'after both were lost');
    await rig.kill();
  });

  it('of a snapshot is said to be lost as long as the snapshot is there, and of an older checkpoint until that goes', async () => {
    const rig = await filledRig();
    const lsn = rig.write([{ kind: 'snapshot', name: 'kept', snapshotLsn: 0 }]);
    await rig.drain();
    await checkpoint(rig);
    const { names } = await rig.sealer();
    const [older] = rig.store
      .keys(names.checkpointsPrefix)
      .sort(
        (left, right) =>
          (names.parse(left) as { number: number }).number - (names.parse(right) as { number: number }).number,
      )
      .slice(-2);
    assert.ok(older !== undefined);
    damage(rig, older, 'removed');
    const both = await scrub(rig);
    assert.deepEqual(
      both.damages.map(({ object, current, snapshots }) => ({ object, current, snapshots })),
      [{ object: older, current: false, snapshots: ['kept'] }],
    );
    for (let kept = 0; kept < 4; kept++) await checkpoint(rig);
    const lost = await scrub(rig);
    assert.deepEqual(
      lost.damages.map(({ object, older: needed, snapshots }) => ({ object, needed, snapshots })),
      [{ object: older, needed: false, snapshots: ['kept'] }],
    );
    await assertRestores(rig, 'without the root of its snapshot');
    rig.write([{ kind: 'snapshot', name: '', snapshotLsn: lsn }]);
    await rig.drain();
    assert.deepEqual((await scrub(rig)).damages, []);
    await rig.kill();
  });
});
