import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { removeRemote } from '../../../src/remote/remote-remove.js';
import type { Removal, RemoveOptions } from '../../../src/remote/remote-remove.js';
import { SeededRandom } from '../../fake/random.js';
import { Rig, testMaster } from '../../fake/replication-rig.js';

async function two(): Promise<{ rig: Rig; other: Rig }> {
  const rig = new Rig();
  const other = new Rig({ store: rig.store, seed: 2, config: { name: 'disk1' } });
  for (const each of [rig, other]) {
    each.start();
    each.writeRandom(new SeededRandom(3));
    await each.drain();
    await each.kill();
  }
  return { rig, other };
}

function remove(rig: Rig, options: Partial<RemoveOptions> = {}): Promise<Removal | undefined> {
  return removeRemote({
    store: rig.store,
    masters: [testMaster()],
    volume: 'disk0',
    random: new SeededRandom(4),
    request: {},
    force: true,
    confirm: () => Promise.resolve(true),
    ...options,
  });
}

const code = (expected: string) => (error: unknown) => error instanceof GatewayError && error.code === expected;

describe('remote rm', () => {
  it('removes one volume whole, and no other', async () => {
    const { rig, other } = await two();
    const kept = rig.store.keys(`${other.config.uuid}/`);
    const removed = await remove(rig);
    assert.equal(removed?.name, 'disk0');
    assert.deepEqual(rig.store.keys(''), kept);
  });

  it('leaves alone what was written a moment ago, what was not confirmed, and what the key does not open', async () => {
    const { rig } = await two();
    const all = rig.store.keys('');
    await assert.rejects(remove(rig, { force: false }), code('remote-in-use'));
    assert.equal(await remove(rig, { confirm: () => Promise.resolve(false) }), undefined);
    await assert.rejects(remove(rig, { masters: [testMaster(1)] }), code('key-mismatch'));
    await assert.rejects(
      remove(rig, { masters: [testMaster(1)], volume: rig.config.uuid, force: false }),
      code('key-mismatch'),
    );
    assert.deepEqual(rig.store.keys(''), all);
    await remove(rig, { masters: [testMaster(1)], volume: rig.config.uuid });
    assert.deepEqual(rig.store.keys(`${rig.config.uuid}/`), []);
  });

  it('goes on, by name, wherever it was interrupted', async () => {
    const { rig } = await two();
    for (let left = 0; ; left++) {
      let deletes = 0;
      rig.store.fault = ({ operation, key }) =>
        operation === 'delete' && !key.includes('/pins/') && deletes++ >= 1
          ? { failBefore: 'store-failed' }
          : undefined;
      try {
        if ((await remove(rig)) !== undefined) break;
      } catch (error) {
        if (!code('store-failed')(error)) {
          // Its name is gone with its identity: what is left is its key, which goes by uuid.
          assert.ok(code('object-missing')(error), String(error));
          assert.deepEqual(
            rig.store.keys(`${rig.config.uuid}/`).map((key) => key.split('/')[1]),
            ['keys'],
          );
          await remove(rig, { volume: rig.config.uuid });
          assert.deepEqual(rig.store.keys(`${rig.config.uuid}/`), []);
          break;
        }
      }
      assert.ok(left < 50);
    }
  });

  it('stops an owner that lives in spite of all when it next looks', async () => {
    const { rig } = await two();
    rig.start();
    await rig.until(() => rig.messages.some(({ type }) => type === 'attached'));
    await rig.kill();
    await remove(rig);
    rig.start();
    await rig.until(() => rig.ended() !== undefined);
    const ended = rig.ended();
    assert.ok(ended?.type === 'fatal' && ended.code === 'remote-vanished', JSON.stringify(ended));
    await rig.kill();
  });
});
