import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { KeyRing } from '../../../src/gateway/key-ring.js';
import { generateMasterKeyText } from '../../../src/remote/key.js';
import { SeededRandom } from '../../fake/random.js';

describe('the keys of a gateway', () => {
  const random = new SeededRandom(1);
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'keepgate-keys-'));
  });
  after(() => rm(folder, { recursive: true }));
  const save = (name: string): Promise<void> =>
    writeFile(join(folder, name), generateMasterKeyText(random), { mode: 0o600 });

  it('have one that is read once, and again only after it could not be', async () => {
    const keyFile = join(folder, 'late');
    const ring = new KeyRing({ keyFile, demonstration: false }, random);
    await assert.rejects(ring.master(), { code: 'key-missing' });
    await save('late');
    const master = await ring.master();
    await rm(keyFile);
    assert.equal(await ring.master(), master);
  });

  it('open a bucket with the key of the restore and with the own one, or with what is left of them', async () => {
    await save('own');
    await save('other');
    const [own, other] = [join(folder, 'own'), join(folder, 'other')];
    const ring = new KeyRing({ keyFile: own, demonstration: false }, random);
    assert.equal((await ring.openers({})).length, 1);
    const both = await ring.openers({ keyFile: other });
    assert.equal(both.length, 2);
    assert.notEqual(both[0]?.id, both[1]?.id);
    assert.deepEqual(
      (await ring.openers({ keyFile: join(folder, 'gone') })).map(({ id }) => id),
      [(await ring.master()).id],
    );
    const none = new KeyRing({ keyFile: join(folder, 'none'), demonstration: false }, random);
    await assert.rejects(none.openers({ keyFile: join(folder, 'gone') }), { code: 'key-missing', message: /gone/ });
  });
});
