/** What a scrub of the bucket finds: whatever is wrong with one object, that object by its name and the blocks in it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { RemoteScrub } from '../../../src/remote/remote-scrub.js';
import { BLOCK, Rig } from '../../fake/replication-rig.js';

/** So many blocks, each in a segment of its own. */
async function scrubbedRig(blocks: number): Promise<Rig> {
  const rig = new Rig({ seed: 11, blocks, config: { segmentBytes: BLOCK } });
  rig.start();
  const data = Uint8Array.from({ length: blocks * BLOCK }, (_, at) => 1 + (Math.floor(at / BLOCK) % 250));
  rig.write([{ kind: 'write', firstBlock: 0, data }]);
  await rig.drain();
  return rig;
}

async function scrub(rig: Rig): Promise<RemoteScrub> {
  const id = rig.random.below(1e9);
  rig.core?.receive({ type: 'scrub', id });
  let result: RemoteScrub | undefined;
  await rig.until(() =>
    rig.messages.some((message) => {
      if (message.type !== 'scrubbed' || message.id !== id) return false;
      if (!('damages' in message.result)) assert.fail(`it stopped: ${message.result.code} ${message.result.message}`);
      result = message.result;
      return true;
    }),
  );
  assert.ok(result !== undefined);
  return result;
}

function flipped(body: Uint8Array, at: number, bit: number): Uint8Array {
  const changed = body.slice();
  changed[at]! ^= 1 << bit;
  return changed;
}

describe('a scrub of the bucket', () => {
  it('names a segment, and the blocks in it, whatever byte of it changed', async () => {
    const rig = await scrubbedRig(6);
    assert.deepEqual(await scrub(rig), { blocks: 6, damages: [] });
    const [key] = rig.store.keys(`${rig.config.uuid}/segments/`);
    const sound = rig.store.peek(key!)!;
    const changes = Array.from({ length: 80 }, (_, at) => flipped(sound, at, at % 8));
    // Versions 2 and 257 among them: of the header, nothing but what it says of itself vouches for that.
    for (const at of [8, 9]) for (let bit = 0; bit < 8; bit++) changes.push(flipped(sound, at, bit));
    changes.push(sound.slice(0, 50), sound.slice(0, 300), sound.slice(0, -1), new Uint8Array(0));
    for (const change of changes) {
      rig.store.poke(key!, change);
      const { damages } = await scrub(rig);
      assert.deepEqual(
        damages.map(({ object, blocks }) => ({ object, blocks })),
        [{ object: key, blocks: [0] }],
      );
    }
    rig.store.poke(key!, sound);
    assert.deepEqual(await scrub(rig), { blocks: 6, damages: [] });
  });

  it('names a shard of the segment table, whatever byte of it changed', async () => {
    const rig = await scrubbedRig(1200);
    const shards = rig.store.keys(`${rig.config.uuid}/shards/`);
    assert.equal(shards.length, 1, 'a shard of the table is in the bucket');
    const sound = rig.store.peek(shards[0]!)!;
    for (const [at, bit] of [
      [0, 0],
      [8, 1],
      [9, 0],
      [30, 5],
      [200, 3],
    ] as const) {
      rig.store.poke(shards[0]!, flipped(sound, at, bit));
      const { damages } = await scrub(rig);
      assert.deepEqual(
        damages.map(({ object }) => object),
        shards,
      );
    }
  });
});
