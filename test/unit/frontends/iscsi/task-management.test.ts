import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ioOps } from '../../../../src/base/io-stats.js';
import { limits } from '../../../../src/base/limits.js';
import { createPair, createRig, outcome, pattern, read10, write10 } from '../../../fake/iscsi-client.js';
import type { IscsiClient, Rig } from '../../../fake/iscsi-client.js';
import { MemoryDevice, MemoryVolume } from '../../../fake/memory-device.js';
import { settled } from '../../../fake/memory-stream.js';

async function ready(rig?: Rig): Promise<{ rig: Rig; client: IscsiClient }> {
  const made = rig ?? (await createRig());
  const client = made.connect();
  client.login();
  await client.ready();
  return { rig: made, client };
}

function response(client: IscsiClient): number {
  const pdu = client.pdus().find(({ opcode }) => opcode === 0x22);
  assert(pdu, 'an answer');
  return pdu.header[2]!;
}

describe('task management', () => {
  it('aborts a task that waits for data, and one that the device works on, without waiting', async () => {
    const { rig, client } = await ready();
    const writing = client.command(write10(0, 8), { write: 4096, data: pattern(512) });
    assert.equal(client.one().opcode, 0x31);
    client.taskManagement(1, { referenced: writing });
    assert.equal(response(client), 0);
    assert.equal(rig.device.partialWritesAbandoned, 1);
    client.dataOut(writing, pattern(3584), { offset: 512, ttt: 0 });
    rig.device.holdReads = true;
    const reading = client.command(read10(0, 1), { read: 512 });
    client.taskManagement(1, { referenced: reading });
    assert.equal(response(client), 0);
    client.taskManagement(1, { referenced: reading });
    assert.equal(response(client), 1, 'it is gone');
    rig.device.heldReads[0]!.release();
    await settled();
    assert.deepEqual(client.pdus(), [], 'an aborted command is not answered');
    rig.device.holdReads = false;
    assert.equal((await client.run(read10(0, 1), { read: 512 })).status, 0);
  });

  it('frees the window of what it aborts', async () => {
    const { rig, client } = await ready();
    rig.device.holdReads = true;
    for (let count = 0; count < limits.iscsiCommandWindow; count++) client.command(read10(0, 1), { read: 512 });
    client.taskManagement(2);
    const { header } = client.one();
    assert.equal(header.readUInt32BE(32), (header.readUInt32BE(28) + limits.iscsiCommandWindow - 1) >>> 0);
    assert.equal(rig.volume.iscsi.stats.inflight, 0);
  });

  it('resets the unit for every session on it', async () => {
    const volume = new MemoryVolume(new MemoryDevice({ sizeBytes: 1024 * 1024 }), { shared: true });
    const rig = await createRig({ volume, device: volume.device });
    const { client } = await ready(rig);
    const other = rig.connect();
    other.isid = '800000000002';
    other.login();
    await other.ready();
    await client.run([0x15, 0x10, 0, 0, 24, 0], { write: 24, data: cachingPage(false) });
    assert.deepEqual((await other.run([0])).sense, [6, 0x2a, 1], 'mode parameters changed');
    other.command(write10(0, 8), { write: 4096, data: pattern(512) });
    other.pdus();
    client.taskManagement(5);
    await settled();
    assert.equal(response(client), 0);
    assert.equal(rig.device.partialWritesAbandoned, 1);
    for (const each of [client, other]) assert.deepEqual((await each.run([0])).sense, [6, 0x29, 3]);
    const caching = await client.run([0x1a, 8, 8, 0, 255, 0], { read: 255 });
    assert.equal(caching.data[6], 4, 'WCE is back at its default');
  });

  it('answers what else there is (RFC 7143 11.6.1)', async () => {
    const { client } = await ready();
    for (const [wanted, expected] of [
      [3, 5],
      [8, 4],
      [99, 5],
    ]) {
      client.taskManagement(wanted!);
      assert.equal(response(client), expected);
    }
    client.taskManagement(2, { lun: 1 });
    assert.equal(response(client), 2);
    client.taskManagement(6);
    await settled();
    assert.equal(response(client), 0);
    assert.deepEqual((await client.run([0])).sense, [6, 0x29, 2]);
  });

  it('is for the holder where it reaches others', async () => {
    const { rig } = await ready();
    const second = rig.connect();
    second.isid = '800000000002';
    second.login();
    for (const wanted of [4, 5, 6, 7]) {
      second.taskManagement(wanted);
      await settled();
      assert.equal(response(second), 6);
    }
  });

  it('ends every session by a cold reset', async () => {
    const { rig, client } = await ready();
    rig.device.holdReads = true;
    client.command(read10(0, 1), { read: 512 });
    client.taskManagement(7);
    await settled();
    const { opcode, header } = client.one();
    assert.deepEqual([opcode, header[2]], [0x22, 0], 'its answer is the last that comes');
    assert.equal(client.stream.finished, true);
    assert.equal(rig.volume.holders.length, 0);
  });
});

const COMPLETE = 0;
const NO_TASK = 1;
const AUTHORIZATION_FAILED = 6;
const ABORT_TASK = 1;
const ABORT_TASK_SET = 2;
const CLEAR_TASK_SET = 4;
const UNIT_RESET = 5;
const WARM_RESET = 6;
const COLD_RESET = 7;

const writes = (rig: Rig): number => rig.device.history.filter(({ op }) => op === 'write').length;

describe('task management over several connections', () => {
  it('aborts a task of another connection (RFC 7143 11.5.1, ABORT TASK)', async () => {
    const { rig, first, second } = await createPair();
    const itt = first.command(write10(0, 8), { write: 4096, data: pattern(512) });
    second.taskManagement(ABORT_TASK, { referenced: itt });
    assert.equal(response(second), COMPLETE);
    assert.equal(rig.device.partialWritesAbandoned, 1);
    second.taskManagement(ABORT_TASK, { referenced: itt });
    assert.equal(response(second), NO_TASK);
  });

  it('takes the number of a task that has not come as received, and drops it when it comes (RFC 7143 11.6.1 b)', async () => {
    const { rig, first, second } = await createPair();
    const refCmdSn = first.cmdSn;
    const late = first.delay(() => void first.command(write10(0, 1), { write: 512, data: pattern(512), itt: 77 }));
    second.taskManagement(ABORT_TASK, { referenced: 77, refCmdSn });
    assert.equal(response(second), COMPLETE);
    assert.equal((await second.run(write10(0, 1), { write: 512, data: pattern(512, 9) })).status, 0);
    late();
    await settled();
    assert.deepEqual(first.pdus(), []);
    assert.deepEqual(
      Buffer.from(rig.device.image.subarray(0, 512)),
      pattern(512, 9),
      'nothing lands after a newer write',
    );
  });

  it('knows no task whose number is outside of the window, or not before its own (RFC 7143 11.6.1 c)', async () => {
    const { first } = await createPair();
    for (const refCmdSn of [first.cmdSn - 1, first.cmdSn, first.cmdSn + 1, first.cmdSn + limits.iscsiCommandWindow]) {
      first.taskManagement(ABORT_TASK, { referenced: 77, refCmdSn });
      assert.equal(response(first), NO_TASK);
    }
    assert.equal((await first.run([0])).status, 0, 'no number was used up');
  });

  it('aborts a task that waits for its turn, whose number stays taken (RFC 7143 11.6.1 a)', async () => {
    const { rig, first, second } = await createPair();
    await second.run(read10(0, 1), { read: 512 });
    const { operations } = rig.volume.iscsi.stats;
    const reads = operations[ioOps.indexOf('read')];
    const late = first.delay(() => void first.command([0]));
    const itt = second.command(write10(0, 1), { write: 512, data: pattern(512) });
    const read = second.command(read10(0, 1), { read: 512 });
    second.taskManagement(ABORT_TASK, { referenced: itt });
    assert.equal(response(second), COMPLETE);
    assert.equal(operations[ioOps.indexOf('read')], reads, 'it is counted as nothing that was before');
    late();
    await settled();
    const pdus = second.pdus();
    assert.equal(outcome(pdus, read).status, 0);
    assert.equal(pdus.length, 1);
    assert.equal(writes(rig), 0);
    assert.equal(rig.volume.iscsi.stats.inflight, 0);
    second.nopOut();
    const { header } = second.one();
    assert.equal(header.readUInt32BE(32), header.readUInt32BE(28) + limits.iscsiCommandWindow - 1, 'it had no place');
  });

  it('aborts the task set on every connection, after the commands before it have come (RFC 7143 4.2.3.3)', async () => {
    const { rig, first, second } = await createPair();
    rig.device.holdReads = true;
    first.command(read10(0, 1), { read: 512 });
    second.command(read10(0, 1), { read: 512 });
    const late = first.delay(() => void first.command(read10(0, 1), { read: 512 }));
    second.taskManagement(ABORT_TASK_SET);
    assert.deepEqual(second.pdus(), [], 'an earlier command is on its way');
    late();
    await settled();
    assert.equal(response(second), COMPLETE);
    for (const held of rig.device.heldReads.splice(0)) held.release();
    await settled();
    assert.deepEqual([...first.pdus(), ...second.pdus()], []);
    assert.equal(rig.volume.iscsi.stats.inflight, 0);
  });

  it('lets commands alone that come after it, also when they overtook it (RFC 7143 4.2.3.3)', async () => {
    const { first, second } = await createPair();
    const late = first.delay(() => first.taskManagement(ABORT_TASK_SET, { immediate: false }));
    const read = second.command(read10(0, 1), { read: 512 });
    await settled();
    assert.deepEqual(second.pdus(), []);
    late();
    await settled();
    assert.equal(response(first), COMPLETE);
    assert.equal(outcome(second.pdus(), read).status, 0);
  });

  it('waits for a bounded time, then drops what comes too late (RFC 7143 4.2.3.3)', async () => {
    for (const wanted of [ABORT_TASK_SET, CLEAR_TASK_SET, UNIT_RESET, WARM_RESET]) {
      const { rig, first, second } = await createPair();
      const late = first.delay(() => void first.command(write10(0, 1), { write: 512, data: pattern(512) }));
      second.taskManagement(wanted);
      await settled();
      assert.deepEqual(second.pdus(), []);
      rig.clock.advance(limits.iscsiTaskManagementMsMax);
      await settled();
      assert.equal(response(second), COMPLETE);
      late();
      await settled();
      assert.deepEqual(first.pdus(), []);
      assert.equal(writes(rig), 0);
      first.nopOut({ immediate: false });
      assert.equal(first.one().opcode, 0x20, 'the numbers go on');
    }
  });

  it('is rejected where too many functions wait (RFC 7143 11.6.1)', async () => {
    const { rig, first, second } = await createPair();
    first.delay(() => void first.command([0]));
    for (let count = 0; count < limits.iscsiTaskManagementMax; count++) second.taskManagement(ABORT_TASK_SET);
    assert.deepEqual(second.pdus(), []);
    second.taskManagement(ABORT_TASK_SET);
    assert.equal(response(second), 255);
    rig.clock.advance(limits.iscsiTaskManagementMsMax);
    await settled();
    assert.deepEqual(
      second.pdus().map(({ header }) => header[2]),
      new Array(limits.iscsiTaskManagementMax).fill(COMPLETE),
    );
    second.taskManagement(ABORT_TASK_SET);
    assert.equal(response(second), COMPLETE);
  });

  it('leaves a command alone that comes right behind it (RFC 7143 4.2.3.3)', async () => {
    for (const wanted of [CLEAR_TASK_SET, UNIT_RESET, WARM_RESET]) {
      const { first } = await createPair();
      let write = 0;
      const together = first.delay(() => {
        first.taskManagement(wanted);
        write = first.command(write10(0, 1), { write: 512 });
      });
      together();
      await settled();
      const pdus = first.pdus();
      const r2t = pdus.find(({ opcode }) => opcode === 0x31);
      if (r2t !== undefined) {
        first.dataOut(write, pattern(512), { offset: 0, ttt: r2t.header.readUInt32BE(20) });
        await settled();
        pdus.push(...first.pdus());
      }
      assert.equal(pdus.find(({ opcode }) => opcode === 0x22)?.header[2], COMPLETE);
      outcome(
        pdus.filter((pdu) => pdu !== r2t),
        write,
      );
    }
  });

  it('of a connection that dies meanwhile is forgotten with it', async () => {
    const { rig, first, second } = await createPair();
    rig.device.holdReads = true;
    const late = first.delay(() => void first.command(read10(0, 1), { read: 512 }));
    second.taskManagement(UNIT_RESET);
    second.stream.destroy();
    await settled();
    late();
    await settled();
    rig.clock.advance(limits.iscsiTaskManagementMsMax);
    rig.device.heldReads.splice(0)[0]!.release();
    await settled();
    assert.equal(first.one().header[3], 0, 'the read was not aborted');
  });

  it('resets the unit for every session, and every connection of it (RFC 7143 11.5.1)', async () => {
    const volume = new MemoryVolume(new MemoryDevice({ sizeBytes: 1024 * 1024 }), { shared: true });
    const rig = await createRig({ volume, device: volume.device });
    const { first, second } = await createPair({ rig });
    const other = rig.connect();
    other.isid = '800000000002';
    other.login();
    await other.ready();
    for (const each of [first, second]) each.command(write10(0, 8), { write: 4096, data: pattern(512) });
    for (const each of [first, second]) each.pdus();
    other.taskManagement(UNIT_RESET);
    await settled();
    assert.equal(response(other), COMPLETE);
    assert.equal(rig.device.partialWritesAbandoned, 2);
    assert.deepEqual((await second.run([0])).sense, [6, 0x29, 3]);
    assert.equal((await first.run([0])).status, 0, 'one nexus is told once');
  });

  it('ends every connection of every session by a cold reset (RFC 7143 11.5.1)', async () => {
    const { rig, first, second } = await createPair();
    second.taskManagement(COLD_RESET);
    await settled();
    assert.deepEqual([first.stream.destroyed, second.stream.destroyed], [true, true]);
    assert.equal(rig.target.connections.length, 0);
  });
});

/** Two connections of a session that has not asked for the volume yet, whose unit attention was taken. */
async function newcomers(rig: Rig): Promise<{ first: IscsiClient; second: IscsiClient }> {
  const first = rig.connect();
  first.login({ MaxConnections: '8' });
  const second = rig.connect();
  second.join(first, 1);
  await first.run([0]);
  return { first, second };
}

describe('task management of a session that does not hold the volume yet (RFC 7143 4.2.3.3)', () => {
  const write = (client: IscsiClient, lba: number): number =>
    client.command(write10(lba, 1), { write: 512, data: pattern(512) });
  /** Tags of commands that were answered, and what the functions were. */
  const answered = (client: IscsiClient): number[][] =>
    client.pdus().map(({ opcode, header }) => (opcode === 0x21 ? [header.readUInt32BE(16), header[3]!] : [header[2]!]));

  it('clears the task set of what came before, and of nothing behind it', async () => {
    const rig = await createRig();
    const { first, second } = await newcomers(rig);
    write(first, 1);
    write(second, 2);
    first.taskManagement(CLEAR_TASK_SET);
    const behind = [write(first, 3), write(second, 4)];
    await settled();
    assert.deepEqual(answered(first), [[COMPLETE], [behind[0]!, 0]]);
    assert.deepEqual(answered(second), [[behind[1]!, 0]]);
    assert.equal(rig.volume.iscsi.stats.inflight, 0);
  });

  it('resets the unit before what comes behind it, which is told so', async () => {
    for (const [wanted, ascq] of [
      [UNIT_RESET, 3],
      [WARM_RESET, 2],
    ] as const) {
      const rig = await createRig();
      const { first } = await newcomers(rig);
      write(first, 1);
      first.taskManagement(wanted);
      const behind = [write(first, 3), write(first, 4)];
      await settled();
      const pdus = first.pdus();
      assert.deepEqual([pdus.length, pdus[0]?.opcode, pdus[0]?.header[2]], [3, 0x22, COMPLETE]);
      assert.deepEqual(outcome(pdus.slice(1), behind[0]!).sense, [6, 0x29, ascq]);
      assert.equal(outcome(pdus.slice(1), behind[1]!).status, 0);
    }
  });

  it('keeps the order of several functions', async () => {
    const rig = await createRig();
    const { first } = await newcomers(rig);
    first.taskManagement(CLEAR_TASK_SET);
    write(first, 1);
    first.taskManagement(CLEAR_TASK_SET);
    const last = write(first, 2);
    await settled();
    assert.deepEqual(answered(first), [[COMPLETE], [COMPLETE], [last, 0]]);
  });

  it('refuses all that wait, in their order, when another one has the volume', async () => {
    const { rig } = await ready();
    const other = rig.connect();
    other.isid = '800000000002';
    other.login();
    await other.run([0]);
    const before = write(other, 1);
    other.taskManagement(CLEAR_TASK_SET);
    const behind = write(other, 2);
    await settled();
    assert.deepEqual(answered(other), [[before, 0x18], [AUTHORIZATION_FAILED], [behind, 0x18]]);
  });

  it('leaves nothing to another session’s function of what waits for the volume by then', async () => {
    const volume = new MemoryVolume(new MemoryDevice({ sizeBytes: 1024 * 1024 }), { shared: true });
    const rig = await createRig({ volume, device: volume.device });
    const { first } = await newcomers(rig);
    const holder = rig.connect();
    holder.isid = '800000000002';
    holder.login();
    await holder.ready();
    let open = (): void => undefined;
    volume.attachGate = new Promise((resolve) => (open = resolve));
    write(first, 1);
    first.taskManagement(CLEAR_TASK_SET);
    write(first, 2);
    holder.taskManagement(CLEAR_TASK_SET);
    open();
    await settled();
    assert.deepEqual([answered(holder), answered(first)], [[[COMPLETE]], [[COMPLETE]]]);
    assert.equal(writes(rig), 0);
  });
});

/** MODE SELECT(6) parameter list: header and caching page. */
function cachingPage(writeCache: boolean): Buffer {
  const list = Buffer.alloc(24);
  list.set([0x08, 0x12, writeCache ? 4 : 0], 4);
  return list;
}
