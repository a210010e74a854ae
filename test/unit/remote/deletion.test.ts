import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DELETIONS_FILE } from '../../../src/remote/dead-list.js';
import { Pin } from '../../../src/remote/pin.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryStore } from '../../fake/memory-store.js';
import { SeededRandom } from '../../fake/random.js';
import { BLOCK, Rig } from '../../fake/replication-rig.js';
import { restoredImage } from '../../fake/restored-image.js';

const BLOCKS = 128;
const GRACE_MS = 4000;

function newRig(options: ConstructorParameters<typeof Rig>[0] = {}): Rig {
  const { config, ...rest } = options;
  return new Rig({ blocks: BLOCKS, ...rest, config: { compaction: true, graceMs: GRACE_MS, ...config } });
}

let marks = 0;

/** Overwrites single blocks at random places, so many groups; each is committed before the next. */
async function churn(rig: Rig, random: SeededRandom, groups: number): Promise<void> {
  for (let group = 0; group < groups; group++) {
    rig.write(
      Array.from({ length: 12 }, () => {
        const data = new Uint8Array(BLOCK).fill(1 + random.below(255));
        new DataView(data.buffer).setUint32(8, ++marks);
        return { kind: 'write' as const, firstBlock: random.below(BLOCKS), data };
      }),
    );
    await rig.drain();
    // A while, in which what runs beside is through.
    const untilMs = rig.clock.nowMs() + 500;
    await rig.until(() => rig.clock.nowMs() >= untilMs);
  }
}

function deletes(rig: Rig): string[] {
  return rig.store.calls.filter(({ operation }) => operation === 'delete').map(({ key }) => key);
}

const kindOf = (name: string): string => name.split('/')[1] ?? 'scratch';
const volumeDeletes = (rig: Rig): string[] => deletes(rig).filter((name) => kindOf(name) !== 'scratch');

async function savedBy(rig: Rig): Promise<{ runningMs: number }> {
  const file = JSON.parse(Buffer.from(await rig.disk.readSmall(DELETIONS_FILE)).toString()) as { saved: string };
  return JSON.parse(file.saved) as { runningMs: number };
}

async function isWhole(rig: Rig): Promise<void> {
  const { image, recoveryPoint } = await restoredImage(rig);
  assert.equal(Buffer.compare(image, rig.log.imageAt(recoveryPoint.lsn)), 0);
  assert.equal(recoveryPoint.lsn, rig.log.lastLsn);
}

describe('compaction and deletion', () => {
  it('keep what is stored near what lives, however often a volume is overwritten, and every restore equal', async () => {
    const rig = newRig();
    const random = new SeededRandom(1);
    rig.start();
    for (let round = 0; round < 6; round++) {
      await churn(rig, random, 20);
      await isWhole(rig);
    }
    const stored = rig.store.keys(`${rig.config.uuid}/segments/`).length;
    // 120 groups of a segment each, of which a volume of 128 blocks needs 11 to 12.
    assert.ok(stored < 45, `${stored} segments are stored`);
    const checkpoints = rig.store.keys(`${rig.config.uuid}/checkpoints/`).length;
    assert.ok(checkpoints >= 3 && checkpoints < 12, `${checkpoints} checkpoints, three and what waits`);
    const status = rig.messages.flatMap((message) => (message.type === 'status' ? [message.status] : [])).at(-1);
    assert.ok((status?.compactionBytes ?? 0) > 0);
    assert.deepEqual([...new Set(volumeDeletes(rig).map(kindOf))].sort(), ['checkpoints', 'pins', 'segments']);
  });

  it('count what the bucket holds as it is', async () => {
    const rig = newRig();
    rig.start();
    await churn(rig, new SeededRandom(2), 60);
    await rig.until(() => rig.clock.nowMs() % 5000 === 0);
    const status = rig.messages.flatMap((message) => (message.type === 'status' ? [message.status] : [])).at(-1);
    const keys = rig.store.keys(`${rig.config.uuid}/`);
    assert.equal(status?.remoteObjects, keys.length);
    assert.equal(
      status.remoteBytes,
      keys.reduce((sum, key) => sum + rig.store.peek(key)!.length, 0),
    );
    const written = new Set<number>();
    const image = rig.log.imageAt(rig.log.lastLsn);
    for (let block = 0; block < BLOCKS; block++) if (image[block * BLOCK] !== 0) written.add(block);
    // Exact as of the last checkpoint, plus what was sent since.
    const beyond = status.remoteLiveBytes / BLOCK - written.size;
    assert.ok(beyond >= 0 && beyond <= 48, `${beyond} blocks too many`);
  });

  it('do nothing where compaction is off: no delete is ever sent', async () => {
    const rig = newRig({ config: { compaction: false } });
    rig.start();
    await churn(rig, new SeededRandom(3), 40);
    assert.deepEqual(deletes(rig), []);
    assert.equal(rig.store.keys(`${rig.config.uuid}/segments/`).length, 40);
  });

  for (const [when, fencing] of [
    ['by the probe that a start makes', 'auto'],
    ['by the first delete, where there is no probe', 'none'],
  ] as const) {
    it(`go on where the store lets nobody delete, as is found ${when}: said once, and everything can be restored`, async () => {
      const rig = newRig({ config: { fencing } });
      rig.store.fault = ({ operation }) => (operation === 'delete' ? { failBefore: 'store-forbidden' } : undefined);
      rig.start();
      await churn(rig, new SeededRandom(13), 60);
      const said = rig.logger.lines.filter((line) => line.includes('the store forbids deletes'));
      assert.equal(said.length, 1);
      assert.ok(said[0]?.includes('compaction: off'));
      await isWhole(rig);
      // Nor is anything moved, which would only make the bucket grow.
      const compacted = (): number =>
        rig.messages.findLast((message) => message.type === 'status')?.status.compactionBytes ?? 0;
      const before = compacted();
      if (fencing === 'auto') assert.equal(before, 0);
      // The pins of what restores here are not the owner's.
      const tried = (): number => deletes(rig).filter((name) => kindOf(name) !== 'pins').length;
      assert.equal(tried(), 1, 'tried once');
      await churn(rig, new SeededRandom(14), 60);
      assert.equal(compacted(), before);
      assert.equal(tried(), 1);
      await isWhole(rig);
    });
  }

  it('leave the segments behind the oldest of three checkpoints, so that two may be damaged', async () => {
    const rig = newRig();
    rig.start();
    await churn(rig, new SeededRandom(4), 60);
    assert.ok(volumeDeletes(rig).length > 20);
    const checkpoints = rig.store.keys(`${rig.config.uuid}/checkpoints/`);
    for (const name of checkpoints.slice(-2)) rig.store.poke(name, rig.store.peek(name)!.slice(0, 200));
    await isWhole(rig);
    for (const name of checkpoints) rig.store.poke(name, new Uint8Array(100));
    await assert.rejects(restoredImage(rig), { code: 'remote-gap' });
    await assert.rejects(restoredImage(rig, { acceptLoss: true }), { code: 'remote-gap' });
  });

  it('wait for readers: all of it until they chose, and then what they chose', async () => {
    const rig = newRig();
    const random = new SeededRandom(5);
    rig.start();
    await churn(rig, random, 30);
    const sealer = await rig.sealer();
    const { store, clock } = rig;
    const pin = await Pin.put({ store, sealer, clock, random, log: new RecordedLog(), reader: 'test', request: {} });
    const before = volumeDeletes(rig).length;
    const segments = store.keys(`${rig.config.uuid}/segments/`);
    await churn(rig, random, 30);
    const missing = segments.filter((name) => store.peek(name) === undefined);
    assert.deepEqual(missing, []);
    assert.equal(volumeDeletes(rig).length, before);
    // From now on it needs nothing that was dead at this point.
    const [, , newest] = store.keys(`${rig.config.uuid}/checkpoints/`).slice(-3);
    await pin.narrow(Number(newest!.slice(-15)));
    await churn(rig, random, 20);
    assert.ok(volumeDeletes(rig).length > before + 10);
    assert.ok(store.peek(newest!) !== undefined, 'its checkpoint stands');
    await pin.release();
    await churn(rig, random, 10);
    assert.equal(store.peek(newest!), undefined);
  });

  it('wait until the directory has recorded what makes them unneeded', async () => {
    const rig = newRig();
    const random = new SeededRandom(6);
    rig.recorded = 0;
    rig.start();
    await churn(rig, random, 60);
    assert.deepEqual(volumeDeletes(rig), []);
    rig.recorded = undefined;
    await churn(rig, random, 10);
    assert.ok(volumeDeletes(rig).length > 20);
  });

  it('never delete as an owner that was fenced, however long it slept', async () => {
    const rig = newRig();
    const random = new SeededRandom(7);
    rig.start();
    await churn(rig, random, 30);
    // Everything that its commits lead to waits from here on.
    let wake = (): void => undefined;
    const slept = new Promise<void>((resolve) => (wake = resolve));
    rig.store.fault = ({ operation }) => (operation === 'delete' || operation === 'put' ? { delay: slept } : undefined);
    rig.write([{ kind: 'write', firstBlock: 1, data: new Uint8Array(BLOCK).fill(9) }]);
    await rig.until(() => rig.clock.nowMs() % 1000 === 0);
    rig.clock.advance(40 * GRACE_MS);
    const after = rig.store.calls.length;
    rig.store.fault = () => undefined;
    const other = newRig({
      store: rig.store,
      log: rig.log.clone(),
      state: rig.state,
      config: { uuid: rig.config.uuid },
    });
    other.start();
    other.write([{ kind: 'write', firstBlock: 1, data: new Uint8Array(BLOCK).fill(8) }]);
    await other.drain();
    wake();
    await rig.until(() => rig.ended()?.type === 'fenced');
    const late = rig.store.calls.slice(after).filter(({ operation }) => operation === 'delete');
    assert.deepEqual(
      late.map(({ key }) => kindOf(key)).filter((kind) => kind !== 'scratch'),
      [],
    );
  });

  it('go on after a restart, and know then how long it has waited', async () => {
    const rig = newRig();
    const random = new SeededRandom(8);
    rig.start();
    await churn(rig, random, 30);
    const saved = await savedBy(rig);
    assert.ok(saved.runningMs > 10_000);
    await rig.kill();
    rig.clock.advance(50_000);
    rig.start();
    await churn(rig, random, 30);
    const again = await savedBy(rig);
    assert.ok(
      again.runningMs > saved.runningMs && again.runningMs < saved.runningMs + 40_000,
      'downtime does not count',
    );
    await isWhole(rig);
    assert.ok(rig.store.keys(`${rig.config.uuid}/segments/`).length < 45);
  });

  it('begin their wait anew when their file has rotted', async () => {
    const rig = newRig();
    const random = new SeededRandom(9);
    rig.start();
    await churn(rig, random, 30);
    await rig.kill();
    // One bit, in a number: any of it may name something that is needed.
    const file = Buffer.from(await rig.disk.readSmall(DELETIONS_FILE));
    const at = file.lastIndexOf('segments/') + 20;
    file.writeUInt8(file.readUInt8(at) ^ 1, at);
    await rig.disk.writeSmall(DELETIONS_FILE, file);
    const before = volumeDeletes(rig).length;
    rig.start();
    await churn(rig, random, 4);
    assert.equal(volumeDeletes(rig).length, before);
    await rig.kill();
    rig.start();
    await churn(rig, random, 45);
    await isWhole(rig);
    assert.ok(rig.store.keys(`${rig.config.uuid}/segments/`).length < 45);
  });

  it('sweep what was sent and never committed once its epoch was fenced, and never a fence', async () => {
    const rig = newRig({ config: { segmentBytes: 4 * BLOCK } });
    const random = new SeededRandom(10);
    rig.start();
    await churn(rig, random, 4);
    // A group of four segments whose second one never arrives.
    let sent = 0;
    rig.store.fault = ({ operation, key }) => {
      const hole = operation === 'put' && kindOf(key) === 'segments' && ++sent > 0 && sent % 4 === 2;
      return hole ? { delay: new Promise(() => undefined) } : undefined;
    };
    rig.write([{ kind: 'write', firstBlock: 0, data: new Uint8Array(16 * BLOCK).fill(7) }]);
    await rig.until(() => rig.clock.nowMs() % 5000 === 0);
    await rig.kill();
    rig.store.fault = () => undefined;
    const voids = rig.store.keys(`${rig.config.uuid}/segments/`).slice(-2);
    rig.start();
    await churn(rig, random, 40);
    const left = rig.store.keys(`${rig.config.uuid}/segments/`);
    assert.deepEqual(voids.filter((name) => left.includes(name)).length <= 1, true, 'what was void is gone');
    const epochs = rig.store.keys(`${rig.config.uuid}/epochs/`).length;
    assert.equal(epochs, 2);
    await isWhole(rig);
  });

  it('leave scratch objects of probes a day, and then remove them', async () => {
    const rig = newRig();
    const random = new SeededRandom(11);
    rig.store.poke('probe-old', Uint8Array.of(1));
    rig.start();
    await churn(rig, random, 20);
    assert.ok(rig.store.peek('probe-old') !== undefined);
    rig.clock.advance(86_400_000);
    await churn(rig, random, 10);
    assert.equal(rig.store.peek('probe-old'), undefined);
  });

  it('free with a snapshot what it alone kept, as was said before', async () => {
    const rig = newRig();
    const random = new SeededRandom(14);
    rig.start();
    await churn(rig, random, 15);
    const first = rig.write([{ kind: 'snapshot', name: 'first', snapshotLsn: 0 }]);
    await churn(rig, random, 25);
    rig.write([{ kind: 'snapshot', name: 'second', snapshotLsn: 0 }]);
    await churn(rig, random, 60);
    const known = rig.messages.flatMap((message) => (message.type === 'snapshots' ? message.snapshots : []));
    const said = known.findLast(({ name }) => name === 'first');
    const sizes = new Map(rig.store.keys(`${rig.config.uuid}/`).map((name) => [name, rig.store.peek(name)!.length]));
    const before = volumeDeletes(rig).length;
    rig.write([{ kind: 'snapshot', name: 'first', snapshotLsn: first }]);
    await churn(rig, random, 25);
    // Whatever else is that old is kept by the other one.
    const { names } = await rig.sealer();
    const { point } = (await restoredImage(rig)).snapshots.find(({ name }) => name === 'second')!;
    const old = volumeDeletes(rig)
      .slice(before)
      .filter((name) => {
        const parsed = names.parse(name);
        return parsed !== undefined && 'number' in parsed && parsed.number < point.number && kindOf(name) !== 'epochs';
      });
    assert.ok(old.some((name) => kindOf(name) === 'segments') && old.some((name) => kindOf(name) === 'checkpoints'));
    assert.equal(
      old.reduce((sum, name) => sum + sizes.get(name)!, 0),
      said?.exclusiveBytes,
    );
    await restoredImage(rig, { snapshot: 'second' });
  });

  it('survive a store that fails at every request in turn', async () => {
    const store = new MemoryStore();
    const rig = newRig({ store });
    const random = new SeededRandom(12);
    store.fault = ({ ordinal }) =>
      ordinal % 3 === 0
        ? { failBefore: 'store-unreachable' }
        : ordinal % 5 === 0
          ? { failAfter: 'store-failed' }
          : undefined;
    rig.start();
    await churn(rig, random, 40);
    store.fault = () => undefined;
    await churn(rig, random, 5);
    await isWhole(rig);
  });
});
