import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { limits } from '../../../../src/base/limits.js';
import { createRig, INITIATOR, parse, PREFIX, text } from '../../../fake/iscsi-client.js';
import type { IscsiClient, Pdu } from '../../../fake/iscsi-client.js';
import { MemoryDevice, MemoryVolume } from '../../../fake/memory-device.js';
import { settled } from '../../../fake/memory-stream.js';

const names = { InitiatorName: INITIATOR, SessionType: 'Normal', TargetName: `${PREFIX}:demo` };
const status = (pdu: Pdu): number => pdu.header.readUInt16BE(36);

describe('login', () => {
  it('goes through security and operational negotiation to full feature', async () => {
    const client = (await createRig()).connect();
    const security = client.loginStep({ ...names, AuthMethod: 'CHAP,None' }, { csg: 0, nsg: 1 });
    assert.equal(status(security), 0);
    assert.equal(security.flags, 0x81);
    assert.deepEqual(parse(security.data), { TargetPortalGroupTag: '1', AuthMethod: 'None' });
    assert.equal(security.header.readUInt16BE(14), 0, 'no TSIH before the end');
    const operational = client.loginStep({ HeaderDigest: 'None', ErrorRecoveryLevel: '2' }, { csg: 1, nsg: 3 });
    assert.equal(operational.flags, 0x87);
    assert.deepEqual(parse(operational.data), { HeaderDigest: 'None', ErrorRecoveryLevel: '0' });
    assert.notEqual(operational.header.readUInt16BE(14), 0, 'a TSIH');
    assert.equal(operational.header.toString('hex', 8, 14), client.isid);
    assert.equal(operational.header.readUInt32BE(28), client.cmdSn, 'ExpCmdSN');
    assert.equal(operational.header.readUInt32BE(32), client.cmdSn + limits.iscsiCommandWindow - 1, 'MaxCmdSN');
    assert.equal(operational.header.readUInt32BE(24), security.header.readUInt32BE(24) + 1, 'StatSN');
  });

  it('stays in a stage until the initiator asks to leave it', async () => {
    const client = (await createRig()).connect();
    const first = client.loginStep(names, { csg: 1 });
    assert.equal(first.flags, 0x04);
    const second = client.loginStep({ MaxBurstLength: '1048576' }, { csg: 1, nsg: 3 });
    assert.equal(second.flags, 0x87);
  });

  it('takes text that is continued over several requests, cut anywhere (RFC 7143 6.2, 11.12.2)', async () => {
    const whole = text({ ...names, InitialR2T: 'No', FirstBurstLength: '65536' }).toString();
    for (const cut of [1, 14, 20, whole.length - 1]) {
      const client = (await createRig()).connect();
      const first = client.loginStep(whole.slice(0, cut), { csg: 1, more: true });
      assert.equal(first.flags, 0x04);
      assert.equal(first.data.length, 0);
      const last = client.loginStep(whole.slice(cut), { csg: 1, nsg: 3 });
      assert.deepEqual(parse(last.data), { TargetPortalGroupTag: '1', InitialR2T: 'No', FirstBurstLength: '65536' });
    }
  });

  it('answers every key by its result function (RFC 7143 13)', async () => {
    // key, offer, answer
    const table: readonly (readonly [string, string, string])[] = [
      ['HeaderDigest', 'CRC32C,None', 'CRC32C'],
      ['HeaderDigest', 'None,CRC32C', 'None'],
      ['DataDigest', 'X-other,CRC32C', 'CRC32C'],
      ['DataDigest', 'X-other', 'Reject'],
      ['MaxConnections', '1', '1'],
      ['MaxConnections', '4', '4'],
      ['MaxConnections', '65535', '8'],
      ['InitialR2T', 'No', 'No'],
      ['InitialR2T', 'Yes', 'Yes'],
      ['InitialR2T', 'yes', 'Reject'],
      ['ImmediateData', 'Yes', 'Yes'],
      ['ImmediateData', 'No', 'No'],
      ['MaxRecvDataSegmentLength', '8192', '262144'],
      ['MaxRecvDataSegmentLength', '511', 'Reject'],
      ['MaxBurstLength', '16776192', '16776192'],
      ['MaxBurstLength', '16777216', 'Reject'],
      ['MaxBurstLength', '0x10000', '65536'],
      ['FirstBurstLength', '16776192', '262144'],
      ['FirstBurstLength', '65536', '65536'],
      ['DefaultTime2Wait', '0', '2'],
      ['DefaultTime2Wait', '5', '5'],
      ['DefaultTime2Retain', '20', '0'],
      ['MaxOutstandingR2T', '1', '1'],
      ['MaxOutstandingR2T', '65535', '8'],
      ['MaxOutstandingR2T', '0', 'Reject'],
      ['DataPDUInOrder', 'No', 'Yes'],
      ['DataSequenceInOrder', 'No', 'Yes'],
      ['ErrorRecoveryLevel', '2', '0'],
      ['TaskReporting', 'FastAbort,RFC3720', 'RFC3720'],
      ['iSCSIProtocolLevel', '2', '1'],
      ['IFMarker', 'No', 'Reject'],
      ['OFMarkInt', '2048~65535', 'Reject'],
      ['X-com.example.key', '1', 'NotUnderstood'],
      ['RDMAExtensions', 'Yes', 'NotUnderstood'],
      ['AuthMethod', 'None', 'Reject'],
    ];
    for (const [key, offer, answer] of table) {
      const client = (await createRig()).connect();
      const response = client.loginStep({ ...names, [key]: offer }, { csg: 1 });
      assert.equal(status(response), 0, key);
      assert.equal(parse(response.data)[key], answer, `${key}=${offer}`);
    }
  });

  it('calls keys of a normal session irrelevant in a discovery session (RFC 7143 13)', async () => {
    const client = (await createRig()).connect();
    const keys = { InitiatorName: INITIATOR, SessionType: 'Discovery', MaxBurstLength: '65536', HeaderDigest: 'None' };
    const response = client.loginStep(keys, { csg: 1, nsg: 3 });
    assert.deepEqual(parse(response.data), { MaxBurstLength: 'Irrelevant', HeaderDigest: 'None' });
  });

  it('refuses what is wrong with the status that says so, and ends the connection (RFC 7143 11.13.5)', async () => {
    const volume = new MemoryVolume(new MemoryDevice(), { iscsi: { initiators: ['iqn.2026-11.test:other'] } });
    const open = await createRig();
    const closed = await createRig({ volume });
    const step = (
      keys: Record<string, string>,
      options: Parameters<IscsiClient['loginStep']>[1],
      rig = open,
    ): [Pdu, IscsiClient] => {
      const client = rig.connect();
      return [client.loginStep(keys, options), client];
    };
    const stage = { csg: 1, nsg: 3 };
    const cases: readonly (readonly [string, number, [Pdu, IscsiClient]])[] = [
      ['no initiator name', 0x0207, step({ TargetName: names.TargetName }, stage)],
      ['malformed name', 0x0200, step({ ...names, InitiatorName: 'somebody' }, stage)],
      ['no target name', 0x0207, step({ InitiatorName: INITIATOR }, stage)],
      ['unknown target', 0x0203, step({ ...names, TargetName: `${PREFIX}:none` }, stage)],
      ['other prefix', 0x0203, step({ ...names, TargetName: 'iqn.2026-11.org.other:demo' }, stage)],
      ['not on the list', 0x0202, step(names, stage, closed)],
      ['session type', 0x0209, step({ ...names, SessionType: 'Boot' }, stage)],
      ['version', 0x0205, step(names, { ...stage, versionMin: 1 })],
      ['no such session', 0x020a, step(names, { ...stage, tsih: 77 })],
      ['transit backwards', 0x0200, step(names, { csg: 1, nsg: 0 })],
      ['transit nowhere', 0x0200, step(names, { csg: 1, nsg: 2 })],
      ['transit and continue', 0x0200, step(names, { csg: 1, nsg: 3, more: true })],
      ['stage 3', 0x0200, step(names, { csg: 3, nsg: 3 })],
      ['authentication not offered', 0x0201, step({ ...names, AuthMethod: 'CHAP' }, { csg: 0, nsg: 1 })],
    ];
    await settled();
    for (const [what, expected, [response, client]] of cases) {
      assert.equal(status(response).toString(16), expected.toString(16), what);
      assert.equal(response.flags & 0x80, 0, what);
      assert.equal(client.stream.destroyed, true, what);
    }
    assert.equal(open.target.logins, 0);
    assert.equal(open.target.rejections.get('not-found'), 2);
  });

  it('takes no name that a terminal would act on where it is shown, nor one that is no UTF-8 (RFC 7143 4.2.7)', async () => {
    const rig = await createRig();
    const named = (name: Uint8Array): Pdu => {
      const others = text({ SessionType: 'Normal', TargetName: names.TargetName });
      const keys = Buffer.concat([Buffer.from('InitiatorName='), name, Buffer.of(0), others]);
      return rig.connect().loginStep(keys.toString('latin1'), { csg: 1, nsg: 3 }, 'latin1');
    };
    for (const odd of ['\u001b[2J', '\u007f', '\u009b2J', '\u202e', ' ', ',', ';', '=']) {
      assert.equal(status(named(Buffer.from(`iqn.2026-11.test:${odd}`))), 0x0200, JSON.stringify(odd));
    }
    for (const invalid of [[0x80], [0xc3], [0xff, 0xfe]]) {
      assert.equal(status(named(Buffer.concat([Buffer.from('iqn.2026-11.test:'), Buffer.from(invalid)]))), 0x0200);
    }
    assert.equal(status(named(Buffer.from(`iqn.2026-11.test:${'é'.repeat(104)}`))), 0x0200, 'more than 223 bytes');
    await settled();
    assert.equal(rig.target.connections.length, 0);
    assert.equal(status(named(Buffer.from('iqn.2026-11.test:BÜRO_1'))), 0);
    assert.equal(rig.target.connections[0]?.client?.description, 'iscsi iqn.2026-11.test:büro_1');
  });

  it('refuses a key that comes twice, and text that is none (RFC 7143 6.1, 6.2)', async () => {
    const rig = await createRig();
    const twice = rig.connect();
    twice.loginStep(names, { csg: 1 });
    assert.equal(status(twice.loginStep({ InitiatorName: INITIATOR }, { csg: 1 })), 0x0200);
    assert.equal(status(rig.connect().loginStep('no equals sign\0', { csg: 1 })), 0x0200);
    assert.equal(status(rig.connect().loginStep('=1\0', { csg: 1 })), 0x0200);
  });

  it('refuses a second connection of a session (RFC 7143 13.2)', async () => {
    const rig = await createRig();
    const first = rig.connect();
    const response = first.loginStep(names, { csg: 1, nsg: 3 });
    const tsih = response.header.readUInt16BE(14);
    assert.equal(status(rig.connect().loginStep(names, { csg: 1, nsg: 3, tsih, cid: 1 })), 0x0206);
  });

  it('bounds the text and the number of requests', async () => {
    const rig = await createRig();
    const long = rig.connect();
    long.loginStep('A='.padEnd(8000, 'x'), { csg: 1, more: true });
    long.loginStep('x'.repeat(8000), { csg: 1, more: true });
    assert.equal(status(long.loginStep('x'.repeat(8000), { csg: 1, more: true })), 0x0200);
    const many = rig.connect();
    for (let count = 0; count < limits.iscsiLoginRequestsMax; count++) {
      assert.equal(status(many.loginStep(count === 0 ? names : {}, { csg: 1 })), 0);
    }
    assert.equal(status(many.loginStep({}, { csg: 1 })), 0x0200);
  });

  it('cuts off who does not finish in time, and who begins with anything else (RFC 7143 6.3)', async () => {
    const rig = await createRig();
    const slow = rig.connect();
    slow.loginStep(names, { csg: 1 });
    rig.clock.advance(limits.handshakeMsMax);
    const wrong = rig.connect();
    wrong.nopOut();
    await settled();
    assert.equal(slow.stream.destroyed, true);
    assert.equal(wrong.stream.destroyed, true);
    assert.deepEqual(wrong.pdus(), []);
  });

  it('insists on digests where they are required (RFC 7143 13.1)', async () => {
    const rig = await createRig({ options: { digests: 'required' } });
    assert.equal(status(rig.connect().loginStep(names, { csg: 1, nsg: 3 })), 0x0200);
    const client = rig.connect();
    const answers = client.login({ HeaderDigest: 'None,CRC32C', DataDigest: 'CRC32C' });
    assert.equal(answers['HeaderDigest'], 'CRC32C');
    client.nopOut({ data: Buffer.from('ping!') });
    assert.equal(client.one().data.toString(), 'ping!');
  });
});
