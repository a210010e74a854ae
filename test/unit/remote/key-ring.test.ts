import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { openVolumeSealer } from '../../../src/remote/key.js';
import { KeyRing } from '../../../src/remote/key-ring.js';
import { ManualClock } from '../../fake/clock.js';
import { SeededRandom } from '../../fake/random.js';
import { Rig, testMaster } from '../../fake/replication-rig.js';

const [one, two] = [testMaster(7), testMaster(8)];

async function volume(): Promise<Rig> {
  const rig = new Rig();
  rig.start();
  rig.writeRandom(new SeededRandom(3));
  await rig.drain();
  await rig.kill();
  return rig;
}

function ring(rig: Rig, ...masters: (typeof one)[]): KeyRing {
  const { store, config } = rig;
  return new KeyRing({
    store,
    uuid: config.uuid,
    masters,
    clock: new ManualClock(),
    random: new SeededRandom(9),
    request: {},
  });
}

async function opens(rig: Rig, master: typeof one): Promise<boolean> {
  const options = { uuid: rig.config.uuid, masters: [master], random: new SeededRandom(1) };
  try {
    const sealer = await openVolumeSealer(rig.store, options);
    await rig.store.get(sealer.names.volume);
    return true;
  } catch (error) {
    assert.ok(
      error instanceof GatewayError && ['key-mismatch', 'object-missing', 'object-damaged'].includes(error.code),
    );
    return false;
  }
}

const code = (expected: string) => (error: unknown) => error instanceof GatewayError && error.code === expected;

describe('keys of a volume', () => {
  it('come and go without a byte of data being sent again', async () => {
    const rig = await volume();
    const data = rig.store.keys('').filter((key) => !key.includes('/keys/'));
    const before = data.map((key) => rig.store.peek(key));
    await ring(rig, one).add(two);
    assert.ok((await opens(rig, one)) && (await opens(rig, two)));
    assert.deepEqual(
      (await ring(rig, two).list()).map(({ id, opens: itOpens }) => [id, itOpens]).sort(),
      [
        [one.id, undefined],
        [two.id, true],
      ].sort(),
    );
    await ring(rig, two).remove(one.id);
    assert.ok(!(await opens(rig, one)) && (await opens(rig, two)));
    assert.deepEqual(rig.store.keys(`${rig.config.uuid}/keys/`), [`${rig.config.uuid}/keys/${two.id}`]);
    assert.deepEqual(
      data.map((key) => rig.store.peek(key)),
      before,
    );
    // The gateway goes on with the new one alone.
    Object.assign(rig.config, { masters: [two] });
    rig.start();
    rig.writeRandom(new SeededRandom(4));
    await rig.drain();
    await rig.kill();
  });

  it('are never removed when no other given key opens', async () => {
    const rig = await volume();
    await assert.rejects(ring(rig, one).remove(one.id), code('key-last'));
    await assert.rejects(ring(rig, one, two).remove(one.id), code('key-last'));
    await ring(rig, one).add(two);
    await assert.rejects(ring(rig, one).remove(one.id), code('key-last'));
    // One that is there but damaged opens nothing.
    const name = `${rig.config.uuid}/keys/${two.id}`;
    const whole = rig.store.peek(name);
    rig.store.poke(
      name,
      whole?.map((byte, at) => (at === 150 ? byte ^ 1 : byte)),
    );
    await assert.rejects(ring(rig, one, two).remove(one.id), code('key-last'));
    assert.ok(await opens(rig, one));
    // And is mended by adding it again.
    await ring(rig, one).add(two);
    assert.ok(await opens(rig, two));
    await assert.rejects(ring(rig, one).remove('0'.repeat(32)), code('not-found'));
  });

  it('open the volume after a death at any request of a rotation, which is then given again', async () => {
    for (let deadAt = 1; deadAt < 40; deadAt++) {
      for (const fault of [{ failBefore: 'store-failed' }, { failAfter: 'store-failed' }] as const) {
        const rig = await volume();
        let calls = 0;
        rig.store.fault = () => (++calls >= deadAt ? fault : undefined);
        const rotate = async (): Promise<void> => {
          const both = ring(rig, one, two);
          await both.add(two);
          if ((await both.list()).some(({ id }) => id === one.id)) await both.remove(one.id);
        };
        const ended = await rotate().then(
          () => true,
          () => false,
        );
        rig.store.fault = () => undefined;
        assert.ok((await opens(rig, one)) || (await opens(rig, two)), `dead at ${deadAt}`);
        await rotate();
        assert.ok((await opens(rig, two)) && !(await opens(rig, one)));
        if (ended && calls < deadAt) return;
      }
    }
  });

  it('do not all go where two remove each other’s at once', async () => {
    const rig = await volume();
    await ring(rig, one).add(two);
    await Promise.allSettled([ring(rig, one).remove(two.id), ring(rig, two).remove(one.id)]);
    assert.ok((await opens(rig, one)) || (await opens(rig, two)));
  });
});
