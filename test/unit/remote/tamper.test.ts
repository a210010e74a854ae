/** What a hostile provider can do to a bucket, object by object: it is named, or it changes nothing, and is never served. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { parseReceipt } from '../../../src/remote/receipt.js';
import type { Receipt } from '../../../src/remote/receipt.js';
import { verifyRemote } from '../../../src/remote/remote-verify.js';
import type { Verified } from '../../../src/remote/remote-verify.js';
import { restoreFull } from '../../../src/remote/restore.js';
import { plainChecksums } from '../../fake/checksums.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { SeededRandom } from '../../fake/random.js';
import { BLOCK, Rig, testMaster } from '../../fake/replication-rig.js';

interface Bucket {
  readonly rig: Rig;
  readonly receipt: Receipt;
  readonly image: Uint8Array;
}

/** Two owners one after the other, a fence, checkpoints with shards, segments with several frames; a receipt of the end. */
async function bucket(): Promise<Bucket> {
  const blocks = 8192;
  const rig = new Rig({ config: { segmentBytes: 80 * BLOCK }, blocks });
  const random = new SeededRandom(11);
  for (let life = 0; life < 2; life++) {
    rig.start();
    for (let batch = 0; batch < 9; batch++) {
      // One that has several frames, one whose trim makes a checkpoint write a shard of the map.
      const count = batch === 3 ? 70 : 4;
      const data = new Uint8Array(count * BLOCK).fill(1 + random.below(255));
      rig.write([{ kind: 'write', firstBlock: random.below(blocks - count), data }]);
      if (batch === 5) rig.write([{ kind: 'trim', firstBlock: random.below(1000), blockCount: 5000 }]);
      await rig.drain();
    }
    await rig.until(() => rig.store.keys(`${rig.config.uuid}/checkpoints/`).length > life);
    if (life === 0) await rig.kill();
  }
  const receipt = parseReceipt(await rig.receipt(), 'r');
  await rig.kill();
  return { rig, receipt, image: rig.log.imageAt(rig.log.lastLsn) };
}

function verify({ rig, receipt }: Bucket, withReceipt = true): Promise<Verified> {
  return verifyRemote({
    store: rig.store,
    masters: [testMaster()],
    volume: rig.config.uuid,
    ...(withReceipt ? { receipt } : {}),
    reader: 'test',
    checksums: plainChecksums,
    clock: rig.clock,
    random: new SeededRandom(5),
    log: new RecordedLog(),
  });
}

/** Names of what was found; a volume that cannot be opened is named by the refusal. */
async function found(of: Bucket): Promise<string> {
  try {
    return (await verify(of)).findings.map(({ object, problem }) => `${object} ${problem}`).join('\n');
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    return error.message;
  }
}

async function restore({ rig, receipt }: Bucket): Promise<Uint8Array> {
  let image = new Uint8Array(0);
  await restoreFull({
    store: rig.store,
    masters: [testMaster()],
    volume: rig.config.uuid,
    takeOver: false,
    acceptLoss: false,
    receipt,
    reader: 'test',
    checksums: plainChecksums,
    clock: rig.clock,
    random: new SeededRandom(6),
    log: new RecordedLog(),
    scratch: new MemoryDisk(),
    openTarget: ({ sizeBytes }) => {
      image = new Uint8Array(sizeBytes);
      const write = (first: number, bytes: Uint8Array, start: number, count: number): Promise<void> => {
        image.set(bytes.subarray(start, start + count * BLOCK), first * BLOCK);
        return Promise.resolve();
      };
      return Promise.resolve({ sink: { write, finish: () => Promise.resolve() } });
    },
  });
  return image;
}

/** A restore is equal, or refused. */
async function neverServesOther(of: Bucket, what: string): Promise<void> {
  try {
    assert.equal(Buffer.compare(await restore(of), of.image), 0, `${what}: what was restored differs`);
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
  }
}

const kindOf = (key: string): string => key.split('/')[1] ?? '';

const damages: readonly (readonly [string, (bytes: Uint8Array) => Uint8Array])[] = [
  ['a bit of its first byte flipped', (bytes) => flipped(bytes, 0)],
  ['a bit in its middle flipped', (bytes) => flipped(bytes, bytes.length >> 1)],
  ['a bit of its last byte flipped', (bytes) => flipped(bytes, bytes.length - 1)],
  ['its last byte cut off', (bytes) => bytes.subarray(0, -1)],
  ['all but its header cut off', (bytes) => bytes.subarray(0, 64)],
  ['nothing left of it', () => new Uint8Array(0)],
  ['a byte appended', (bytes) => Buffer.concat([bytes, Uint8Array.of(0)])],
];

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const changed = Uint8Array.from(bytes);
  changed[at] = (changed[at] ?? 0) ^ 4;
  return changed;
}

describe('tampering with every object in turn', () => {
  it('is nothing that an honest bucket shows', async () => {
    const of = await bucket();
    assert.equal(await found(of), '');
    assert.equal(Buffer.compare(await restore(of), of.image), 0);
    const kinds = new Set(of.rig.store.keys('').map(kindOf));
    for (const kind of ['volume', 'keys', 'epochs', 'segments', 'checkpoints', 'shards'])
      assert.ok(kinds.has(kind), kind);
  });

  it('is named when anything of it changed, and never restored', async () => {
    const of = await bucket();
    const { store } = of.rig;
    for (const key of store.keys(`${of.rig.config.uuid}/`)) {
      const whole = store.peek(key);
      assert.ok(whole !== undefined);
      for (const [what, damage] of damages) {
        store.poke(key, damage(whole));
        const named = await found(of);
        assert.ok(named.includes(key), `${key}, ${what}: ${named}`);
        await neverServesOther(of, `${key}, ${what}`);
      }
      store.poke(key, whole);
    }
  });

  it('is named when one takes another’s place, and never restored', async () => {
    const of = await bucket();
    const { store } = of.rig;
    const keys = store.keys(`${of.rig.config.uuid}/`);
    for (const [at, key] of keys.entries()) {
      for (const other of [keys[(at + 1) % keys.length], keys[(at + 7) % keys.length]]) {
        if (other === undefined || other === key) continue;
        const [one, two] = [store.peek(key), store.peek(other)];
        store.poke(key, two);
        store.poke(other, one);
        const named = await found(of);
        assert.ok(named.includes(key) || named.includes(other), `${key} and ${other}: ${named}`);
        await neverServesOther(of, `${key} and ${other}`);
        store.poke(key, one);
        store.poke(other, two);
      }
    }
  });

  it('is named when one is taken away, unless nothing needs it, and never restored', async () => {
    const of = await bucket();
    const { store, config } = of.rig;
    const silent: string[] = [];
    for (const key of store.keys(`${config.uuid}/`)) {
      const whole = store.peek(key);
      store.poke(key, undefined);
      const named = await found(of);
      if (named === '') {
        silent.push(kindOf(key));
        assert.equal(Buffer.compare(await restore(of), of.image), 0, `${key} was needed`);
      } else {
        assert.ok(named.includes(key) || named.includes(config.uuid), `${key}: ${named}`);
        await neverServesOther(of, key);
      }
      store.poke(key, whole);
    }
    // A checkpoint saves reading the chain; a fence or dead segment before it is not read any more.
    assert.deepEqual(
      [...new Set(silent)].filter((kind) => !['checkpoints', 'segments', 'shards'].includes(kind)),
      [],
    );
  });

  it('is found against a receipt when the whole bucket is rolled back, at every moment of its life', async () => {
    const of = await bucket();
    const { store, config } = of.rig;
    const all = store.keys(`${config.uuid}/segments/`);
    const newest = store.snapshot();
    for (let cut = 1; cut <= all.length; cut++) {
      // What was there before the last `cut` segments were sent, with no checkpoint that knows more.
      for (const key of all.slice(-cut)) store.poke(key, undefined);
      for (const key of [...store.keys(`${config.uuid}/checkpoints/`), ...store.keys(`${config.uuid}/shards/`)]) {
        store.poke(key, undefined);
      }
      const { findings } = await verify(of);
      assert.ok(
        findings.some(({ problem }) => /missing|does not descend/.test(problem)),
        `${cut} segments back: ${JSON.stringify(findings)}`,
      );
      await assert.rejects(restore(of), (error) => {
        assert.ok(error instanceof GatewayError);
        assert.ok(['receipt-unmet', 'remote-gap'].includes(error.code), error.message);
        return true;
      });
      store.restore(newest);
    }
  });

  it('is found by the owner’s start where it concerns what that reads, and harms its volume nowhere', async () => {
    const of = await bucket();
    const { rig } = of;
    const { store, config } = rig;
    const { state } = rig;
    const honest = store.snapshot();
    const refused = new Set<string>();
    for (const key of store.keys(`${config.uuid}/`)) {
      const whole = store.peek(key);
      assert.ok(whole !== undefined);
      store.poke(key, flipped(whole, whole.length >> 1));
      rig.state = state;
      rig.start();
      await rig.until(() => rig.ended() !== undefined || rig.messages.some(({ type }) => type === 'attached'));
      const ended = rig.ended();
      if (ended?.type === 'fatal') {
        assert.ok(ended.message.includes(key) || ended.message.includes(config.uuid), ended.message);
        refused.add(kindOf(key));
      }
      await rig.kill();
      store.restore(honest);
    }
    for (const kind of ['volume', 'keys']) assert.ok(refused.has(kind), kind);
  });
});
