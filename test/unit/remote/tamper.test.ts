/** What a hostile provider can do to a bucket, object by object: it is named, or it changes nothing, and is never served. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { ObjectNames } from '../../../src/remote/name.js';
import { verifyRemote } from '../../../src/remote/remote-verify.js';
import type { Verified } from '../../../src/remote/remote-verify.js';
import { plainChecksums } from '../../fake/checksums.js';
import { RecordedLog } from '../../fake/log.js';
import { SeededRandom } from '../../fake/random.js';
import { testMaster } from '../../fake/replication-rig.js';
import { restoredImage } from '../../fake/restored-image.js';
import { allKinds, everyKind } from './every-kind.js';
import type { EveryKind, Kind } from './every-kind.js';

function verify({ rig, receipt }: EveryKind): Promise<Verified> {
  return verifyRemote({
    store: rig.store,
    masters: [testMaster()],
    volume: rig.config.uuid,
    receipt,
    reader: 'test',
    checksums: plainChecksums,
    clock: rig.clock,
    random: new SeededRandom(5),
    log: new RecordedLog(),
  });
}

/** Names of what was found; a volume that cannot be opened is named by the refusal. */
async function found(of: EveryKind): Promise<string> {
  try {
    return (await verify(of)).findings.map(({ object, problem }) => `${object} ${problem}`).join('\n');
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    return error.message;
  }
}

/** A restore, of the newest state and of the snapshot, is equal or refused. Whether both are equal. */
async function neverServesOther(of: EveryKind, what: string): Promise<boolean> {
  const { rig, receipt, image, snapshot } = of;
  let equal = true;
  for (const [options, right] of [
    [{ receipt }, image],
    [{ snapshot: snapshot.name }, snapshot.image],
  ] as const) {
    try {
      const restored = await restoredImage(rig, { volume: rig.config.uuid, ...options });
      assert.equal(Buffer.compare(restored.image, right), 0, `${what}: what was restored differs`);
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      equal = false;
    }
  }
  return equal;
}

interface Damage {
  readonly what: string;
  readonly damage: (bytes: Uint8Array) => Uint8Array;
}

const damages: readonly Damage[] = [
  { what: 'a bit of its first byte flipped', damage: (bytes) => flipped(bytes, 0) },
  { what: 'a bit in its middle flipped', damage: (bytes) => flipped(bytes, bytes.length >> 1) },
  { what: 'a bit of its last byte flipped', damage: (bytes) => flipped(bytes, bytes.length - 1) },
  { what: 'its last byte cut off', damage: (bytes) => bytes.subarray(0, -1) },
  { what: 'all but its header cut off', damage: (bytes) => bytes.subarray(0, 64) },
  { what: 'nothing left of it', damage: () => new Uint8Array(0) },
  { what: 'a byte appended', damage: (bytes) => Buffer.concat([bytes, Uint8Array.of(0)]) },
];

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const changed = Uint8Array.from(bytes);
  changed[at] = (changed[at] ?? 0) ^ 4;
  return changed;
}

describe('tampering with every kind of object in turn', async () => {
  const of = await everyKind();
  const { rig, samples } = of;
  const { store, config } = rig;
  const honest = store.snapshot();
  const names = [...samples.values()].flat();
  const bodyOf = (name: string): Uint8Array => {
    const body = store.peek(name);
    assert.ok(body !== undefined);
    return body;
  };

  it('is nothing that an honest bucket shows, which has every kind', async () => {
    assert.deepEqual([...samples.keys()].sort(), allKinds);
    assert.equal(await found(of), '');
    assert.equal((await verify(of)).strangers, 0);
    assert.ok(await neverServesOther(of, 'an honest bucket'));
  });

  it('is named when anything of it changed, and never restored', async () => {
    for (const samplesOfKind of samples.values()) {
      for (const { what, damage } of damages) {
        for (const name of samplesOfKind) store.poke(name, damage(bodyOf(name)));
        const named = await found(of);
        for (const name of samplesOfKind) assert.ok(named.includes(name), `${name}, ${what}: ${named}`);
        store.restore(honest);
      }
      for (const [at, name] of samplesOfKind.entries()) {
        const { what, damage } = damages[at] ?? assert.fail();
        store.poke(name, damage(bodyOf(name)));
        await neverServesOther(of, `${name}, ${what}`);
        store.restore(honest);
      }
    }
  });

  it('is named when one takes another’s place, and never restored', async () => {
    for (const [at, name] of names.entries()) {
      // A neighbour, mostly of its kind, or one of another kind.
      for (const other of [names[(at + 1) % names.length], names[(at + 7) % names.length]]) {
        assert.ok(other !== undefined && other !== name);
        const [one, two] = [bodyOf(name), bodyOf(other)];
        store.poke(name, two);
        store.poke(other, one);
        const named = await found(of);
        assert.ok(named.includes(name) || named.includes(other), `${name} and ${other}: ${named}`);
        await neverServesOther(of, `${name} and ${other}`);
        store.poke(name, one);
        store.poke(other, two);
      }
    }
  });

  it('is named when one is replaced by what was there before, and never restored', async () => {
    // No name was ever given two contents, so that nobody has an older version of an object …
    const { folder } = new ObjectNames(config.uuid);
    const twice = [...of.contents].filter(([name, bodies]) => name.startsWith(folder) && bodies.size > 1);
    assert.deepEqual(twice, []);
    // … and what is left is to pass an older object of its kind off as it.
    for (const [kind, of2] of samples) {
      const name = of2.at(-1) ?? '';
      const older = earlierOf(of, kind, name);
      if (older === undefined) continue;
      const whole = bodyOf(name);
      store.poke(name, older);
      const named = await found(of);
      assert.ok(named.includes(name), `${name}: ${named}`);
      await neverServesOther(of, name);
      store.poke(name, whole);
    }
  });

  it('is named when one is taken away, unless nothing needs it, and never restored', async () => {
    const silent = new Set<Kind>();
    for (const [kind, samplesOfKind] of samples) {
      for (const name of samplesOfKind) {
        const whole = bodyOf(name);
        store.poke(name, undefined);
        const named = await found(of);
        const equal = await neverServesOther(of, name);
        if (named === '') {
          silent.add(kind);
          assert.ok(equal, `${name} was needed`);
        } else assert.ok(named.includes(name) || named.includes(config.uuid), `${name}: ${named}`);
        store.poke(name, whole);
      }
    }
    // A checkpoint saves reading the chain; a fence or dead segment before it is not read any more; nor is an old shard.
    const may = new Set<Kind>([
      'checkpoint',
      'fence',
      'segment: data',
      'segment: compaction',
      'segment: staged',
      'segment: apply',
      'mapShard',
      'pin',
    ]);
    assert.deepEqual(
      [...silent].filter((kind) => !may.has(kind)),
      [],
    );
  });

  it('is found against a receipt when the whole bucket is rolled back, at every moment of its life', async () => {
    for (const [at, before] of of.earlier.entries()) {
      store.restore(before);
      const { findings } = await verify(of);
      assert.ok(
        findings.some(({ problem }) => /missing|does not descend/.test(problem)),
        `moment ${at}: ${JSON.stringify(findings)}`,
      );
      await assert.rejects(restoredImage(rig, { volume: config.uuid, receipt: of.receipt }), (error) => {
        assert.ok(error instanceof GatewayError);
        assert.ok(['receipt-unmet', 'remote-gap'].includes(error.code), error.message);
        return true;
      });
      assert.equal((await startOf(of))?.type, 'fatal', `the owner started at moment ${at}`);
      store.restore(honest);
    }
  });

  it('is found by the owner’s start where it concerns what that reads, and harms its volume nowhere', async () => {
    const refused = new Set<Kind>();
    for (const [kind, samplesOfKind] of samples) {
      for (const name of samplesOfKind) {
        const whole = bodyOf(name);
        store.poke(name, flipped(whole, whole.length >> 1));
        const ended = await startOf(of);
        if (ended?.type === 'fatal') {
          assert.ok(ended.message.includes(name) || ended.message.includes(config.uuid), ended.message);
          refused.add(kind);
        }
        store.restore(honest);
      }
    }
    for (const kind of ['volume', 'wrappedKey'] as const) assert.ok(refused.has(kind), kind);
  });
});

/** How the owner's next start goes, with its directory as it is; undefined: well. */
async function startOf({ rig }: EveryKind): Promise<ReturnType<EveryKind['rig']['ended']>> {
  const { state } = rig;
  rig.start();
  await rig.until(() => rig.ended() !== undefined || rig.messages.some(({ type }) => type === 'attached'));
  const ended = rig.ended();
  await rig.kill();
  rig.state = state;
  return ended;
}

/** An object of this kind that is older than `name`, of those that once were there. */
function earlierOf({ earlier, samples }: EveryKind, kind: Kind, name: string): Uint8Array | undefined {
  const folder = name.slice(0, name.lastIndexOf('/') + 1);
  const sameKind = samples.get(kind) ?? [];
  const older = [...earlier.flatMap((bucket) => [...bucket.keys()]), ...sameKind].filter(
    (other) => other.startsWith(folder) && other < name,
  );
  const chosen = sameKind.find((other) => older.includes(other)) ?? older.at(-1);
  return chosen === undefined ? undefined : earlier.findLast((bucket) => bucket.has(chosen))?.get(chosen);
}
