import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { limits } from '../../../../src/base/limits.js';
import { createRig, INITIATOR, IscsiClient, NO_TAG, parse, PREFIX, read10, text } from '../../../fake/iscsi-client.js';
import type { Pdu, Rig } from '../../../fake/iscsi-client.js';
import { MemoryDevice, MemoryDirectory, MemoryVolume } from '../../../fake/memory-device.js';

const REJECT = 0x3f;
const PROTOCOL_ERROR = 4;

async function ready(keys: Record<string, string> = {}): Promise<{ rig: Rig; client: IscsiClient }> {
  const rig = await createRig();
  const client = rig.connect();
  client.login(keys);
  await client.ready();
  return { rig, client };
}

const transferTag = (pdu: Pdu): number => pdu.header.readUInt32BE(20);
const rejected = (pdu: Pdu): number[] => [pdu.opcode, pdu.header[2]!];

describe('text negotiation', () => {
  it('ends only when the initiator says so (RFC 7143 11.10.1, 11.11.1)', async () => {
    const { client } = await ready();
    client.text(text({ 'X-a': '1' }), { flags: 0 });
    const first = client.one();
    assert.equal(first.flags, 0);
    assert.deepEqual(parse(first.data), { 'X-a': 'NotUnderstood' });
    assert.notEqual(transferTag(first), NO_TAG);
    client.text(text({ 'X-b': '1' }), { ttt: transferTag(first) });
    const last = client.one();
    assert.equal(last.flags, 0x80);
    assert.deepEqual(parse(last.data), { 'X-b': 'NotUnderstood' });
    assert.equal(transferTag(last), NO_TAG);
  });

  it('takes a request in parts, cut anywhere (RFC 7143 6.2, 11.10.2)', async () => {
    const { client } = await ready();
    const whole = text({ 'X-a': '1', MaxRecvDataSegmentLength: '4096' });
    for (let cut = 1; cut < whole.length; cut++) {
      client.text(whole.subarray(0, cut), { flags: 0x40 });
      const more = client.one();
      assert.deepEqual([more.flags, more.data.length], [0, 0]);
      client.text(whole.subarray(cut), { ttt: transferTag(more) });
      assert.deepEqual(parse(client.one().data), { 'X-a': 'NotUnderstood', MaxRecvDataSegmentLength: '262144' });
    }
  });

  it('rejects a request that breaks its rules, and begins anew (RFC 7143 6.2, 7.11)', async () => {
    const { client } = await ready();
    const begin = (): number => {
      client.text(text({ 'X-a': '1' }), { flags: 0 });
      return transferTag(client.one());
    };
    const wrong: readonly (() => void)[] = [
      () => client.text(text({ 'X-a': '1' }), { flags: 0xc0 }),
      () => client.text(text({ 'X-a': '1' }), { ttt: 12_345 }),
      () => client.text(text({ 'X-a': '2' }), { ttt: begin() }),
      () => client.text(Buffer.from('no equals sign\0')),
      () => client.text(Buffer.alloc(limits.iscsiTextBytesMax + 1, 0x41), { flags: 0x40 }),
    ];
    for (const send of wrong) {
      send();
      assert.deepEqual(rejected(client.one()), [REJECT, PROTOCOL_ERROR]);
      client.text(text({ 'X-c': '1' }));
      assert.deepEqual(parse(client.one().data), { 'X-c': 'NotUnderstood' }, 'the session goes on');
    }
    const tag = begin();
    client.text(text({ 'X-c': '1' }));
    client.one();
    client.text(text({ 'X-d': '1' }), { ttt: tag });
    assert.deepEqual(rejected(client.one()), [REJECT, PROTOCOL_ERROR], 'a new exchange ends the one before');
  });

  it('does not take text amid its answer (RFC 7143 6.2)', async () => {
    const { client } = await ready({ MaxRecvDataSegmentLength: '512' });
    client.text(text(Object.fromEntries(Array.from({ length: 60 }, (_, index) => [`X-${index}`, '1']))));
    const part = client.one();
    assert.deepEqual([part.flags, part.data.length], [0x40, 512]);
    client.text(text({ 'X-more': '1' }), { ttt: transferTag(part) });
    assert.deepEqual(rejected(client.one()), [REJECT, PROTOCOL_ERROR]);
  });

  it('of a smaller MaxRecvDataSegmentLength holds from its end on (RFC 7143 13.12)', async () => {
    const { client } = await ready();
    const segments = (): number => {
      client.command(read10(0, 8), { read: 4096 });
      return client.pdus().filter(({ opcode }) => opcode === 0x25).length;
    };
    client.text(text({ MaxRecvDataSegmentLength: '1024' }), { flags: 0 });
    const open = client.one();
    assert.equal(segments(), 1, 'not yet');
    client.text(Buffer.alloc(0), { ttt: transferTag(open) });
    client.one();
    assert.equal(segments(), 4);
    client.text(text({ MaxRecvDataSegmentLength: '2048' }), { flags: 0 });
    client.one();
    client.text(text({ 'X-new': '1' }));
    client.one();
    assert.equal(segments(), 4, 'what was not ended is forgotten');
  });

  it('is for few keys (RFC 7143 13)', async () => {
    const { client } = await ready();
    client.text(
      text({
        InitiatorAlias: 'me',
        HeaderDigest: 'CRC32C',
        MaxBurstLength: '512',
        MaxConnections: '1',
        InitiatorName: INITIATOR,
        AuthMethod: 'None',
        IFMarker: 'No',
        'X-other': '1',
        MaxRecvDataSegmentLength: '1',
      }),
    );
    assert.deepEqual(parse(client.one().data), {
      HeaderDigest: 'Reject',
      MaxBurstLength: 'Reject',
      MaxConnections: 'Reject',
      InitiatorName: 'Reject',
      AuthMethod: 'Reject',
      IFMarker: 'Reject',
      'X-other': 'NotUnderstood',
      MaxRecvDataSegmentLength: 'Reject',
    });
  });
});

describe('SendTargets', () => {
  const volumes = ['alpha', 'beta', 'gamma'].map(
    (name) =>
      new MemoryVolume(
        new MemoryDevice({ name, sizeBytes: 4096 }),
        name === 'gamma' ? { iscsi: { initiators: ['iqn.2026-11.test:other'] } } : {},
      ),
  );
  const directory = new MemoryDirectory(...volumes);
  const target = (name: string): string => `TargetName=${PREFIX}:${name}\0`;
  const address = 'TargetAddress=127.0.0.1:10809,1\0';

  it('lists in a discovery session what the initiator may have, where it reached the target (RFC 7143 4.3, appendix C)', async () => {
    const client = (await createRig({ directory })).connect();
    client.discover();
    client.text(text({ SendTargets: 'All' }));
    const response = client.one();
    assert.equal(response.opcode, 0x24);
    assert.equal(response.flags, 0x80);
    assert.equal(response.data.toString(), target('alpha') + address + target('beta') + address);
    client.text(text({ SendTargets: `${PREFIX}:beta` }));
    assert.equal(client.one().data.toString(), target('beta') + address);
    client.text(text({ SendTargets: `${PREFIX}:gamma` }));
    assert.equal(client.one().data.length, 0);
  });

  it('gives out the addresses that are configured (RFC 7143 13.8)', async () => {
    const options = { advertise: ['192.0.2.1:3260', '[2001:db8::1]:3260'] };
    const client = (await createRig({ directory, options })).connect();
    client.discover();
    client.text(text({ SendTargets: `${PREFIX}:alpha` }));
    const expected = `${target('alpha')}TargetAddress=192.0.2.1:3260,1\0TargetAddress=[2001:db8::1]:3260,1\0`;
    assert.equal(client.one().data.toString(), expected);
  });

  it('tells a normal session about its own target only (RFC 7143 appendix C)', async () => {
    const client = (await createRig({ directory })).connect();
    client.login({}, `${PREFIX}:alpha`);
    client.text(text({ SendTargets: '' }));
    assert.equal(client.one().data.toString(), target('alpha') + address);
    client.text(text({ SendTargets: 'All' }));
    assert.deepEqual(parse(client.one().data), { SendTargets: 'Reject' });
    client.text(text({ SendTargets: `${PREFIX}:beta` }));
    assert.equal(client.one().data.length, 0);
  });

  it('puts an IPv6 address in brackets (RFC 7143 13.8)', async () => {
    const rig = await createRig({ directory });
    const peer = {
      kind: 'tcp',
      address: '2001:db8::7',
      port: 40_000,
      localAddress: '2001:db8::1',
      localPort: 3260,
    } as const;
    const stream = rig.streams.connect(peer);
    assert(stream);
    const client = new IscsiClient(stream);
    client.discover();
    client.text(text({ SendTargets: `${PREFIX}:alpha` }));
    assert.equal(client.one().data.toString(), `${target('alpha')}TargetAddress=[2001:db8::1]:3260,1\0`);
  });

  it('without a name is for normal sessions (RFC 7143 appendix C)', async () => {
    const client = (await createRig({ directory })).connect();
    client.discover();
    client.text(text({ SendTargets: '' }));
    assert.deepEqual(parse(client.one().data), { SendTargets: 'Reject' });
  });

  it('comes in parts where it is long, and takes requests in parts (RFC 7143 11.10, 11.11)', async () => {
    const many = new MemoryDirectory(
      ...Array.from(
        { length: 300 },
        (_, index) => new MemoryVolume(new MemoryDevice({ name: `v${index}`, sizeBytes: 4096 })),
      ),
    );
    const client = (await createRig({ directory: many })).connect();
    client.discover();
    client.text(Buffer.from('Send'), { flags: 0x40 });
    let response = client.one();
    assert.notEqual(response.header.readUInt32BE(20), NO_TAG);
    client.text(Buffer.from('Targets=All\0'), { ttt: response.header.readUInt32BE(20) });
    const parts: Buffer[] = [];
    for (;;) {
      response = client.one();
      assert(response.data.length <= 8192);
      parts.push(response.data);
      const ttt = response.header.readUInt32BE(20);
      if (ttt === NO_TAG) break;
      assert.equal(response.flags, 0x40);
      client.text(Buffer.alloc(0), { ttt });
    }
    assert.equal(Buffer.concat(parts).toString().split('TargetName=').length - 1, 300);
  });

  it('is all that a discovery session does (RFC 7143 4.3)', async () => {
    const client = (await createRig({ directory })).connect();
    client.discover();
    client.command([0]);
    const reject = client.one();
    assert.deepEqual([reject.opcode, reject.header[2]], [0x3f, 5]);
    client.logout();
    assert.equal(client.one().opcode, 0x26);
  });
});
