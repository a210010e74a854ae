import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { limits } from '../../../../src/base/limits.js';
import {
  createPair,
  createRig,
  INITIATOR,
  NO_TAG,
  outcome,
  pattern,
  PREFIX,
  read10,
  write10,
} from '../../../fake/iscsi-client.js';
import type { IscsiClient, Pdu, Rig } from '../../../fake/iscsi-client.js';
import { MemoryDevice, MemoryDirectory, MemoryVolume } from '../../../fake/memory-device.js';
import { settled } from '../../../fake/memory-stream.js';

const status = (pdu: Pdu): number => pdu.header.readUInt16BE(36);
const expCmdSn = (pdu: Pdu): number => pdu.header.readUInt32BE(28);
const maxCmdSn = (pdu: Pdu): number => pdu.header.readUInt32BE(32);

/** A login request in the name of a session, and its response. */
function attempt(rig: Rig, first: IscsiClient, changes: { tsih?: number; isid?: string; keys?: object } = {}): Pdu {
  const client = rig.connect();
  client.isid = changes.isid ?? first.isid;
  client.cmdSn = first.cmdSn;
  const names = { InitiatorName: INITIATOR, SessionType: 'Normal', TargetName: `${PREFIX}:demo`, ...changes.keys };
  return client.loginStep(names, { csg: 1, nsg: 3, tsih: changes.tsih ?? first.tsih, cid: 1 });
}

describe('another connection of a session', () => {
  it('joins by TSIH and a new CID, with a StatSN of its own (RFC 7143 4.2.2.2, 6.3.1)', async () => {
    const { rig, first, second } = await createPair();
    assert.equal(second.tsih, first.tsih, 'the response has the session’s TSIH');
    assert.equal(rig.target.connections.length, 2);
    assert.equal(rig.target.logins, 1, 'it is one session');
    assert.equal(rig.volume.holders.length, 1);
    const statSn = async (client: IscsiClient): Promise<number> => {
      client.command([0]);
      await settled();
      return client.one().header.readUInt32BE(24);
    };
    const [a, b] = [await statSn(first), await statSn(second)];
    assert.equal(await statSn(first), a + 1);
    assert.equal(await statSn(second), b + 1);
  });

  it('is answered with the session’s own command window (RFC 7143 11.13.4)', async () => {
    const rig = await createRig();
    const first = rig.connect();
    first.login({ MaxConnections: '2' });
    await first.ready();
    const late = first.delay(() => void first.command([0]));
    const response = attempt(rig, first);
    assert.equal(status(response), 0);
    assert.equal(expCmdSn(response), first.cmdSn - 1, 'what is still on its way is not acknowledged');
    late();
  });

  it('is refused beyond MaxConnections (RFC 7143 13.2, 11.13.5)', async () => {
    const rig = await createRig();
    const single = rig.connect();
    single.login();
    assert.equal(status(attempt(rig, single)), 0x0206, 'one connection, unless more are negotiated');
    const several = rig.connect();
    several.isid = '800000000002';
    assert.equal(several.login({ MaxConnections: '2' })['MaxConnections'], '2');
    assert.equal(status(attempt(rig, several)), 0);
    const third = rig.connect();
    assert.throws(() => third.join(several, 2));
    assert.equal(rig.target.rejections.get('session-limit'), 2);
  });

  it('is refused in the name of a session that is not this initiator’s (RFC 7143 6.3.1)', async () => {
    const other = new MemoryVolume(new MemoryDevice({ name: 'other', sizeBytes: 65_536 }));
    const volume = new MemoryVolume(new MemoryDevice({ sizeBytes: 65_536 }));
    const rig = await createRig({ volume, device: volume.device, directory: new MemoryDirectory(volume, other) });
    const first = rig.connect();
    first.login({ MaxConnections: '8' });
    const noSuchSession = 0x020a;
    assert.equal(status(attempt(rig, first, { tsih: first.tsih + 1 })), noSuchSession, 'TSIH');
    assert.equal(status(attempt(rig, first, { isid: '800000000009' })), noSuchSession, 'ISID');
    assert.equal(status(attempt(rig, first, { keys: { InitiatorName: `${INITIATOR}2` } })), noSuchSession, 'name');
    assert.equal(status(attempt(rig, first, { keys: { TargetName: `${PREFIX}:other` } })), noSuchSession, 'target');
    assert.equal(status(attempt(rig, first, { keys: { SessionType: 'Discovery' } })), noSuchSession, 'type');
    first.stream.destroy();
    await settled();
    assert.equal(status(attempt(rig, first)), noSuchSession, 'it has ended with its last connection');
  });

  it('is refused when the session ends during its login (RFC 7143 6.3.1)', async () => {
    const rig = await createRig();
    const first = rig.connect();
    first.login({ MaxConnections: '8' });
    const late = rig.connect();
    late.isid = first.isid;
    const names = { InitiatorName: INITIATOR, TargetName: `${PREFIX}:demo` };
    assert.equal(status(late.loginStep(names, { csg: 1, tsih: first.tsih, cid: 1 })), 0);
    first.stream.destroy();
    await settled();
    assert.equal(status(late.loginStep({}, { csg: 1, nsg: 3, tsih: first.tsih, cid: 1 })), 0x020a);
  });

  it('is authenticated like the first (RFC 7143 6.3.1, 12)', async () => {
    const chap = { user: 'alice', secret: Buffer.from('a secret of sixteen') };
    const rig = await createRig();
    const first = rig.connect();
    first.login({ MaxConnections: '8' });
    Object.assign(rig.volume.iscsi, { chap });
    assert.equal(status(attempt(rig, first)), 0x0201);
  });

  it('negotiates only what is a connection’s own (RFC 7143 13, "LO")', async () => {
    const { rig, first } = await createPair();
    const third = rig.connect();
    const answers = third.join(first, 2, {
      HeaderDigest: 'CRC32C',
      DataDigest: 'CRC32C',
      MaxConnections: '1',
      InitialR2T: 'No',
      MaxBurstLength: '512',
      ErrorRecoveryLevel: '0',
    });
    assert.deepEqual(answers, {
      TargetPortalGroupTag: '1',
      MaxRecvDataSegmentLength: '262144',
      HeaderDigest: 'CRC32C',
      DataDigest: 'CRC32C',
      MaxConnections: 'Reject',
      InitialR2T: 'Reject',
      MaxBurstLength: 'Reject',
      ErrorRecoveryLevel: 'Reject',
    });
    const read = await third.run(read10(0, 16), { read: 8192 });
    assert.equal(read.data.length, 8192, 'digests of this connection, bursts of the session');
    assert.equal((await first.run(read10(0, 1), { read: 512 })).status, 0, 'the others have no digests');
  });
});

describe('commands of several connections', () => {
  it('are taken strictly in the order of CmdSN (RFC 7143 4.2.2.1)', async () => {
    const { rig, first, second } = await createPair();
    let write = 0;
    const late = first.delay(() => (write = first.command(write10(0, 1), { write: 512, data: pattern(512) })));
    const read = second.command(read10(0, 1), { read: 512 });
    const after = second.command(write10(0, 1), { write: 512, data: pattern(512, 9) });
    const ping = second.nopOut({ immediate: false });
    await settled();
    assert.deepEqual(second.pdus(), [], 'everything waits for the first');
    late();
    await settled();
    assert.equal(outcome(first.pdus(), write).status, 0);
    const pdus = second.pdus();
    assert.deepEqual(outcome(pdus, read).data, pattern(512));
    assert.equal(outcome(pdus, after).status, 0);
    assert(pdus.some(({ opcode, header }) => opcode === 0x20 && header.readUInt32BE(16) === ping));
    assert.deepEqual(Buffer.from(rig.device.image.subarray(0, 512)), pattern(512, 9));
  });

  it('keep their data while they wait, immediate and unsolicited (RFC 7143 4.2.2.1, 4.2.5.2)', async () => {
    const { rig, first, second } = await createPair({}, { InitialR2T: 'No', FirstBurstLength: '2048' });
    const data = pattern(4096);
    const late = first.delay(() => void first.command([0]));
    const write = second.command(write10(0, 8), { write: 4096, data: data.subarray(0, 512), final: false });
    second.dataOut(write, data.subarray(512, 1024), { offset: 512, final: false });
    second.dataOut(write, data.subarray(1024, 2048), { offset: 1024, dataSn: 1 });
    await settled();
    assert.deepEqual(second.pdus(), []);
    assert.deepEqual(rig.device.history.filter(({ op }) => op === 'write').length, 0);
    late();
    await settled();
    const r2t = second.one();
    assert.equal(r2t.header.readUInt32BE(40), 2048);
    second.dataOut(write, data.subarray(2048), { offset: 2048, ttt: r2t.header.readUInt32BE(20) });
    await settled();
    assert.equal(outcome(second.pdus(), write).status, 0);
    assert.deepEqual(Buffer.from(rig.device.image.subarray(0, 4096)), data);
  });

  it('wait whole when they arrive in pieces (RFC 7143 4.2.2.1)', async () => {
    const { rig, first, second } = await createPair();
    const late = first.delay(() => void first.command([0]));
    const sent: Buffer[] = [];
    const feed = second.stream.feed.bind(second.stream);
    second.stream.feed = (bytes) => void sent.push(Buffer.from(bytes));
    const write = second.command(write10(0, 1), { write: 512, data: pattern(512) });
    second.stream.feed = feed;
    const bytes = Buffer.concat(sent);
    feed(bytes.subarray(0, 200));
    late();
    feed(bytes.subarray(200));
    await settled();
    assert.equal(outcome(second.pdus(), write).status, 0);
    assert.deepEqual(Buffer.from(rig.device.image.subarray(0, 512)), pattern(512));
  });

  it('may not be too long while they wait, but for their data (RFC 7143 4.2.2.1)', async () => {
    const { rig, first, second } = await createPair();
    first.delay(() => void first.command([0]));
    second.nopOut({ immediate: false, data: pattern(limits.iscsiTextBytesMax) });
    await settled();
    assert.equal(second.stream.destroyed, false);
    second.nopOut({ immediate: false, data: pattern(limits.iscsiTextBytesMax + 4) });
    await settled();
    assert.deepEqual([first.stream.destroyed, second.stream.destroyed], [false, true]);
    assert.equal(rig.target.connections.length, 1);
  });

  it('that come twice are taken once (RFC 7143 4.2.2.1)', async () => {
    const { rig, first, second } = await createPair();
    const late = first.delay(() => void first.command([0]));
    const { cmdSn } = first;
    const write = second.command(write10(0, 1), { write: 512, data: pattern(512) });
    first.command(write10(0, 1), { write: 512, data: pattern(512, 9), cmdSn, itt: write });
    late();
    await settled();
    assert.equal(rig.device.history.filter(({ op }) => op === 'write').length, 1);
    assert.equal(outcome(second.pdus(), write).status, 0);
  });

  it('never exceed the window that was promised, and it never moves back (RFC 7143 4.2.2.1)', async () => {
    const { rig, first, second } = await createPair();
    rig.device.holdReads = true;
    second.nopOut();
    let shown = maxCmdSn(second.one());
    const late = first.delay(() => void first.command(read10(0, 1), { read: 512 }));
    for (let count = 1; count < limits.iscsiCommandWindow; count++) second.command(read10(0, 1), { read: 512 });
    assert.equal(second.cmdSn, shown + 1, 'the window is used up');
    second.command(read10(0, 1), { read: 512, cmdSn: second.cmdSn });
    second.nopOut();
    const waiting = second.one();
    assert.deepEqual([expCmdSn(waiting), maxCmdSn(waiting)], [first.cmdSn - limits.iscsiCommandWindow, shown]);
    late();
    assert.equal(rig.device.heldReads.length, limits.iscsiCommandWindow, 'one beyond the window is dropped');
    second.nopOut();
    const full = second.one();
    assert.deepEqual([expCmdSn(full), maxCmdSn(full)], [first.cmdSn, shown]);
    for (const held of rig.device.heldReads.splice(0)) held.release();
    await settled();
    for (const pdu of [...first.pdus(), ...second.pdus()].sort((a, b) => maxCmdSn(a) - maxCmdSn(b))) {
      assert.equal(maxCmdSn(pdu), shown + 1);
      shown++;
    }
  });

  it('wait for the volume in their order, over all connections (RFC 7143 4.2.2.1)', async () => {
    const rig = await createRig();
    const first = rig.connect();
    first.login({ MaxConnections: '8' });
    await first.run([0]);
    const second = rig.connect();
    second.join(first, 1);
    let open = (): void => undefined;
    rig.volume.attachGate = new Promise((resolve) => (open = resolve));
    first.command(write10(0, 1), { write: 512, data: pattern(512, 1) });
    second.command(write10(0, 1), { write: 512, data: pattern(512, 2) });
    first.command(write10(0, 1), { write: 512, data: pattern(512, 3) });
    second.command(write10(0, 1), { write: 512, data: pattern(512, 4) });
    open();
    await settled();
    assert.deepEqual([first.pdus().length, second.pdus().length], [2, 2]);
    assert.deepEqual(Buffer.from(rig.device.image.subarray(0, 512)), pattern(512, 4), 'the last one is the newest');
    assert.equal(rig.volume.attachCalls, 1);
  });

  it('belong to the connection that brought them: data on another one are dropped (RFC 7143 4.2.2.3)', async () => {
    const { rig, first, second } = await createPair();
    const write = first.command(write10(0, 1), { write: 512 });
    await settled();
    const ttt = first.one().header.readUInt32BE(20);
    second.dataOut(write, pattern(512), { offset: 0, ttt });
    await settled();
    assert.deepEqual([...first.pdus(), ...second.pdus()], []);
    assert.equal(rig.device.history.filter(({ op }) => op === 'write').length, 0);
    first.dataOut(write, pattern(512), { offset: 0, ttt });
    await settled();
    assert.equal(outcome(first.pdus(), write).status, 0);
  });
});

describe('a gap in the command numbers', () => {
  it('is filled by a retry on another connection when the first one died (RFC 7143 7.2.1)', async () => {
    const { first, second } = await createPair();
    const { cmdSn } = first;
    first.delay(() => void first.command([0], { itt: 7 }));
    const read = second.command(read10(0, 1), { read: 512 });
    first.stream.destroy();
    await settled();
    assert.deepEqual(second.pdus(), []);
    second.command([0], { cmdSn, itt: 7 });
    await settled();
    const pdus = second.pdus();
    assert.equal(outcome(pdus, 7).status, 0);
    assert.equal(outcome(pdus, read).status, 0);
  });

  it('is left behind by commands that waited on the connection that died, and may come again (RFC 7143 7.2.1)', async () => {
    const { rig, first, second } = await createPair();
    const late = first.delay(() => void first.command([0]));
    const { cmdSn } = second;
    const write = second.command(write10(0, 1), { write: 512, data: pattern(512, 1) });
    const after = first.delay(() => void first.command([0], { itt: 9 }));
    second.stream.destroy();
    await settled();
    late();
    after();
    await settled();
    assert.equal(first.pdus().length, 1, 'what comes behind it waits');
    first.command(write10(0, 1), { write: 512, data: pattern(512, 1), cmdSn, itt: write });
    await settled();
    const pdus = first.pdus();
    assert.deepEqual([outcome(pdus, write).status, outcome(pdus, 9).status], [0, 0]);
    assert.equal(rig.device.history.filter(({ op }) => op === 'write').length, 1, 'it landed once');
  });

  it('that does not fill in time ends the session (RFC 7143 7.1.4.4)', async () => {
    const { rig, first, second } = await createPair();
    first.delay(() => void first.command([0]));
    second.command(write10(0, 1), { write: 512, data: pattern(512) });
    await settled();
    rig.clock.advance(limits.iscsiGapMsMax - 1);
    assert.equal(second.stream.destroyed, false);
    rig.clock.advance(1);
    await settled();
    assert.deepEqual([first.stream.destroyed, second.stream.destroyed], [true, true]);
    assert.deepEqual(rig.device.history.filter(({ op }) => op === 'write').length, 0);
    assert.equal(rig.volume.holders.length, 0);
    assert.equal(rig.volume.iscsi.stats.inflight, 0);
  });
});

describe('a connection that ends', () => {
  it('takes its commands along, and no others (RFC 7143 4.2.2.3, 11.14.5)', async () => {
    const { rig, first, second } = await createPair();
    first.command(write10(0, 8), { write: 4096, data: pattern(512) });
    rig.device.holdReads = true;
    const dead = first.command(read10(0, 1), { read: 512 });
    const alive = second.command(read10(0, 1), { read: 512 });
    first.stream.destroy();
    await settled();
    assert.equal(rig.device.partialWritesAbandoned, 1);
    for (const held of rig.device.heldReads.splice(0)) held.release();
    rig.device.holdReads = false;
    await settled();
    const pdus = second.pdus();
    assert.equal(outcome(pdus, alive).status, 0);
    assert(!pdus.some(({ header }) => header.readUInt32BE(16) === dead));
    assert.equal(rig.volume.holders.length, 1, 'the session holds the volume on');
    assert.equal((await second.run([0])).status, 0);
    assert.equal(rig.volume.iscsi.stats.inflight, 0);
  });

  it('amid a command that breaks the protocol holds up no others (RFC 7143 4.2.2.1)', async () => {
    const { first, second } = await createPair();
    first.command(write10(0, 1), { write: 512, itt: 50 });
    const late = first.delay(() => void first.command(write10(0, 1), { write: 512, itt: 50 }));
    const read = second.command(read10(0, 1), { read: 512 });
    late();
    await settled();
    assert.equal(first.stream.destroyed, true, 'its task tag is in use');
    assert.equal(outcome(second.pdus(), read).status, 0);
  });

  it('lands nothing after a newer write of another connection (RFC 7143 11.14.5)', async () => {
    const { rig, first, second } = await createPair({}, { InitialR2T: 'No' });
    const old = first.command(write10(0, 8), { write: 4096, data: pattern(2048, 1) });
    const ttt = first.one().header.readUInt32BE(20);
    const late = first.delay(() => first.dataOut(old, pattern(2048, 1), { offset: 2048, ttt }));
    rig.device.writable = false;
    first.command(write10(0, 8), { write: 4096, data: pattern(4096, 2) });
    const newer = second.command(write10(0, 8), { write: 4096, data: pattern(4096, 3) });
    first.stream.destroy();
    await settled();
    rig.device.writable = true;
    late();
    await settled();
    assert.equal(outcome(second.pdus(), newer).status, 0);
    assert.deepEqual(Buffer.from(rig.device.image.subarray(0, 4096)), pattern(4096, 3));
    assert.equal(rig.device.history.filter(({ op }) => op === 'write').length, 1);
    assert.equal(rig.device.partialWritesOpen, 0);
  });

  it('is the end of the session when it is the last (RFC 7143 13.16)', async () => {
    const { rig, first, second } = await createPair();
    first.stream.destroy();
    await settled();
    assert.equal(rig.volume.holders.length, 1);
    second.stream.destroy();
    await settled();
    assert.equal(rig.volume.holders.length, 0);
    assert.equal(rig.target.connections.length, 0);
  });
});

describe('reinstatement', () => {
  it('of a connection closes the old one first, and ends its tasks only (RFC 7143 6.3.4)', async () => {
    const { rig, first, second } = await createPair();
    first.command(write10(0, 8), { write: 4096, data: pattern(512) });
    rig.device.holdReads = true;
    const alive = second.command(read10(8, 1), { read: 512 });
    const again = rig.connect();
    again.join(first, 0);
    assert.equal(first.stream.destroyed, true);
    assert.equal(rig.device.partialWritesAbandoned, 1);
    assert.equal(second.stream.destroyed, false);
    await settled();
    assert.equal(rig.target.connections.length, 2);
    rig.device.heldReads.splice(0)[0]!.release();
    rig.device.holdReads = false;
    await settled();
    assert.equal(outcome(second.pdus(), alive).status, 0);
    assert.equal((await again.run(read10(0, 1), { read: 512 })).status, 0);
  });

  it('of the only connection keeps the session (RFC 7143 6.3.4)', async () => {
    const rig = await createRig();
    const client = rig.connect();
    client.login();
    await client.ready();
    const again = rig.connect();
    again.join(client, 0);
    await settled();
    assert.equal(client.stream.destroyed, true);
    assert.equal((await again.run([0])).status, 0, 'no new power-on attention');
    assert.equal(rig.volume.attachCalls, 1);
    assert.equal(rig.target.connections.length, 1);
  });

  it('takes no further place of the volume’s, so that it works while all are taken (RFC 7143 6.3.4)', async () => {
    const { rig, first } = await createPair();
    for (let count = 2; count < limits.connectionsPerVolumeMax; count++) {
      const other = rig.connect();
      other.isid = `8000000${(0x10000 + count).toString(16)}`;
      other.login();
    }
    assert.equal(status(attempt(rig, first, { isid: '8000000fffff', tsih: 0 })), 0x0302, 'there is no more room');
    assert.equal(status(attempt(rig, first)), 0, 'the second connection is made anew');
    await settled();
    assert.equal(rig.target.connections.length, limits.connectionsPerVolumeMax);
  });

  it('that fails leaves the old connection alone (RFC 7143 6.3.4)', async () => {
    const rig = await createRig();
    const client = rig.connect();
    client.login();
    await client.ready();
    Object.assign(rig.volume.iscsi, { chap: { user: 'alice', secret: Buffer.from('a secret of sixteen') } });
    const again = rig.connect();
    assert.throws(() => again.join(client, 0));
    await settled();
    assert.equal(client.stream.destroyed, false);
    assert.equal((await client.run([0])).status, 0);
  });

  it('of a session ends all of its connections (RFC 7143 6.3.5)', async () => {
    const { rig, first, second } = await createPair();
    const next = rig.connect();
    next.isid = first.isid;
    next.login();
    assert.deepEqual([first.stream.destroyed, second.stream.destroyed], [true, true]);
    assert.notEqual(next.tsih, first.tsih);
    await settled();
    assert.equal(rig.target.connections.length, 1);
  });
});

describe('the directory', () => {
  it('finds a session alive that answers on any connection, and evicts all of it', async () => {
    const { rig, first, second } = await createPair();
    const { control } = rig.volume.holders[0]!;
    const alive = control.probe();
    await settled();
    first.one();
    const ping = second.one();
    second.nopOut({ itt: NO_TAG, ttt: ping.header.readUInt32BE(20) });
    assert.equal(await alive, true);
    const unanswered = control.probe();
    control.evict('it does not answer');
    assert.equal(await unanswered, false);
    await settled();
    assert.deepEqual([first.stream.destroyed, second.stream.destroyed], [true, true]);
    assert.equal(rig.volume.holders.length, 0);
  });
});
