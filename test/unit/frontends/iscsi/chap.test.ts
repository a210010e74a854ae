import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { algorithms, chapResponse, ChapTarget } from '../../../../src/frontends/iscsi/chap.js';
import { createRig, INITIATOR, parse, PREFIX } from '../../../fake/iscsi-client.js';
import type { IscsiClient } from '../../../fake/iscsi-client.js';
import { MemoryDevice, MemoryVolume } from '../../../fake/memory-device.js';
import { SeededRandom } from '../../../fake/random.js';

const SECRET = Buffer.from('secret-of-initiator');
const MUTUAL = Buffer.from('secret-of-the-target');
const names = { InitiatorName: INITIATOR, SessionType: 'Normal', TargetName: `${PREFIX}:demo` };

/** hash(27h || "secret-of-initiator" || 00h…0Fh), computed with another implementation. */
const vectors: Readonly<Record<string, string>> = {
  md5: '8deee1cccd8450484dc231afe4c74532',
  sha1: '5816cc18d6a0d7a40631c39a50c704987c457976',
  sha256: '5d896a9dfa2e96223a7ee01f1d6205fb7b582380695fe0966ecbb9c957f7bf30',
  'sha3-256': '3e6bb68b7bcf8c15ddc4b2db2e6ef70bab6111f22fbdf8ddf07f6de474e21857',
};

async function client(
  chap = { user: 'alice', secret: SECRET, mutualUser: 'gate', mutualSecret: MUTUAL },
): Promise<IscsiClient> {
  const volume = new MemoryVolume(new MemoryDevice({ sizeBytes: 4096 }), { iscsi: { chap } });
  return (await createRig({ volume })).connect();
}

/** Runs CHAP up to the initiator's answer, and returns the target's response to it. */
function authenticate(
  made: IscsiClient,
  options: {
    offered?: string;
    secret?: Buffer;
    user?: string;
    more?: (challenge: string) => Record<string, string>;
  } = {},
): { status: number; keys: Record<string, string>; flags: number; algorithm: string } {
  made.loginStep({ ...names, AuthMethod: 'CHAP,None' }, { csg: 0 });
  const challenge = parse(made.loginStep({ CHAP_A: options.offered ?? '5' }, { csg: 0 }).data);
  const algorithm = algorithms.find((each) => String(each.number) === challenge['CHAP_A'])!;
  const bytes = Buffer.from(challenge['CHAP_C']!.slice(2), 'hex');
  const response = chapResponse(algorithm.hash, Number(challenge['CHAP_I']), options.secret ?? SECRET, bytes);
  const answer = {
    CHAP_N: options.user ?? 'alice',
    CHAP_R: `0x${Buffer.from(response).toString('hex')}`,
    ...options.more?.(challenge['CHAP_C']!),
  };
  const last = made.loginStep(answer, { csg: 0, nsg: 1 });
  return { status: last.header.readUInt16BE(36), keys: parse(last.data), flags: last.flags, algorithm: algorithm.hash };
}

describe('CHAP', () => {
  it('computes the responses that others compute', () => {
    const challenge = Uint8Array.from({ length: 16 }, (_, index) => index);
    for (const [hash, expected] of Object.entries(vectors)) {
      assert.equal(Buffer.from(chapResponse(hash, 0x27, SECRET, challenge)).toString('hex'), expected, hash);
    }
  });

  it('lets in who knows name and secret, with the best algorithm that is offered', async () => {
    for (const [offered, hash] of [
      ['5', 'md5'],
      ['5,6', 'sha1'],
      ['5,7', 'sha256'],
      ['5,6,7,8', 'sha3-256'],
    ] as const) {
      const result = authenticate(await client(), { offered });
      assert.deepEqual([result.status, result.flags, result.algorithm], [0, 0x81, hash]);
    }
  });

  it('refuses everybody else', async () => {
    const wrong = [
      { secret: Buffer.from('another secret of 12') },
      { user: 'bob' },
      { more: () => ({ CHAP_R: '0x00' }) },
      { more: () => ({ CHAP_R: '' }) },
      { more: () => ({ CHAP_R: 'zz' }) },
    ];
    for (const options of wrong) assert.equal(authenticate(await client(), options).status, 0x0201);
    const unknown = await client();
    unknown.loginStep({ ...names, AuthMethod: 'CHAP' }, { csg: 0 });
    assert.equal(unknown.loginStep({ CHAP_A: '9' }, { csg: 0 }).header.readUInt16BE(36), 0x0201);
  });

  it('cannot be skipped', async () => {
    const cases = [
      { keys: names, csg: 1, nsg: 3 },
      { keys: names, csg: 0, nsg: 1 },
      { keys: names, csg: 0, nsg: 3 },
      { keys: { ...names, AuthMethod: 'None' }, csg: 0, nsg: 1 },
    ];
    for (const { keys, csg, nsg } of cases) {
      const response = (await client()).loginStep(keys, { csg, nsg });
      assert.equal(response.header.readUInt16BE(36), 0x0201);
      assert.equal(response.flags & 0x80, 0);
    }
    const patient = await client();
    const first = patient.loginStep({ ...names, AuthMethod: 'CHAP' }, { csg: 0, nsg: 1 });
    assert.equal(first.flags, 0, 'a transit that comes too early is not granted');
    const second = patient.loginStep({ CHAP_A: '5' }, { csg: 0, nsg: 1 });
    assert.equal(second.flags, 0);
    assert.equal(patient.loginStep({}, { csg: 0, nsg: 1 }).header.readUInt16BE(36), 0x0201);
  });

  it('proves the target to an initiator that asks', async () => {
    const result = authenticate(await client(), {
      more: () => ({ CHAP_I: '39', CHAP_C: '0x000102030405060708090a0b0c0d0e0f' }),
    });
    assert.equal(result.status, 0);
    assert.equal(result.keys['CHAP_N'], 'gate');
    const challenge = Uint8Array.from({ length: 16 }, (_, index) => index);
    const expected = Buffer.from(chapResponse('md5', 39, MUTUAL, challenge)).toString('hex');
    assert.equal(result.keys['CHAP_R'], `0x${expected}`);
  });

  it('refuses a reflected challenge, equal secrets, and proof that it cannot give', async () => {
    const reflected = authenticate(await client(), { more: (challenge) => ({ CHAP_I: '1', CHAP_C: challenge }) });
    assert.equal(reflected.status, 0x0201);
    const more = (): Record<string, string> => ({ CHAP_I: '1', CHAP_C: '0x0102' });
    const equal = await client({
      user: 'alice',
      secret: SECRET,
      mutualUser: 'gate',
      mutualSecret: Buffer.from(SECRET),
    });
    assert.equal(authenticate(equal, { more }).status, 0x0201);
    const volume = new MemoryVolume(new MemoryDevice({ sizeBytes: 4096 }), {
      iscsi: { chap: { user: 'alice', secret: SECRET } },
    });
    const oneWay = (await createRig({ volume })).connect();
    assert.equal(authenticate(oneWay, { more }).status, 0x0201);
    const long = authenticate(await client(), { more: () => ({ CHAP_I: '1', CHAP_C: `0x${'00'.repeat(1025)}` }) });
    assert.equal(long.status, 0x0201);
  });

  it('guards discovery where that is asked for', async () => {
    const rig = await createRig();
    const discover = (): number =>
      rig
        .connect()
        .loginStep({ InitiatorName: INITIATOR, SessionType: 'Discovery' }, { csg: 1, nsg: 3 })
        .header.readUInt16BE(36);
    assert.equal(discover(), 0);
    rig.target.discoveryChap = { user: 'd', secret: SECRET };
    assert.equal(discover(), 0x0201);
  });

  it('takes binary values in hexadecimal and base64', () => {
    const keys = (entries: Record<string, string>): Map<string, string> => new Map(Object.entries(entries));
    for (const encoding of ['hex', 'base64'] as const) {
      const chap = new ChapTarget({ secrets: { user: 'alice', secret: SECRET }, random: new SeededRandom(3) });
      const begun = chap.receive(keys({ CHAP_A: '7' }));
      assert(begun.kind === 'continue');
      const [, identifier, challenge] = begun.pairs;
      const bytes = Buffer.from(challenge!.value.slice(2), 'hex');
      const response = Buffer.from(chapResponse('sha256', Number(identifier!.value), SECRET, bytes)).toString(encoding);
      const prefix = encoding === 'hex' ? '0x' : '0b';
      assert.equal(chap.receive(keys({ CHAP_N: 'alice', CHAP_R: prefix + response })).kind, 'done');
    }
  });
});
