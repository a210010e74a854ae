import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import {
  generateMasterKeyText,
  generateVolumeKey,
  openVolumeSealer,
  parseMasterKey,
  unwrapVolumeKey,
  wrapVolumeKey,
} from '../../../src/remote/key.js';
import { MemoryStore } from '../../fake/memory-store.js';
import { SeededRandom } from '../../fake/random.js';
import { fixedRandom, hex, refusesDamage, uuid, volumeKey } from './sealed-fixture.js';

const master = parseMasterKey(Buffer.alloc(32, 0x11).toString('base64'), 'k');
const other = parseMasterKey(Buffer.alloc(32, 0x22).toString('base64'), 'k');
const wrap = (by = master) => wrapVolumeKey({ master: by, uuid, volumeKey, wallMs: 3, random: fixedRandom });

describe('master key', () => {
  it('is 32 bytes in base64, with or without a line feed', () => {
    const text = generateMasterKeyText(new SeededRandom(1));
    assert.match(text, /^[A-Za-z0-9+/]{43}=\n$/);
    assert.equal(parseMasterKey(text, 'k').id, parseMasterKey(text.trim(), 'k').id);
    assert.equal(Buffer.from(parseMasterKey(text, 'k').bytes).toString('base64'), text.trim());
    assert.equal(generateVolumeKey(new SeededRandom(1)).length, 32);
  });

  it('of another length or alphabet is refused, without being shown', () => {
    const long = Buffer.alloc(33).toString('base64');
    for (const text of ['', 'secretsecret', long, 'x'.repeat(43), `${'A'.repeat(42)}_=`, `${'A'.repeat(42)}B=`]) {
      assert.throws(
        () => parseMasterKey(text, 'dir/key'),
        (error) =>
          error instanceof GatewayError &&
          error.code === 'key-invalid' &&
          error.message.startsWith('dir/key: ') &&
          (text === '' || !error.message.includes(text)),
        text,
      );
    }
  });
});

describe('wrapped volume key', () => {
  it('has the bytes of docs/formats.md', () => {
    const { name, object } = wrap();
    assert.equal(name, `${uuid}/keys/${master.id}`);
    assert.equal(hex(object.header.keyId), master.id);
    assert.equal(
      hex(createHash('sha256').update(object.bytes).digest()),
      '6a4e53371fb533575a928da1b033090612d8a290ee84b596a44a8f6676a2bc23',
    );
  });

  it('opens with its master key, and shows nothing without', () => {
    const { object } = wrap();
    assert.deepEqual(hex(unwrapVolumeKey({ master, uuid, bytes: object.bytes, random: fixedRandom })), hex(volumeKey));
    assert.equal(Buffer.from(object.bytes).indexOf(volumeKey), -1);
    assert.equal(Buffer.from(object.bytes).indexOf(master.bytes), -1);
  });

  it('is refused when any byte changed or is missing', () => {
    const { name, object } = wrap();
    refusesDamage(name, object.bytes, (bytes) => unwrapVolumeKey({ master, uuid, bytes, random: fixedRandom }), 7);
  });
});

describe('a volume in a bucket', () => {
  const open = (store: MemoryStore, ...masters: (typeof master)[]) =>
    openVolumeSealer(store, { uuid, masters, random: fixedRandom });

  it('opens with any of its master keys', async () => {
    const store = new MemoryStore();
    for (const by of [master, other]) await store.put(wrap(by).name, wrap(by).object.bytes, { ifAbsent: true });
    for (const by of [master, other]) {
      const sealer = await open(store, by);
      const sealed = sealer.seal({ kind: 'pin', name: 'p', epoch: 0, number: 0, part: 0 }, Uint8Array.of(7));
      assert.equal(
        (await open(store, master)).open({ kind: 'pin', name: 'p', epoch: 0, number: 0, part: 0 }, sealed.bytes)
          .index[0],
        7,
      );
    }
  });

  it('is refused with a wrong key, or when its keys are gone', async () => {
    const store = new MemoryStore();
    await assert.rejects(open(store, master), { code: 'object-missing' });
    await store.put(wrap().name, wrap().object.bytes, { ifAbsent: true });
    await assert.rejects(open(store, other), { code: 'key-mismatch' });
    await assert.rejects(open(store), { code: 'key-mismatch' });
  });
});
