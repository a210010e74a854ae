/** PDUs that are rejected, and what becomes of their numbers. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { limits } from '../../../../src/base/limits.js';
import { createPair, createRig, NO_TAG, pattern, read10, settled, write10 } from '../../../fake/iscsi-client.js';
import type { IscsiClient, Pdu, Rig } from '../../../fake/iscsi-client.js';

const IMMEDIATE = 0x40;
const REJECT = 0x3f;
const VENDOR = 0x1c;
const reason = { protocolError: 4, commandNotSupported: 5, invalidPduField: 9 } as const;

async function ready(): Promise<{ rig: Rig; client: IscsiClient }> {
  const rig = await createRig();
  const client = rig.connect();
  client.login();
  await client.ready();
  return { rig, client };
}

/** A PDU of any opcode; its number is counted unless it is immediate. */
function sendCode(
  client: IscsiClient,
  code: number,
  given: { cmdSn?: number; data?: Uint8Array; itt?: number } = {},
): Buffer {
  const header = Buffer.alloc(48);
  header[0] = code;
  header[1] = 0x80;
  header.writeUInt32BE(given.itt ?? client.itt++, 16);
  header.writeUInt32BE(NO_TAG, 20);
  header.writeUInt32BE(given.cmdSn ?? client.cmdSn, 24);
  if ((code & IMMEDIATE) === 0 && given.cmdSn === undefined) client.cmdSn++;
  client.send(header, given.data);
  return header;
}

function assertReject({ opcode, header, data }: Pdu, why: number, rejected: Buffer): void {
  assert.deepEqual([opcode, header[2]], [REJECT, why]);
  assert.equal(header.readUInt32BE(16), NO_TAG);
  assert.deepEqual(data, rejected, 'the header comes back (RFC 7143 11.17.7)');
}

const expCmdSn = (pdu: Pdu): number => pdu.header.readUInt32BE(28);

describe('a PDU that is rejected', () => {
  it('uses up its number where it has one (RFC 7143 4.2.2.1)', async () => {
    const { client } = await ready();
    for (const data of [undefined, Buffer.alloc(5000, 1)]) {
      const rejected = sendCode(client, VENDOR, data === undefined ? {} : { data });
      const answer = client.one();
      assertReject(answer, reason.commandNotSupported, rejected);
      assert.equal(expCmdSn(answer), client.cmdSn);
      assert.equal((await client.run(read10(0, 1), { read: 512 })).status, 0, 'the next one is due');
    }
  });

  it('uses up none where it is immediate, or of a kind that has no number (RFC 7143 4.2.2.1, 11.16)', async () => {
    const { client } = await ready();
    for (const [code, why] of [
      [VENDOR | IMMEDIATE, reason.commandNotSupported],
      [0x43, reason.protocolError],
      [0x21, reason.protocolError],
      [0x10, 3],
    ] as const) {
      const rejected = sendCode(client, code, { cmdSn: client.cmdSn });
      const answer = client.one();
      assertReject(answer, why, rejected);
      assert.equal(expCmdSn(answer), client.cmdSn);
    }
    assert.equal((await client.run(read10(0, 1), { read: 512 })).status, 0);
  });

  it('is a request that has the tag of none (RFC 7143 11.2.1.8)', async () => {
    const { rig, client } = await ready();
    const before = rig.device.history.length;
    for (const send of [
      () => void client.command(write10(0, 1), { write: 512, data: pattern(512), itt: NO_TAG }),
      () => void client.command(write10(0, 16), { write: 8192, data: pattern(8192), itt: NO_TAG, immediate: true }),
      ...[0x02, 0x04, 0x06].map((code) => () => void sendCode(client, code, { itt: NO_TAG })),
    ]) {
      send();
      await settled();
      const answer = client.one();
      assert.deepEqual([answer.opcode, answer.header[2]], [REJECT, reason.invalidPduField]);
      assert.equal(expCmdSn(answer), client.cmdSn);
    }
    assert.equal(rig.device.history.length, before);
    assert.equal(rig.volume.iscsi.stats.inflight, 0);
    assert.equal((await client.run(read10(0, 1), { read: 512 })).status, 0);
  });

  it('waits for its turn, so that nothing behind it waits longer (RFC 7143 4.2.2.1)', async () => {
    const { first, second } = await createPair();
    const late = first.delay(() => void first.command([0]));
    const rejected = sendCode(second, VENDOR);
    const behind = second.command(read10(0, 1), { read: 512 });
    assert.deepEqual(second.pdus(), []);
    late();
    await settled();
    const pdus = second.pdus();
    assertReject(pdus[0]!, reason.commandNotSupported, rejected);
    assert.deepEqual([pdus.length, pdus[1]?.header.readUInt32BE(16)], [2, behind]);
  });

  it('is ignored outside of the window, as any command is (RFC 7143 4.2.2.1)', async () => {
    const { client } = await ready();
    for (const cmdSn of [client.cmdSn - 1, client.cmdSn + limits.iscsiCommandWindow])
      sendCode(client, VENDOR, { cmdSn });
    assert.deepEqual(client.pdus(), []);
    assert.equal((await client.run(read10(0, 1), { read: 512 })).status, 0);
  });

  it('uses up its number in a discovery session too (RFC 7143 4.3)', async () => {
    const rig = await createRig();
    const client = rig.connect();
    client.discover();
    for (const send of [() => void client.command([0]), () => client.taskManagement(1, { immediate: false })]) {
      send();
      const answer = client.one();
      assert.deepEqual([answer.opcode, answer.header[2]], [REJECT, reason.commandNotSupported]);
      assert.equal(expCmdSn(answer), client.cmdSn);
    }
    client.text(Buffer.from('SendTargets=All\0'));
    assert.equal(client.one().opcode, 0x24);
  });
});

describe('a NOP-Out that wants no answer', () => {
  it('is no command and has no number (RFC 7143 11.18.1)', async () => {
    const { client } = await ready();
    client.nopOut({ itt: NO_TAG });
    assert.deepEqual(client.pdus(), []);
    assert.equal((await client.run(read10(0, 1), { read: 512 })).status, 0);
  });

  it('breaks a rule where it is not immediate, and uses up its number all the same (RFC 7143 11.18.1, 4.2.2.1)', async () => {
    const { client } = await ready();
    client.nopOut({ itt: NO_TAG, immediate: false });
    const answer = client.one();
    assert.deepEqual([answer.opcode, answer.header[2]], [REJECT, reason.protocolError]);
    assert.equal(expCmdSn(answer), client.cmdSn);
    assert.equal((await client.run(read10(0, 1), { read: 512 })).status, 0);
  });

  it('is a sign of life even then, and where it wants an answer itself (RFC 7143 11.18)', async () => {
    const { rig, client } = await ready();
    const { control } = rig.volume.holders[0]!;
    const answered = control.probe();
    await settled();
    const itt = client.nopOut({ ttt: client.one().header.readUInt32BE(20) });
    assert.equal(await answered, true);
    assert.equal(client.one().header.readUInt32BE(16), itt);
    const probe = control.probe();
    await settled();
    client.nopOut({ itt: NO_TAG, ttt: client.one().header.readUInt32BE(20), immediate: false });
    assert.equal(await probe, true);
  });
});
