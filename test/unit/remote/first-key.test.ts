import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { openVolumeSealer } from '../../../src/remote/key.js';
import { openVolume } from '../../../src/remote/volume-object.js';
import { SeededRandom } from '../../fake/random.js';
import { Rig, testMaster } from '../../fake/replication-rig.js';

const isKey = (key: string): boolean => key.includes('/keys/');

/** A first start that is killed while its PUT of the wrapped key is under way: it has not arrived yet. */
async function killedAtKey(rig: Rig): Promise<void> {
  let died = false;
  rig.store.fault = ({ operation, key }) => {
    if (died) return { failBefore: 'store-unreachable' };
    if (operation !== 'put' || !isKey(key)) return undefined;
    died = true;
    return { lateDuplicate: true, failAfter: 'store-unreachable' };
  };
  rig.start();
  await rig.until(() => died);
  await rig.kill();
  for (const key of rig.store.keys().filter(isKey)) rig.store.poke(key, undefined);
  rig.store.fault = () => undefined;
}

function rigFor(conditional: boolean): Rig {
  const rig = new Rig({ seed: 4, config: conditional ? {} : { fencing: 'none' } });
  rig.store.conditionalPuts = conditional;
  return rig;
}

async function assertOpens(rig: Rig): Promise<void> {
  const { uuid, masters } = rig.config;
  const sealer = await openVolumeSealer(rig.store, { uuid, masters, random: new SeededRandom(9) });
  const volume = rig.store.peek(sealer.names.volume);
  assert.ok(volume !== undefined);
  assert.equal(openVolume(sealer, volume).name, rig.config.name);
}

describe('the key of a volume whose first start died while it was put', () => {
  for (const conditional of [true, false]) {
    const store = conditional ? 'a store with conditional PUT' : 'fencing: none';
    it(`opens it wherever that PUT lands among those of the next start, with ${store}`, async () => {
      const probe = rigFor(conditional);
      await killedAtKey(probe);
      const before = probe.store.calls.length;
      probe.write([{ kind: 'write', firstBlock: 1, data: new Uint8Array(4096).fill(7) }]);
      probe.start();
      await probe.drain();
      const requests = probe.store.calls.length - before;
      await probe.kill();
      for (let at = 0; at <= requests; at++) {
        const rig = rigFor(conditional);
        await killedAtKey(rig);
        let request = 0;
        rig.store.fault = () => {
          if (request++ === at) rig.store.deliverLate();
          return undefined;
        };
        rig.write([{ kind: 'write', firstBlock: 1, data: new Uint8Array(4096).fill(7) }]);
        rig.start();
        await rig.drain();
        rig.store.deliverLate();
        await assertOpens(rig);
        await rig.kill();
        rig.start();
        rig.write([{ kind: 'write', firstBlock: 2, data: new Uint8Array(4096).fill(8) }]);
        await rig.drain();
        assert.equal(await rig.disk.exists('volume-key'), false, 'the directory keeps no key longer than it must');
        await rig.kill();
      }
    });
  }

  it('is not made anew for another master key, nor when it has rotted here', async () => {
    const rig = rigFor(false);
    await killedAtKey(rig);
    const other = new Rig({ seed: 4, store: rig.store, config: { ...rig.config, masters: [testMaster(9)] } });
    other.disk.restore(rig.disk.snapshot());
    other.start();
    await other.until(() => other.ended() !== undefined);
    const mismatch = other.ended();
    assert.ok(mismatch?.type === 'fatal' && mismatch.code === 'key-mismatch');
    assert.match(
      mismatch.message,
      new RegExp(`master key ${testMaster().id}: give that key.*remove the file volume-key`),
    );
    await other.kill();
    const bytes = rig.disk.bytesOf('volume-key');
    bytes[bytes.length - 1]! ^= 1;
    rig.start();
    await rig.until(() => rig.ended() !== undefined);
    const damaged = rig.ended();
    assert.ok(damaged?.type === 'fatal' && damaged.code === 'object-damaged');
    assert.match(damaged.message, /volume-key/);
    assert.deepEqual(rig.store.keys(), []);
    await rig.kill();
  });
});
