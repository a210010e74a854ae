import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { limits } from '../../../../src/base/limits.js';
import { createRig, INITIATOR, NO_TAG, outcome, pattern, read10, write10 } from '../../../fake/iscsi-client.js';
import type { IscsiClient, Rig } from '../../../fake/iscsi-client.js';
import { settled } from '../../../fake/memory-stream.js';

const RESERVATION_CONFLICT = 0x18;

async function ready(rig?: Rig): Promise<{ rig: Rig; client: IscsiClient }> {
  const made = rig ?? (await createRig());
  const client = made.connect();
  client.login();
  await client.ready();
  return { rig: made, client };
}

describe('the command window', () => {
  it('takes commands in order, moves as they end, and ignores what is outside of it (RFC 7143 4.2.2.1)', async () => {
    const { client } = await ready();
    const { cmdSn } = client;
    client.command([0], { cmdSn: cmdSn - 1 });
    client.command([0], { cmdSn: cmdSn + limits.iscsiCommandWindow });
    assert.deepEqual(client.pdus(), [], 'neither is answered');
    client.command([0]);
    const { header } = client.one();
    assert.equal(header.readUInt32BE(28), cmdSn + 1);
    assert.equal(header.readUInt32BE(32), cmdSn + limits.iscsiCommandWindow);
  });

  it('closes while commands are under way, and never moves back (RFC 7143 4.2.2.1)', async () => {
    const { rig, client } = await ready();
    rig.device.holdReads = true;
    for (let count = 0; count < limits.iscsiCommandWindow; count++) client.command(read10(0, 1), { read: 512 });
    assert.equal(rig.device.heldReads.length, limits.iscsiCommandWindow);
    client.nopOut();
    const { header } = client.one();
    assert.equal(header.readUInt32BE(32), (header.readUInt32BE(28) - 1) >>> 0, 'it is shut');
    client.command([0]);
    assert.deepEqual(client.pdus(), []);
    client.command([0], { immediate: true });
    assert.equal(client.one().opcode, 0x21, 'an immediate command needs no place in it');
    let maxCmdSn = header.readUInt32BE(32);
    for (const held of rig.device.heldReads.splice(0)) held.release();
    await settled();
    for (const pdu of client.pdus()) {
      assert(pdu.header.readUInt32BE(32) > maxCmdSn);
      maxCmdSn = pdu.header.readUInt32BE(32);
    }
  });

  it('wraps around', async () => {
    const rig = await createRig();
    const client = rig.connect();
    client.cmdSn = 0xffff_fffe;
    client.login();
    await client.ready();
    for (let count = 0; count < 4; count++) assert.equal((await client.run([0])).status, 0);
    assert.equal(client.cmdSn, 4);
  });

  it('cuts off who leaves a gap, which nothing can fill (RFC 7143 4.2.2.1)', async () => {
    const { client } = await ready();
    client.command([0], { cmdSn: client.cmdSn + 1 });
    await settled();
    assert.equal(client.stream.destroyed, true);
  });

  it('bounds immediate commands (RFC 7143 4.2.2.1, 11.17.1)', async () => {
    const { rig, client } = await ready();
    rig.device.holdReads = true;
    for (let count = 0; count < limits.iscsiImmediateCommandsMax; count++) {
      client.command(read10(0, 1), { read: 512, immediate: true });
    }
    assert.deepEqual(client.pdus(), []);
    client.command(read10(0, 1), { read: 512, immediate: true });
    const reject = client.one();
    assert.deepEqual([reject.opcode, reject.header[2]], [0x3f, 0x06]);
  });
});

describe('a session', () => {
  it('answers pings with their own data, as much as the initiator takes (RFC 7143 11.18, 11.19)', async () => {
    const rig = await createRig();
    const client = rig.connect();
    client.login({ MaxRecvDataSegmentLength: '512' });
    client.nopOut({ itt: 5, data: pattern(700), immediate: false });
    const { opcode, header, data } = client.one();
    assert.equal(opcode, 0x20);
    assert.equal(header.readUInt32BE(16), 5);
    assert.equal(header.readUInt32BE(20), NO_TAG);
    assert.deepEqual(data, pattern(700).subarray(0, 512));
    client.nopOut({ itt: NO_TAG });
    assert.deepEqual(client.pdus(), [], 'a ping without a tag wants no answer');
  });

  it('answers a ping that arrives in parts', async () => {
    const { client } = await ready();
    const feed = client.stream.feed.bind(client.stream);
    for (let cut = 1; cut < 56; cut++) {
      let sent = Buffer.alloc(0);
      client.stream.feed = (bytes) => void (sent = Buffer.from(bytes));
      client.nopOut({ data: pattern(7) });
      client.stream.feed = feed;
      feed(sent.subarray(0, cut));
      assert.deepEqual(client.pdus(), []);
      feed(sent.subarray(cut));
      assert.deepEqual(client.one().data, pattern(7));
    }
  });

  it('of which there are too many costs the oldest unfinished login, not a session', async () => {
    const { rig, client } = await ready();
    const unfinished = Array.from({ length: limits.connectionsMax - 1 }, () => rig.connect());
    const next = rig.connect();
    await settled();
    assert.equal(unfinished[0]!.stream.destroyed, true);
    assert.equal(unfinished[1]!.stream.destroyed, false);
    next.isid = '800000000002';
    next.login();
    assert.equal((await client.run([0])).status, 0);
    assert.equal(rig.target.rejections.get('session-limit'), 1);
  });

  it('is logged out, and its connection closed (RFC 7143 11.14, 11.15)', async () => {
    const { rig, client } = await ready();
    client.logout(1, 9);
    assert.equal(client.one().header[2], 1, 'no such connection');
    client.logout(2);
    assert.equal(client.one().header[2], 2, 'recovery is not supported');
    client.logout();
    const response = client.one();
    assert.deepEqual([response.opcode, response.header[2]], [0x26, 0]);
    await settled();
    assert.equal(client.stream.finished, true);
    assert.equal(rig.volume.holders.length, 0);
    assert.equal(rig.target.connections.length, 0);
  });

  it('finishes writes that came before the logout in the same breath', async () => {
    const { rig, client } = await ready();
    const feed = client.stream.feed.bind(client.stream);
    const sent: Buffer[] = [];
    client.stream.feed = (bytes) => void sent.push(Buffer.from(bytes));
    const itt = client.command(write10(0, 1), { write: 512, data: pattern(512) });
    client.logout();
    client.stream.feed = feed;
    client.stream.feed(Buffer.concat(sent));
    const pdus = client.pdus();
    assert.equal(outcome(pdus, itt).status, 0);
    assert.deepEqual(
      pdus.map(({ opcode }) => opcode),
      [0x21, 0x26],
    );
    assert.deepEqual(Buffer.from(rig.device.image.subarray(0, 512)), pattern(512));
  });

  it('rejects what it does not know, and goes on (RFC 7143 11.17.1)', async () => {
    const { client } = await ready();
    for (const [opcode, reason] of [
      [0x10, 3],
      [0x03, 4],
      [0x1e, 5],
    ]) {
      const header = Buffer.alloc(48, 0x11);
      header[0] = opcode! | 0x40;
      header[4] = 0;
      client.send(header);
      const reject = client.one();
      assert.deepEqual([reject.opcode, reject.header[2]], [0x3f, reason]);
      assert.deepEqual(reject.data, header);
    }
    assert.equal((await client.run([0])).status, 0);
  });

  it('knows LUN 0 only', async () => {
    const { client } = await ready();
    assert.deepEqual((await client.run([0], { lun: 1 })).sense, [5, 0x25, 0]);
    const inquiry = await client.run([0x12, 0, 0, 0, 96, 0], { read: 96, lun: 1 });
    assert.equal(inquiry.data[0], 0x7f);
    const luns = await client.run([0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], { read: 16, lun: 1 });
    assert.deepEqual(luns.data, Buffer.from([0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    const sense = await client.run([0x03, 0, 0, 0, 18, 0], { read: 18, lun: 1 });
    assert.deepEqual([sense.status, sense.data[2], sense.data[12]], [0, 5, 0x25]);
    const flat = await client.run([0], { lun: 0x4000 });
    assert.equal(flat.status, 0, 'LUN 0 in the flat addressing method');
  });

  it('of an initiator that logs in again replaces the old one, whose work is dropped (RFC 7143 6.3.5)', async () => {
    const { rig, client } = await ready();
    client.command(write10(0, 8), { write: 4096, data: pattern(512) });
    rig.device.holdReads = true;
    client.command(read10(0, 1), { read: 512 });
    const next = rig.connect();
    next.login();
    assert.equal(client.stream.destroyed, true);
    assert.equal(rig.device.partialWritesAbandoned, 1);
    assert.equal(rig.volume.holders.length, 0);
    rig.device.heldReads.splice(0)[0]!.release();
    rig.device.holdReads = false;
    await next.ready();
    assert.equal(rig.volume.holders.length, 1);
    assert.equal(rig.target.connections.length, 1);
  });
});

describe('exclusive access', () => {
  it('lets a second initiator inquire, and refuses its reads and writes at once', async () => {
    const { rig } = await ready();
    const second = rig.connect();
    second.isid = '800000000002';
    second.login();
    assert.equal((await second.run([0])).sense?.[1], 0x29, 'power on');
    assert.equal((await second.run([0])).status, 0);
    assert.equal((await second.run([0x12, 0, 0, 0, 96, 0], { read: 96 })).data.length, 96);
    assert.equal((await second.run([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], { read: 8 })).data.length, 8);
    assert.equal((await second.run([0x1a, 0, 0x3f, 0, 255, 0], { read: 255 })).status, 0);
    assert.equal((await second.run(read10(0, 1), { read: 512 })).status, RESERVATION_CONFLICT);
    const before = Buffer.from(rig.device.image);
    const write = await second.run(write10(0, 1), { write: 512, data: pattern(512) });
    assert.equal(write.status, RESERVATION_CONFLICT);
    assert.deepEqual(Buffer.from(rig.device.image), before);
    assert.equal((await second.run([0xff])).sense?.[1], 0x20, 'what is not supported needs no volume');
    assert.equal(rig.volume.attachCalls, 2, 'the refusal is remembered for a while');
    assert.equal(rig.target.rejections.get('volume-in-use'), 1);
    assert.equal(rig.log.lines.filter((line) => line.includes('may not use')).length, 1);
    rig.clock.advance(1001);
    await second.run(read10(0, 1), { read: 512 });
    assert.equal(rig.volume.attachCalls, 3);
  });

  it('gives the volume to the next initiator when the holder is gone', async () => {
    const { rig, client } = await ready();
    const second = rig.connect();
    second.isid = '800000000002';
    second.login();
    await second.run([0]);
    client.stream.destroy();
    await settled();
    assert.equal((await second.run(read10(0, 1), { read: 512 })).status, 0);
  });

  it('keeps commands, and their data, in order while the volume is being asked for', async () => {
    const rig = await createRig();
    const client = rig.connect();
    client.login({ InitialR2T: 'No', FirstBurstLength: '1024' });
    await client.run([0]);
    let open = (): void => undefined;
    rig.volume.attachGate = new Promise((resolve) => (open = resolve));
    const write = client.command(write10(0, 4), { write: 2048, data: pattern(2048).subarray(0, 512), final: false });
    const read = client.command(read10(8, 1), { read: 512 });
    await settled();
    client.dataOut(write, pattern(2048).subarray(512, 1024), { offset: 512 });
    assert.deepEqual(client.pdus(), []);
    assert.equal(rig.volume.attachCalls, 1);
    client.nopOut();
    assert.equal(client.one().opcode, 0x20, 'pings are answered');
    open();
    await settled();
    const pdus = client.pdus();
    assert.equal(outcome(pdus, read).status, 0);
    const r2t = pdus.find(({ opcode }) => opcode === 0x31)!;
    client.dataOut(write, pattern(2048).subarray(1024), { offset: 1024, ttt: r2t.header.readUInt32BE(20) });
    await settled();
    assert.equal(outcome(client.pdus(), write).status, 0);
    assert.deepEqual(Buffer.from(rig.device.image.subarray(0, 2048)), pattern(2048));
  });

  it('asks for the rest of a write only when the PDU that it decides amid has ended', async () => {
    const rig = await createRig();
    const client = rig.connect();
    client.login();
    await client.run([0]);
    let open = (): void => undefined;
    rig.volume.attachGate = new Promise((resolve) => (open = resolve));
    const feed = client.stream.feed.bind(client.stream);
    let sent = Buffer.alloc(0);
    client.stream.feed = (bytes) => void (sent = Buffer.from(bytes));
    const itt = client.command(write10(0, 2), { write: 1024, data: pattern(1024) });
    client.stream.feed = feed;
    feed(sent.subarray(0, 300));
    open();
    await settled();
    assert.deepEqual(client.pdus(), []);
    feed(sent.subarray(300));
    await settled();
    assert.equal(outcome(client.pdus(), itt).status, 0);
    assert.deepEqual(Buffer.from(rig.device.image.subarray(0, 1024)), pattern(1024));
  });

  it('forgets a command that is aborted while the volume is being asked for', async () => {
    const rig = await createRig();
    const client = rig.connect();
    client.login();
    await client.run([0]);
    let open = (): void => undefined;
    rig.volume.attachGate = new Promise((resolve) => (open = resolve));
    const itt = client.command(write10(0, 1), { write: 512, data: pattern(512) });
    client.taskManagement(1, { referenced: itt });
    assert.equal(client.one().header[2], 0);
    open();
    await settled();
    assert.deepEqual(client.pdus(), []);
    assert.deepEqual(rig.device.history, []);
    assert.equal((await client.run(read10(0, 1), { read: 512 })).status, 0);
  });

  it('lets go of a volume that it was given after the connection had died', async () => {
    const rig = await createRig();
    const client = rig.connect();
    client.login();
    await client.run([0]);
    let open = (): void => undefined;
    rig.volume.attachGate = new Promise((resolve) => (open = resolve));
    client.command(write10(0, 1), { write: 512, data: pattern(512) });
    await settled();
    client.stream.destroy();
    await settled();
    open();
    await settled();
    assert.equal(rig.volume.holders.length, 0);
    assert.equal(rig.device.history.length, 0, 'nothing of it lands');
  });

  it('lets the directory probe and evict the holder', async () => {
    const { rig, client } = await ready();
    const { control, client: identity } = rig.volume.holders[0]!;
    assert.equal(identity.key, `${INITIATOR},800000000001`);
    const alive = control.probe();
    await settled();
    const ping = client.one();
    assert.deepEqual([ping.opcode, ping.header.readUInt32BE(16)], [0x20, NO_TAG]);
    client.nopOut({ itt: NO_TAG, ttt: ping.header.readUInt32BE(20) });
    assert.equal(await alive, true);
    client.command(write10(0, 8), { write: 4096, data: pattern(512) });
    const unanswered = control.probe();
    control.evict('it does not answer');
    assert.equal(rig.device.partialWritesAbandoned, 1, 'nothing of it reaches the volume any more');
    assert.equal(await unanswered, false);
    await settled();
    assert.equal(client.stream.destroyed, true);
    assert.equal(rig.volume.holders.length, 0);
  });
});
