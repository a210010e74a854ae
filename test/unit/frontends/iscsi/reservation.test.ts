/** Reservations over iSCSI: who a nexus is, what ends with a session, and what never lands after a newer write. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createRig, outcome, pattern, read10, write10 } from '../../../fake/iscsi-client.js';
import type { IscsiClient, Outcome, Rig } from '../../../fake/iscsi-client.js';
import { MemoryDevice, MemoryVolume } from '../../../fake/memory-device.js';
import { settled } from '../../../fake/memory-stream.js';
import { action, flag, inCdb, outCdb, outList } from '../../../fake/reserve-out.js';
import type { OutFields } from '../../../fake/reserve-out.js';

const CONFLICT = 0x18;
const WRITE_EXCLUSIVE = 1;
const [A, B] = [0xan, 0xbn];
const older = pattern(8192, 1);
const newer = pattern(8192, 2);
const reserve6 = [0x16, 0, 0, 0, 0, 0];

async function shared(): Promise<Rig> {
  const device = new MemoryDevice({ sizeBytes: 1024 * 1024 });
  return createRig({ device, volume: new MemoryVolume(device, { shared: true }) });
}

async function connect(rig: Rig, name: string, isid = '800000000001'): Promise<IscsiClient> {
  const client = rig.connect();
  client.isid = isid;
  client.login({ InitiatorName: `iqn.2026-11.test:${name}` });
  await client.run([0]);
  return client;
}

function out(client: IscsiClient, service: number, fields: OutFields, type = 0): Promise<Outcome> {
  const list = outList(fields);
  return client.run(outCdb(service, type, list.length), { write: list.length, data: list });
}

async function pair(): Promise<{ rig: Rig; a: IscsiClient; b: IscsiClient }> {
  const rig = await shared();
  const a = await connect(rig, 'a');
  const b = await connect(rig, 'b');
  for (const [client, key] of [
    [a, A],
    [b, B],
  ] as const) {
    assert.equal((await out(client, action.register, { actionKey: key })).status, 0);
  }
  return { rig, a, b };
}

/** A write of 8192 bytes, of which the first half has come. */
async function halfWritten(client: IscsiClient): Promise<{ itt: number; finish: () => Promise<void> }> {
  const itt = client.command(write10(0, 16), { write: 8192 });
  await settled();
  const r2t = client.pdus().find(({ opcode }) => opcode === 0x31);
  assert(r2t !== undefined);
  const ttt = r2t.header.readUInt32BE(20);
  client.dataOut(itt, older.subarray(0, 4096), { offset: 0, ttt, final: false });
  const finish = async (): Promise<void> => {
    client.dataOut(itt, older.subarray(4096), { offset: 4096, ttt, dataSn: 1 });
    await settled();
  };
  return { itt, finish };
}

const image = (rig: Rig): Buffer => Buffer.from(rig.device.image.subarray(0, 8192));
const write = (client: IscsiClient, data: Buffer): Promise<Outcome> =>
  client.run(write10(0, 16), { write: data.length, data });

describe('PREEMPT AND ABORT (SPC-4 5.13.11.5)', () => {
  it('lets nothing of what it aborts land after a newer write', async () => {
    const { rig, a, b } = await pair();
    assert.equal((await out(a, action.reserve, { key: A }, WRITE_EXCLUSIVE)).status, 0);
    const late = await halfWritten(a);
    const preempted = await out(b, action.preemptAndAbort, { key: B, actionKey: A }, WRITE_EXCLUSIVE);
    assert.equal(preempted.status, 0);
    assert.equal(rig.device.partialWritesOpen, 0, 'what had come of it is given up');
    assert.equal((await write(b, newer)).status, 0);
    await late.finish();
    assert.deepEqual(image(rig), newer);
    assert.deepEqual(a.pdus(), [], 'what was aborted is not answered');
    assert.deepEqual((await a.run([0])).sense, [6, 0x2f, 0]);
    assert.deepEqual((await a.run([0])).sense, [6, 0x2a, 5]);
    assert.equal((await write(a, older)).status, CONFLICT);
    assert.deepEqual(image(rig), newer);
    assert.equal(rig.volume.iscsi.stats.inflight, 0);
  });

  it('leaves a write that the device has to its place, before every newer one', async () => {
    const { rig, a, b } = await pair();
    await out(a, action.reserve, { key: A }, WRITE_EXCLUSIVE);
    rig.device.holdFlushes = true;
    a.command(write10(0, 16, 0x08), { write: older.length, data: older });
    await settled();
    assert.deepEqual(image(rig), older);
    assert.equal((await out(b, action.preemptAndAbort, { key: B, actionKey: A }, WRITE_EXCLUSIVE)).status, 0);
    assert.equal((await write(b, newer)).status, 0);
    rig.device.heldFlushes[0]?.release();
    await settled();
    assert.deepEqual(image(rig), newer);
    assert.deepEqual(a.pdus(), []);
  });

  it('ends a command that writes in several parts at the next one', async () => {
    const { rig, a, b } = await pair();
    const block = Buffer.alloc(512, 0x55);
    rig.device.writable = false;
    a.command([0x41, 0, 0, 0, 0, 0, 0, 0, 16, 0], { write: 512, data: block });
    await settled();
    assert.equal((await out(b, action.preemptAndAbort, { key: B, actionKey: A })).status, 0);
    rig.device.writable = true;
    await settled();
    assert.equal(image(rig)[0], 0);
    assert.deepEqual(a.pdus(), []);
  });

  it('answers itself, and aborts the rest of its own session, when its key is the one', async () => {
    const { rig, a, b } = await pair();
    const late = await halfWritten(a);
    const done = await out(a, action.preemptAndAbort, { key: A, actionKey: A });
    assert.equal(done.status, 0);
    assert.equal((await write(b, newer)).status, 0);
    await late.finish();
    assert.deepEqual(image(rig), newer);
    assert.equal((await a.run(read10(0, 1), { read: 512 })).status, 0, 'and is told nothing');
  });

  it('reaches every connection of the session', async () => {
    const rig = await shared();
    const first = rig.connect();
    first.login({ InitiatorName: 'iqn.2026-11.test:a', MaxConnections: '2' });
    await first.run([0]);
    const second = rig.connect();
    second.join(first, 1, { InitiatorName: 'iqn.2026-11.test:a' });
    const b = await connect(rig, 'b');
    await out(first, action.register, { actionKey: A });
    await out(b, action.register, { actionKey: B });
    const late = [await halfWritten(first), await halfWritten(second)];
    assert.equal((await out(b, action.preemptAndAbort, { key: B, actionKey: A })).status, 0);
    assert.equal(rig.device.partialWritesAbandoned, 2);
    assert.equal((await write(b, newer)).status, 0);
    for (const each of late) await each.finish();
    assert.deepEqual(image(rig), newer);
    assert.deepEqual([...first.pdus(), ...second.pdus()], []);
  });

  it('finds room beside a node that hangs with all the memory there is for lists, and gives it back', async () => {
    const device = new MemoryDevice({ sizeBytes: 64 * 1024 * 1024 });
    const rig = await createRig({ device, volume: new MemoryVolume(device, { shared: true }) });
    const a = await connect(rig, 'a');
    const b = await connect(rig, 'b');
    await out(a, action.register, { actionKey: A });
    const lengthBytes = 32 * 1024 * 1024;
    const writeAndVerify = [0x8e, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    for (let count = 0; count < 2; count++) a.command(writeAndVerify, { write: lengthBytes });
    await settled();
    assert.equal(a.pdus().length, 2, 'it is asked for the data');
    const block = Buffer.alloc(512);
    const writeSame = [0x41, 0, 0, 0, 0, 0, 0, 0, 8, 0];
    const refused = await b.run(writeSame, { write: block.length, data: block });
    assert.equal(refused.status, 0x28, 'TASK SET FULL');
    assert.equal((await out(b, action.register, { actionKey: B })).status, 0);
    assert.equal((await out(b, action.preemptAndAbort, { key: B, actionKey: A })).status, 0);
    assert.equal((await b.run(writeSame, { write: block.length, data: block })).status, 0);
  });

  it('leaves the commands of others alone', async () => {
    const { rig, a, b } = await pair();
    const c = await connect(rig, 'c');
    const stays = await halfWritten(c);
    await halfWritten(a);
    await out(b, action.preemptAndAbort, { key: B, actionKey: A });
    await stays.finish();
    assert.equal(outcome(c.pdus(), stays.itt).status, 0);
    assert.deepEqual(image(rig), older);
  });
});

describe('a write whose data were on their way when its initiator lost the right to write', () => {
  it('by PREEMPT or RESERVE ends in a conflict, and never lands', async () => {
    const { rig, a, b } = await pair();
    const c = await connect(rig, 'c');
    await out(a, action.reserve, { key: A }, WRITE_EXCLUSIVE);
    const registered = await halfWritten(a);
    assert.equal((await out(b, action.preempt, { key: B, actionKey: A }, WRITE_EXCLUSIVE)).status, 0);
    assert.equal((await write(b, newer)).status, 0);
    await registered.finish();
    assert.equal(outcome(a.pdus(), registered.itt).status, CONFLICT);
    assert.deepEqual(image(rig), newer);

    await out(b, action.release, { key: B }, WRITE_EXCLUSIVE);
    const stranger = await halfWritten(c);
    await out(b, action.reserve, { key: B }, WRITE_EXCLUSIVE);
    await stranger.finish();
    assert.equal(outcome(c.pdus(), stranger.itt).status, CONFLICT);
    assert.deepEqual(image(rig), newer);
    assert.deepEqual([rig.device.partialWritesOpen, rig.device.partialWritesAbandoned], [0, 2]);
    await out(b, action.release, { key: B }, WRITE_EXCLUSIVE);
    assert.equal((await write(c, older)).status, 0, 'the session goes on');
  });

  it('whose data come alone, in one piece, as well', async () => {
    const { rig, a, b } = await pair();
    const c = await connect(rig, 'c');
    const itt = c.command(write10(0, 16), { write: 8192 });
    await settled();
    const ttt = c.one().header.readUInt32BE(20);
    await out(a, action.reserve, { key: A }, WRITE_EXCLUSIVE);
    c.dataOut(itt, older, { offset: 0, ttt });
    await settled();
    assert.equal(outcome(c.pdus(), itt).status, CONFLICT);
    assert.equal(image(rig)[0], 0);
    assert.equal((await b.run(read10(0, 1), { read: 512 })).status, 0);
  });

  it('and that the device had no room for, as well', async () => {
    const { rig, a } = await pair();
    const c = await connect(rig, 'c');
    await c.run(read10(0, 1), { read: 512 });
    rig.device.writable = false;
    const itt = c.command(write10(0, 16), { write: 8192, data: older });
    await settled();
    await out(a, action.reserve, { key: A }, WRITE_EXCLUSIVE);
    rig.device.writable = true;
    await settled();
    assert.equal(outcome(c.pdus(), itt).status, CONFLICT);
    assert.equal(image(rig)[0], 0);
  });
});

describe('an I_T nexus', () => {
  const keys = async (client: IscsiClient): Promise<number> =>
    (await client.run(inCdb(0), { read: 256 })).data.readUInt32BE(4) / 8;

  it('is name and ISID: its registration waits for it through sessions', async () => {
    const { rig, a, b } = await pair();
    await out(a, action.reserve, { key: A }, WRITE_EXCLUSIVE);
    a.stream.destroy();
    await settled();
    assert.equal(await keys(b), 2);
    const again = await connect(rig, 'a');
    assert.equal((await write(again, newer)).status, 0);
    const other = await connect(rig, 'a', '800000000002');
    assert.equal((await write(other, older)).status, CONFLICT);
    assert.equal((await out(again, action.release, { key: A }, WRITE_EXCLUSIVE)).status, 0);
  });

  it('shows its port by its name in READ FULL STATUS', async () => {
    const { a } = await pair();
    const { data } = await a.run(inCdb(3), { read: 1024 });
    assert.match(data.toString('latin1'), /iqn\.2026-11\.test:a,i,0x800000000001\0/);
  });
});

describe('RESERVE(6)', () => {
  it('ends with its session: by logout, by a broken connection, and by another login', async () => {
    const rig = await shared();
    const b = await connect(rig, 'b');
    const ends: readonly ((a: IscsiClient) => unknown)[] = [
      (a) => a.logout(),
      (a) => a.stream.destroy(),
      () => connect(rig, 'a'),
    ];
    for (const end of ends) {
      const a = await connect(rig, 'a');
      assert.equal((await a.run(reserve6)).status, 0);
      assert.equal((await b.run(reserve6)).status, CONFLICT);
      assert.equal(rig.volume.reservations.unregistered.mayRead, false);
      await end(a);
      await settled();
      assert.equal(rig.volume.reservations.unregistered.mayRead, true);
      assert.equal((await b.run(reserve6)).status, 0);
      await b.run([0x17, 0, 0, 0, 0, 0]);
    }
  });

  it('ends with a reset of the unit or the target, by whomever', async () => {
    const rig = await shared();
    const a = await connect(rig, 'a');
    const b = await connect(rig, 'b');
    for (const reset of [5, 6]) {
      assert.equal((await a.run(reserve6)).status, 0);
      b.taskManagement(reset);
      await settled();
      b.pdus();
      await a.run([0]);
      await b.run([0]);
      assert.equal((await b.run(reserve6)).status, 0, `function ${reset}`);
      await b.run([0x17, 0, 0, 0, 0, 0]);
    }
  });
});

describe('a change that is being saved (APTPL)', () => {
  it('holds although its session ended meanwhile, and what waited for it does not', async () => {
    const { rig, a, b } = await pair();
    const { reservations } = rig.volume;
    reservations.holdSaves = true;
    const list = outList({ key: A, actionKey: A, flags: flag.aptpl });
    a.command(outCdb(action.register, 0, list.length), { write: list.length, data: list });
    const reserves = outList({ key: A });
    a.command(outCdb(action.reserve, WRITE_EXCLUSIVE, reserves.length), { write: reserves.length, data: reserves });
    await settled();
    assert.equal(reservations.heldSaves.length, 1, 'one at a time');
    a.stream.destroy();
    await settled();
    reservations.holdSaves = false;
    reservations.heldSaves[0]?.release();
    await settled();
    assert.equal(reservations.saved?.registrations.length, 2);
    assert.equal(reservations.saved.reservation, undefined, 'the session had ended before its turn');
    assert.equal((await write(b, newer)).status, 0);
    assert.equal(rig.volume.iscsi.stats.inflight, 0);
  });

  it('is answered only then, and a write of another is served until then', async () => {
    const { rig, a, b } = await pair();
    const { reservations } = rig.volume;
    await out(a, action.register, { key: A, actionKey: A, flags: flag.aptpl });
    reservations.holdSaves = true;
    const list = outList({ key: A });
    const itt = a.command(outCdb(action.reserve, WRITE_EXCLUSIVE, list.length), { write: list.length, data: list });
    await settled();
    assert.deepEqual(a.pdus(), []);
    assert.equal((await write(b, older)).status, 0);
    reservations.heldSaves[0]?.release();
    await settled();
    assert.equal(outcome(a.pdus(), itt).status, 0);
    assert.equal((await write(b, newer)).status, CONFLICT);
    assert.deepEqual(image(rig), older);
  });
});

describe('an exclusive volume', () => {
  it('tells everybody what is reserved, and lets its one client alone change it', async () => {
    const rig = await createRig();
    const a = await connect(rig, 'a');
    const b = await connect(rig, 'b');
    assert.equal((await out(a, action.register, { actionKey: A })).status, 0);
    assert.equal((await b.run(inCdb(0), { read: 256 })).data.readUInt32BE(4), 8);
    assert.equal((await out(b, action.registerAndIgnore, { actionKey: B })).status, CONFLICT);
    assert.equal((await b.run(reserve6)).status, CONFLICT);
  });
});
