/** Persistent reservations, rule by rule, and RESERVE(6): tests are named after sections of SPC-4 (r36) and SPC-2. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { limits } from '../../../src/base/limits.js';
import type { Command } from '../../../src/scsi/command.js';
import { commands } from '../../../src/scsi/command-table.js';
import { LogicalUnit } from '../../../src/scsi/logical-unit.js';
import type { Nexus } from '../../../src/scsi/nexus.js';
import { sense } from '../../../src/scsi/sense.js';
import { MemoryDevice, MemoryReservations } from '../../fake/memory-device.js';
import { action, flag, inCdb, moveList, outCdb, outList, transportId } from '../../fake/reserve-out.js';
import type { OutFields } from '../../fake/reserve-out.js';
import { ScsiHost } from '../../fake/scsi-task.js';
import type { Result } from '../../fake/scsi-task.js';

const CONFLICT = 0x18;
const port = (letter: string): string => `iqn.2026-11.test:${letter},i,0x80000000000${letter}`;
const [A, B, C] = [0xaaaa_0000_0000_0001n, 0xbbbb_0000_0000_0002n, 0xcccc_0000_0000_0003n];
const type = { write: 1, access: 3, writeOnly: 5, accessOnly: 6, writeAll: 7, accessAll: 8 } as const;
const everyType = Object.values(type);

class Initiator extends ScsiHost {
  /** The status in a word: 'good', 'conflict', or sense data. */
  async told(cdb: readonly number[], data?: Uint8Array): Promise<string> {
    return word(await this.run(cdb, data));
  }

  out(service: number, fields: OutFields, kind = 0): Promise<string> {
    const list = outList(fields);
    return this.told(outCdb(service, kind, list.length), list);
  }

  register(actionKey: bigint, key = 0n, flags = 0): Promise<string> {
    return this.out(action.register, { key, actionKey, flags });
  }

  async reads(): Promise<boolean> {
    return (await this.told([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0])) === 'good';
  }

  async writes(): Promise<boolean> {
    return (await this.told([0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0])) === 'good';
  }

  /** What is pending for it, oldest first. */
  async attentions(): Promise<string[]> {
    const all: string[] = [];
    for (;;) {
      const { sense: what } = await this.run([0]);
      if (what === undefined) return all;
      all.push(what);
    }
  }
}

function word({ status, sense: what }: Result): string {
  if (status === 0) return 'good';
  return status === CONFLICT ? 'conflict' : (what ?? `status ${status}`);
}

interface Rig {
  readonly device: MemoryDevice;
  readonly unit: LogicalUnit;
  readonly volume: MemoryReservations;
  readonly aborted: Nexus[];
  readonly a: Initiator;
  readonly b: Initiator;
  readonly c: Initiator;
  readonly initiator: (name: string) => Promise<Initiator>;
}

async function rig(volume = new MemoryReservations()): Promise<Rig> {
  const aborted: Nexus[] = [];
  const device = new MemoryDevice({ sizeBytes: 1024 * 1024 });
  const unit = new LogicalUnit({
    device,
    transportVersion: 0,
    reservations: volume,
    abort: (nexus) => void aborted.push(nexus),
  });
  const initiator = (name: string): Promise<Initiator> => new Initiator(unit, name).ready();
  const [a, b, c] = [await initiator(port('a')), await initiator(port('b')), await initiator(port('c'))];
  return { device, unit, volume, aborted, a, b, c, initiator };
}

/** A, B and C are registered, and A has the reservation. */
async function reserved(kind: number): Promise<Rig> {
  const made = await rig();
  assert.equal(await made.a.register(A), 'good');
  assert.equal(await made.b.register(B), 'good');
  assert.equal(await made.c.register(C), 'good');
  assert.equal(await made.a.out(action.reserve, { key: A }, kind), 'good');
  return made;
}

async function keys(by: Initiator): Promise<bigint[]> {
  const { data } = await by.run(inCdb(0));
  return Array.from({ length: data.readUInt32BE(4) / 8 }, (_, index) => data.readBigUInt64BE(8 + 8 * index));
}

const generation = async (by: Initiator): Promise<number> => (await by.run(inCdb(0))).data.readUInt32BE(0);

/** [key, type] of READ RESERVATION. */
async function reservation(by: Initiator): Promise<[bigint, number] | undefined> {
  const { data } = await by.run(inCdb(1));
  return data.length === 8 ? undefined : [data.readBigUInt64BE(8), data[21]!];
}

describe('SPC-4 5.13.7, registering', () => {
  it('takes a key of an initiator port, changes it, and takes it back', async () => {
    const { a, b } = await rig();
    assert.equal(await a.register(A), 'good');
    assert.equal(await b.register(A), 'good', 'two ports may have one key');
    assert.deepEqual(await keys(a), [A, A]);
    assert.equal(await a.register(C, A), 'good');
    assert.deepEqual(await keys(a), [C, A]);
    assert.equal(await a.register(0n, C), 'good');
    assert.deepEqual(await keys(a), [A]);
  });

  it('conflicts where the key is not the one that is registered', async () => {
    const { a } = await rig();
    assert.equal(await a.register(A, B), 'conflict', 'none is');
    assert.equal(await a.register(A), 'good');
    assert.equal(await a.register(B), 'conflict', 'another is');
    assert.equal(await a.register(0n), 'conflict');
    assert.deepEqual(await keys(a), [A]);
  });

  it('ignores the existing key where it is told to', async () => {
    const { a } = await rig();
    assert.equal(await a.out(action.registerAndIgnore, { key: C, actionKey: A }), 'good');
    assert.equal(await a.out(action.registerAndIgnore, { key: C, actionKey: B }), 'good');
    assert.deepEqual(await keys(a), [B]);
    assert.equal(await a.out(action.registerAndIgnore, { actionKey: 0n }), 'good');
    assert.deepEqual(await keys(a), []);
  });

  it('does nothing for who registers no key and has none, not even end persistence', async () => {
    const { a, b, volume } = await rig();
    await a.register(A, 0n, flag.aptpl);
    const before = await generation(a);
    assert.equal(await b.register(0n), 'good');
    assert.equal(await b.out(action.registerAndIgnore, { actionKey: 0n }), 'good');
    assert.equal(volume.saves.length, 1);
    assert.equal(await generation(a), before);
  });

  it('outlives the session, and holds for the port when it comes back', async () => {
    const { unit, a, b, initiator } = await reserved(type.writeOnly);
    unit.detach(a.nexus);
    assert.deepEqual(await keys(b), [A, B, C]);
    const again = await initiator(port('a'));
    assert.equal(await again.writes(), true);
    assert.equal(await again.out(action.release, { key: A }, type.writeOnly), 'good', 'it is the holder');
  });

  it('is of the port, not of the initiator: another ISID is another nexus', async () => {
    const { initiator } = await reserved(type.write);
    const other = await initiator('iqn.2026-11.test:a,i,0x80000000beef');
    assert.equal(await other.writes(), false);
    assert.equal(await other.out(action.release, { key: A }, type.write), 'conflict');
  });

  it('has room for so many ports, and says so', async () => {
    const { a, unit } = await rig();
    const ids = Array.from({ length: limits.registrationsPerVolumeMax - 1 }, (_, index) =>
      transportId(`iqn.x:${index},i,0x000000000000`),
    );
    assert.equal(
      await a.out(action.register, { actionKey: A, flags: flag.specIPt, transportIds: Buffer.concat(ids) }),
      'good',
    );
    const late = await new Initiator(unit, port('d')).ready();
    assert.equal(await late.register(A), '5/55/04');
    assert.equal((await keys(a)).length, limits.registrationsPerVolumeMax);
  });

  it('takes further ports by SPEC_I_PT: all of them, or none', async () => {
    const { a, b, c } = await rig();
    const spec = (ids: Uint8Array, key = 0n): Promise<string> =>
      a.out(action.register, { key, actionKey: A, flags: flag.specIPt, transportIds: ids });
    const unknown = transportId('iqn.2026-11.test:new,i,0x123456789abc');
    const notIscsi = Buffer.concat([Buffer.of(0x00, 0, 0, 20), Buffer.alloc(20)]);
    assert.equal(await spec(Buffer.concat([unknown, notIscsi])), `5/26/00@${28 + unknown.length}.7`);
    for (const odd of ['\u001b[2J', '\u009b2J', '\ufffd']) {
      const id = transportId(`iqn.2026-11.test:${odd},i,0x123456789abc`);
      assert.equal(await spec(id), '5/26/00@28.7', 'a name that a terminal would act on where it is shown');
    }
    assert.equal(await spec(unknown.subarray(0, 20)), '5/1a/00', 'truncated');
    assert.deepEqual(await keys(a), []);
    assert.equal(await spec(Buffer.concat([unknown, transportId(port('b'))])), 'good');
    assert.deepEqual(await keys(a), [A, A, A]);
    assert.equal(await b.register(B, A), 'good', 'b is registered');
    assert.equal(await spec(transportId(port('c')), A), '5/26/00@20.3', 'a is registered already');
    await a.register(0n, A);
    assert.equal(await spec(transportId(port('b'))), '5/26/00@24.7', 'b keeps its key');
    assert.equal(
      await c.out(action.registerAndIgnore, { actionKey: C, flags: flag.specIPt, transportIds: unknown }),
      '5/26/00@20.3',
    );
  });

  it('takes a TransportID without ISID for the ports by which that initiator is there', async () => {
    const { a, initiator } = await rig();
    await initiator('iqn.2026-11.test:b,i,0x80000000beef');
    const spec = (name: string): Promise<string> =>
      a.out(action.register, { actionKey: A, flags: flag.specIPt, transportIds: transportId(name) });
    assert.equal(await spec('iqn.2026-11.test:nobody'), '5/26/00@28.7');
    assert.equal(await spec('iqn.2026-11.test:b'), 'good');
    assert.deepEqual(await keys(a), [A, A, A]);
  });
});

describe('SPC-4 5.13.9, reserving', () => {
  it('is for who is registered, with the key', async () => {
    const { a } = await rig();
    assert.equal(await a.out(action.reserve, { key: 0n }, type.write), 'conflict');
    await a.register(A);
    assert.equal(await a.out(action.reserve, { key: B }, type.write), 'conflict');
    for (const wrong of [0, 2, 4, 9, 15]) {
      assert.equal(await a.out(action.reserve, { key: A }, wrong), '5/24/00@2.3', `type ${wrong}`);
    }
    assert.equal(await a.out(action.reserve, { key: A }, 0x11), '5/24/00@2.7', 'a scope other than the unit');
    assert.equal(await reservation(a), undefined);
  });

  it('gives it to one, who may ask again for the same', async () => {
    for (const kind of everyType) {
      const { a, b } = await reserved(kind);
      const ofAll = kind === type.writeAll || kind === type.accessAll;
      assert.deepEqual(await reservation(b), [ofAll ? 0n : A, kind]);
      assert.equal(await a.out(action.reserve, { key: A }, kind), 'good');
      assert.equal(await b.out(action.reserve, { key: B }, kind), ofAll ? 'good' : 'conflict', `type ${kind}`);
      const other = kind === type.write ? type.access : type.write;
      assert.equal(await a.out(action.reserve, { key: A }, other), 'conflict', 'another type');
      assert.deepEqual(await reservation(b), [ofAll ? 0n : A, kind]);
    }
  });
});

describe('SPC-4 table 65 and SBC-3 table 13, conflicts', () => {
  const sharing: readonly [number, boolean, boolean, boolean, boolean][] = [
    // type, registered: reads, writes; not registered: reads, writes
    [type.write, true, false, true, false],
    [type.access, false, false, false, false],
    [type.writeOnly, true, true, true, false],
    [type.accessOnly, true, true, false, false],
    [type.writeAll, true, true, true, false],
    [type.accessAll, true, true, false, false],
  ];

  it('leave of each type to each initiator, and to NBD, what the standard says', async () => {
    for (const [kind, read, write, strangerReads, strangerWrites] of sharing) {
      const { a, b, initiator, volume } = await reserved(kind);
      const d = await initiator(port('d'));
      assert.deepEqual([await a.reads(), await a.writes()], [true, true], `type ${kind}, holder`);
      assert.deepEqual([await b.reads(), await b.writes()], [read, write], `type ${kind}, registered`);
      assert.deepEqual([await d.reads(), await d.writes()], [strangerReads, strangerWrites], `type ${kind}, not`);
      assert.deepEqual(volume.unregistered, { mayRead: strangerReads, mayWrite: strangerWrites });
      await a.out(action.clear, { key: A });
      assert.deepEqual(volume.unregistered, { mayRead: true, mayWrite: true });
      await b.attentions();
      assert.equal(await b.writes(), true);
    }
  });

  /** What each command needs: a new one is not in this list, and fails the test until somebody has looked at the tables. */
  const expected: Readonly<Record<string, readonly string[]>> = {
    nothing: [
      ...['REQUEST SENSE', 'INQUIRY', 'REPORT LUNS', 'READ CAPACITY(10)', 'READ CAPACITY(16)', 'LOG SENSE'],
      'REPORT TARGET PORT GROUPS',
    ],
    unit: ['TEST UNIT READY'],
    read: [
      ...['MODE SENSE(6)', 'MODE SENSE(10)', 'READ(6)', 'READ(10)', 'READ(12)', 'READ(16)', 'GET LBA STATUS'],
      ...['PRE-FETCH(10)', 'PRE-FETCH(16)', 'VERIFY(10)', 'VERIFY(12)', 'VERIFY(16)'],
      ...['READ DEFECT DATA(10)', 'READ DEFECT DATA(12)'],
      ...['REPORT SUPPORTED OPERATION CODES', 'REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS'],
    ],
    write: [
      ...['MODE SELECT(6)', 'MODE SELECT(10)', 'START STOP UNIT', 'PREVENT ALLOW MEDIUM REMOVAL'],
      'SEND DIAGNOSTIC',
      ...['WRITE(6)', 'WRITE(10)', 'WRITE(12)', 'WRITE(16)', 'WRITE ATOMIC(16)', 'COMPARE AND WRITE', 'ORWRITE(16)'],
      ...['WRITE AND VERIFY(10)', 'WRITE AND VERIFY(12)', 'WRITE AND VERIFY(16)', 'UNMAP'],
      ...['EXTENDED COPY(LID1)', 'RECEIVE COPY RESULTS, COPY STATUS', 'RECEIVE COPY RESULTS, OPERATING PARAMETERS'],
      'RECEIVE COPY RESULTS, FAILED SEGMENT DETAILS',
      ...['SANITIZE, OVERWRITE', 'SANITIZE, BLOCK ERASE', 'SANITIZE, EXIT FAILURE MODE'],
      ...['SYNCHRONIZE CACHE(10)', 'SYNCHRONIZE CACHE(16)', 'WRITE SAME(10)', 'WRITE SAME(16)'],
    ],
  };

  it('name for every command what it needs', async () => {
    const { a, initiator } = await reserved(type.write);
    const d = await initiator(port('d'));
    const isRefused = async ({ name, usage, serviceAction = 0 }: Command): Promise<boolean> => {
      const cdb = Array.from(usage, (_, at) => (at === 0 ? usage[0]! : at === 1 ? serviceAction : 0));
      if (name.startsWith('PREVENT')) cdb[4] = 1;
      return (await d.told(cdb)) === 'conflict';
    };
    const rows = commands.filter(
      ({ name }) => (!name.startsWith('PERSISTENT RESERVE') && !name.endsWith('E(6)')) || name === 'WRITE(6)',
    );
    const needOf = (name: string): string | undefined =>
      Object.keys(expected).find((each) => expected[each]?.includes(name));
    for (const row of rows) {
      const needed = needOf(row.name);
      assert(needed !== undefined, `${row.name} has no place in this test`);
      assert.equal(await isRefused(row), needed === 'write', `${row.name}, write exclusive`);
    }
    await a.out(action.preempt, { key: A, actionKey: A }, type.access);
    for (const row of rows) {
      const needed = needOf(row.name);
      assert.equal(await isRefused(row), needed === 'write' || needed === 'read', `${row.name}, exclusive access`);
    }
    const other = await rig();
    await other.a.told([0x16, 0, 0, 0, 0, 0]);
    for (const row of rows) {
      const cdb = Array.from(row.usage, (_, at) =>
        at === 0 ? row.usage[0]! : at === 1 ? (row.serviceAction ?? 0) : 0,
      );
      if (row.name.startsWith('PREVENT')) cdb[4] = 1;
      assert.equal((await other.b.told(cdb)) === 'conflict', needOf(row.name) !== 'nothing', `${row.name}, RESERVE(6)`);
    }
  });

  it('let everybody start the unit and allow removal, not stop it or prevent', async () => {
    const { initiator } = await reserved(type.access);
    const d = await initiator(port('d'));
    assert.equal(await d.told([0x1b, 0, 0, 0, 0x01, 0]), 'good');
    assert.equal(await d.told([0x1b, 0, 0, 0, 0x00, 0]), 'conflict');
    assert.equal(await d.told([0x1b, 0, 0, 0, 0x11, 0]), 'conflict', 'a power condition');
    assert.equal(await d.told([0x1e, 0, 0, 0, 0, 0]), 'good');
    assert.equal(await d.told([0x1e, 0, 0, 0, 1, 0]), 'conflict');
  });

  it('apply to a parameter list that was on its way when the unit was reserved (5.13.1)', async () => {
    const { a, b, device } = await rig();
    await a.register(A);
    const list = Buffer.alloc(24);
    list.set([0, 22, 0, 16], 0);
    list.writeUInt32BE(8, 16);
    const late = b.run([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], list, async () => {
      assert.equal(await a.out(action.reserve, { key: A }, type.write), 'good');
    });
    assert.equal(word(await late), 'conflict');
    assert.deepEqual(device.history, []);
  });
});

describe('SPC-4 5.13.11.2, releasing', () => {
  it('is for the holder, by its type; of another it does nothing', async () => {
    const { a, b } = await reserved(type.write);
    assert.equal(await b.out(action.release, { key: A }, type.write), 'conflict', 'the key of another');
    assert.equal(await b.out(action.release, { key: B }, type.write), 'good');
    assert.equal(await a.out(action.release, { key: A }, type.access), '5/26/04');
    assert.equal(await a.out(action.release, { key: A }, 0x11), '5/26/04', 'another scope');
    assert.deepEqual(await reservation(a), [A, type.write]);
    assert.equal(await a.out(action.release, { key: A }, type.write), 'good');
    assert.equal(await reservation(a), undefined);
    assert.equal(await a.out(action.release, { key: A }, type.write), 'good', 'there is none');
  });

  it('tells who shared it, and them alone', async () => {
    for (const kind of everyType) {
      const { a, b, c } = await reserved(kind);
      const shared = kind > type.access;
      const by = kind >= type.writeAll ? b : a;
      assert.equal(await by.out(action.release, { key: by === a ? A : B }, kind), 'good');
      const other = by === a ? b : a;
      assert.deepEqual(await other.attentions(), shared ? ['6/2a/04'] : [], `type ${kind}`);
      assert.deepEqual(await c.attentions(), shared ? ['6/2a/04'] : []);
      assert.deepEqual(await by.attentions(), []);
    }
  });

  it('5.13.11.2.3: goes with the registration of the holder, or of the last of all', async () => {
    for (const kind of everyType) {
      const { a, b, c } = await reserved(kind);
      const ofAll = kind >= type.writeAll;
      await a.register(0n, A);
      assert.deepEqual(await reservation(a), ofAll ? [0n, kind] : undefined, `type ${kind}`);
      assert.deepEqual(await b.attentions(), kind === type.writeOnly || kind === type.accessOnly ? ['6/2a/04'] : []);
      if (!ofAll) continue;
      await b.register(0n, B);
      assert.deepEqual(await reservation(a), [0n, kind]);
      await c.register(0n, C);
      assert.equal(await reservation(a), undefined);
    }
  });

  it('stays when another than the holder takes its registration back', async () => {
    const { a, b } = await reserved(type.accessOnly);
    await b.register(0n, B);
    assert.deepEqual(await reservation(a), [A, type.accessOnly]);
    assert.equal(await b.reads(), false);
  });
});

describe('SPC-4 5.13.11.6, clearing', () => {
  it('is for who is registered; takes everything, and tells the others', async () => {
    const { a, b, c, initiator } = await reserved(type.access);
    const d = await initiator(port('d'));
    assert.equal(await d.out(action.clear, {}), 'conflict');
    assert.equal(await b.out(action.clear, { key: A }), 'conflict');
    assert.equal(await b.out(action.clear, { key: B }), 'good', 'who does not hold it may');
    assert.deepEqual(await keys(b), []);
    assert.equal(await reservation(b), undefined);
    assert.deepEqual(await a.attentions(), ['6/2a/03']);
    assert.deepEqual(await c.attentions(), ['6/2a/03']);
    assert.deepEqual(await b.attentions(), []);
    assert.deepEqual(await d.attentions(), []);
  });
});

describe('SPC-4 5.13.11.4, preempting', () => {
  it('5.13.11.4.3: the key of the holder gives the reservation to who preempts', async () => {
    const { a, b, c, aborted } = await reserved(type.writeOnly);
    assert.equal(await b.out(action.preempt, { key: B, actionKey: A }, type.access), 'good');
    assert.deepEqual(await keys(b), [B, C]);
    assert.deepEqual(await reservation(b), [B, type.access]);
    assert.deepEqual(await a.attentions(), ['6/2a/05'], 'its registration is gone');
    assert.deepEqual(await c.attentions(), ['6/2a/04'], 'the type changed for who stays');
    assert.deepEqual(await b.attentions(), []);
    assert.deepEqual([await a.writes(), await b.writes(), await c.writes()], [false, true, false]);
    assert.deepEqual(aborted, []);
  });

  it('5.13.11.4.3: the same type again is nothing new for who stays', async () => {
    const { b, c } = await reserved(type.writeOnly);
    await b.out(action.preempt, { key: B, actionKey: A }, type.writeOnly);
    assert.deepEqual(await c.attentions(), []);
  });

  it('5.13.11.4.3: refuses a type or scope that there is not, and changes nothing', async () => {
    const { b } = await reserved(type.write);
    assert.equal(await b.out(action.preempt, { key: B, actionKey: A }, 2), '5/24/00@2.3');
    assert.equal(await b.out(action.preempt, { key: B, actionKey: A }, 0x21), '5/24/00@2.7');
    assert.deepEqual(await keys(b), [A, B, C]);
    assert.deepEqual(await reservation(b), [A, type.write]);
  });

  it('5.13.11.4.4: another key takes registrations alone, whatever the type says', async () => {
    const { a, b, c } = await reserved(type.writeOnly);
    assert.equal(await b.out(action.preempt, { key: B, actionKey: C }, 15), 'good');
    assert.deepEqual(await keys(a), [A, B]);
    assert.deepEqual(await reservation(a), [A, type.writeOnly]);
    assert.deepEqual(await c.attentions(), ['6/2a/05']);
    assert.deepEqual([...(await a.attentions()), ...(await b.attentions())], []);
    assert.equal(await c.writes(), false);
  });

  it('5.13.11.4.4: without a reservation as well, and of every port with the key', async () => {
    const { a, b, c } = await rig();
    await a.register(A);
    await b.register(B);
    await c.register(B);
    assert.equal(await a.out(action.preempt, { key: A, actionKey: B }), 'good');
    assert.deepEqual(await keys(a), [A]);
    assert.deepEqual([await b.attentions(), await c.attentions()], [['6/2a/05'], ['6/2a/05']]);
  });

  it('conflicts for a key that nobody has, and for who is not registered', async () => {
    const { a, b, initiator } = await reserved(type.write);
    const d = await initiator(port('d'));
    assert.equal(await b.out(action.preempt, { key: B, actionKey: 7n }, type.write), 'conflict');
    assert.equal(await d.out(action.preempt, { key: 0n, actionKey: A }, type.write), 'conflict');
    assert.equal(await b.out(action.preempt, { key: A, actionKey: A }, type.write), 'conflict');
    assert.deepEqual(await keys(a), [A, B, C]);
  });

  it('with key 0: takes a reservation of all registrants from all the others, and is an error else', async () => {
    const { a, b, c } = await reserved(type.accessAll);
    assert.equal(await b.out(action.preempt, { key: B, actionKey: 0n }, type.write), 'good');
    assert.deepEqual(await keys(b), [B]);
    assert.deepEqual(await reservation(b), [B, type.write]);
    assert.deepEqual([await a.attentions(), await c.attentions()], [['6/2a/05'], ['6/2a/05']]);
    assert.equal(await b.out(action.preempt, { key: B, actionKey: 0n }, type.write), '5/26/00@8.7');
  });

  it('with a key, of a reservation of all registrants: takes registrations, and the last takes it along', async () => {
    const { a, b, c } = await reserved(type.writeAll);
    assert.equal(await b.out(action.preempt, { key: B, actionKey: A }, type.access), 'good');
    assert.deepEqual(await a.attentions(), ['6/2a/05']);
    assert.deepEqual(await reservation(b), [0n, type.writeAll]);
    await b.register(0n, B);
    assert.equal(await c.out(action.preempt, { key: C, actionKey: C }), 'good', 'its own');
    assert.deepEqual(await keys(a), []);
    assert.equal(await reservation(a), undefined);
    assert.deepEqual(await c.attentions(), []);
  });

  it('by the holder with its own key: changes the type, and keeps its registration', async () => {
    const { a, b } = await reserved(type.writeOnly);
    assert.equal(await a.out(action.preempt, { key: A, actionKey: A }, type.accessOnly), 'good');
    assert.deepEqual(await keys(a), [A, B, C]);
    assert.deepEqual(await reservation(a), [A, type.accessOnly]);
    assert.deepEqual(await b.attentions(), ['6/2a/04']);
  });

  it('5.13.11.5: PREEMPT AND ABORT aborts what those had under way whose key was named, and nobody else', async () => {
    const { a, b, aborted } = await reserved(type.writeOnly);
    assert.equal(await b.out(action.preemptAndAbort, { key: B, actionKey: 7n }, type.write), 'conflict');
    assert.deepEqual(aborted, []);
    assert.equal(await b.out(action.preemptAndAbort, { key: B, actionKey: A }, type.writeOnly), 'good');
    assert.deepEqual(aborted, [a.nexus]);
    assert.equal(await b.out(action.preemptAndAbort, { key: B, actionKey: C }), 'good');
    assert.equal(aborted.length, 2);
  });

  it('5.13.11.5: with key 0 aborts what all the others had', async () => {
    const { a, b, c, aborted } = await reserved(type.writeAll);
    await b.out(action.preemptAndAbort, { key: B }, type.write);
    assert.deepEqual(new Set(aborted), new Set([a.nexus, c.nexus]));
  });
});

describe('SPC-4 5.13.8, registering and moving', () => {
  const move = (by: Initiator, to: string, fields: OutFields & { relativeTargetPort?: number }): Promise<string> => {
    const list = moveList({ ...fields, transportIds: transportId(to) });
    return by.told(outCdb(action.registerAndMove, 0, list.length), list);
  };

  it('gives registration and reservation to another port, and keeps or takes one’s own', async () => {
    for (const flags of [0, flag.unreg]) {
      const { a, b, initiator } = await reserved(type.accessOnly);
      assert.equal(await move(a, port('d'), { key: A, actionKey: 0xddn, flags }), 'good');
      assert.deepEqual(await keys(b), flags === 0 ? [A, B, C, 0xddn] : [B, C, 0xddn]);
      assert.deepEqual(await reservation(b), [0xddn, type.accessOnly]);
      assert.deepEqual(await b.attentions(), []);
      assert.equal(await a.reads(), flags === 0);
      const d = await initiator(port('d'));
      assert.equal(await d.out(action.release, { key: 0xddn }, type.accessOnly), 'good');
    }
  });

  it('changes the key of a port that is registered', async () => {
    const { a, b } = await reserved(type.write);
    assert.equal(await move(a, port('b'), { key: A, actionKey: 0xddn }), 'good');
    assert.deepEqual(await keys(a), [A, 0xddn, C]);
    assert.deepEqual([await a.writes(), await b.writes()], [false, true]);
  });

  it('is refused to who does not hold it, for no reservation, no key, oneself, and what is unknown', async () => {
    const { a, b } = await reserved(type.write);
    assert.equal(await move(b, port('d'), { key: B, actionKey: 1n }), 'conflict');
    assert.equal(await move(a, port('d'), { key: B, actionKey: 1n }), 'conflict');
    assert.equal(await move(a, port('d'), { key: A, actionKey: 0n }), '5/26/00@8.7');
    assert.equal(await move(a, port('a'), { key: A, actionKey: 1n }), '5/26/00@24.7');
    assert.equal(await move(a, port('d'), { key: A, actionKey: 1n, relativeTargetPort: 2 }), '5/26/00@18.7');
    assert.equal(await move(a, 'iqn.2026-11.test:nobody', { key: A, actionKey: 1n }), '5/26/00@24.7');
    assert.equal(await move(a, 'iqn.2026-11.test:c', { key: A, actionKey: 1n }), 'good', 'the one port that it has');
    assert.deepEqual(await reservation(a), [1n, type.write]);
    const { a: all } = await reserved(type.writeAll);
    assert.equal(await move(all, port('d'), { key: A, actionKey: 1n }), 'conflict', 'nobody holds it alone');
    const { a: none } = await rig();
    await none.register(A);
    assert.equal(await move(none, port('d'), { key: A, actionKey: 1n }), '5/24/00@1.4');
  });
});

describe('SPC-4 6.16, the parameter list', () => {
  it('has 24 bytes but where TransportIDs are, and comes whole', async () => {
    const { a } = await rig();
    const list = outList({ actionKey: A });
    assert.equal(await a.told(outCdb(action.register, 0, 23), list.subarray(0, 23)), '5/1a/00');
    assert.equal(await a.told(outCdb(action.register, 0, 28), Buffer.concat([list, Buffer.alloc(4)])), '5/1a/00');
    assert.equal(await a.told(outCdb(action.register, 0, 24), list.subarray(0, 20)), '5/1a/00', 'less was sent');
    assert.equal(await a.told([0x5f, 0, 0, 0, 0, 0xff, 0, 0, 24, 0], list), '5/24/00@5.7', 'far too much');
    assert.equal(await a.told(outCdb(8, 0, 24), list), '5/24/00@1.4', 'REPLACE LOST RESERVATION');
    assert.equal(await a.told(outCdb(action.register, 0, 24), list), 'good');
  });
});

describe('SPC-4 6.15, PERSISTENT RESERVE IN', () => {
  it('6.15.2: says how much there would be, whatever the allocation length', async () => {
    const { a } = await reserved(type.write);
    for (const allocationLength of [0, 4, 8, 12]) {
      const { data, status } = await a.run(inCdb(0, allocationLength));
      assert.deepEqual([status, data.length], [0, allocationLength]);
      if (allocationLength >= 8) assert.equal(data.readUInt32BE(4), 24);
    }
  });

  it('6.15.2: counts in PRGENERATION what changes registrations, when it succeeds', async () => {
    const { a, b } = await rig();
    assert.equal(await generation(a), 0);
    assert.equal(await a.register(A), 'good');
    assert.equal(await b.register(B), 'good');
    assert.equal(await generation(a), 2);
    const before = await generation(a);
    assert.equal(await b.register(A), 'conflict');
    assert.equal(await a.out(action.reserve, { key: A }, type.write), 'good');
    assert.equal(await a.out(action.release, { key: A }, type.write), 'good');
    assert.equal(await generation(a), before, 'RESERVE, RELEASE and what fails');
    for (const service of [action.registerAndIgnore, action.preempt, action.preemptAndAbort]) {
      const was = await generation(a);
      await b.attentions();
      assert.equal(await b.out(action.registerAndIgnore, { actionKey: B }), 'good');
      assert.equal(await a.out(service, { key: A, actionKey: service === action.registerAndIgnore ? A : B }), 'good');
      assert.equal(await generation(a), was + 2);
    }
    const was = await generation(a);
    assert.equal(await a.out(action.clear, { key: A }), 'good');
    assert.equal(await generation(a), was + 1);
  });

  it('6.15.4: says what it can, and whether it persists', async () => {
    const { a } = await rig();
    assert.equal((await a.run(inCdb(2))).data.toString('hex'), '00081d80ea010000');
    await a.register(A, 0n, flag.aptpl);
    assert.equal((await a.run(inCdb(2))).data.toString('hex'), '00081d81ea010000');
    const forgetful = await new Initiator(
      new LogicalUnit({ device: new MemoryDevice({ sizeBytes: 4096 }), transportVersion: 0 }),
    ).ready();
    assert.equal((await forgetful.run(inCdb(2))).data.toString('hex'), '00081c80ea010000');
    assert.equal(await forgetful.register(A, 0n, flag.aptpl), '5/26/00@20.0');
  });

  it('6.15.5: shows the full status of each registration', async () => {
    const { a, b } = await rig();
    await a.register(A);
    await b.register(B, 0n, flag.allTgPt);
    await a.out(action.reserve, { key: A }, type.accessOnly);
    const { data } = await b.run(inCdb(3));
    const id = transportId(port('a'));
    assert.equal(data.readUInt32BE(4), 2 * (24 + id.length));
    const first = data.subarray(8, 8 + 24 + id.length);
    assert.equal(first.subarray(0, 24).toString('hex'), `aaaa00000000000100000000010600000000000100000028`);
    assert.deepEqual(first.subarray(24), id);
    const second = data.subarray(8 + 24 + id.length);
    assert.equal(second.subarray(0, 24).toString('hex'), `bbbb00000000000200000000020000000000000000000028`);
    assert.deepEqual(second.subarray(24), transportId(port('b')));
  });

  it('refuses service actions that there are not', async () => {
    const { a } = await rig();
    for (let service = 4; service < 0x20; service++) assert.equal(await a.told(inCdb(service)), '5/24/00@1.4');
  });
});

describe('SPC-4 5.13.5, preserving through a loss of power', () => {
  it('saves every change before its status, once APTPL was asked for', async () => {
    const { a, b, volume } = await rig();
    await a.register(A);
    assert.equal(volume.saved, undefined);
    await b.register(B, 0n, flag.aptpl | flag.allTgPt);
    const registrations = [
      { port: port('a'), key: 'aaaa000000000001', allTargetPorts: false },
      { port: port('b'), key: 'bbbb000000000002', allTargetPorts: true },
    ];
    assert.deepEqual(volume.saves, [{ registrations, reservation: undefined }]);
    await a.out(action.reserve, { key: A }, type.access);
    assert.deepEqual(volume.saves[1], { registrations, reservation: { type: type.access, holder: port('a') } });
    await a.out(action.reserve, { key: A }, type.access);
    assert.equal(volume.saves.length, 2, 'nothing new');
    await a.out(action.release, { key: A }, type.access);
    assert.deepEqual(volume.saves[2], { registrations, reservation: undefined });
    await b.out(action.preempt, { key: B, actionKey: A });
    assert.deepEqual(volume.saves[3], { registrations: registrations.slice(1), reservation: undefined });
    await b.register(C, B);
    assert.deepEqual(
      volume.saves[4],
      { registrations: [], reservation: undefined },
      'APTPL of the last REGISTER counts',
    );
  });

  it('has everything again after a power on, but for PRGENERATION', async () => {
    for (const kind of everyType) {
      const volume = new MemoryReservations();
      const before = await rig(volume);
      await before.a.register(A, 0n, flag.aptpl);
      await before.b.register(B, 0n, flag.aptpl);
      await before.a.out(action.reserve, { key: A }, kind);
      const after = await rig(new MemoryReservations(volume.saved));
      assert.deepEqual(await keys(after.a), [A, B]);
      assert.deepEqual(await reservation(after.a), [kind >= type.writeAll ? 0n : A, kind]);
      assert.equal(await generation(after.a), 0);
      assert.equal((await after.a.run(inCdb(2))).data[3], 0x81);
      assert.deepEqual([await after.a.writes(), await after.c.writes()], [true, false]);
      assert.equal(after.volume.unregistered.mayWrite, false);
      assert.equal(await after.a.out(action.release, { key: A }, kind), 'good');
      assert.deepEqual(after.volume.saves.at(-1)?.reservation, undefined);
    }
  });

  it('holds the old state, and further changes back, until the new one is saved', async () => {
    const { a, b, c, volume } = await rig();
    await a.register(A, 0n, flag.aptpl);
    await b.register(B, 0n, flag.aptpl);
    volume.holdSaves = true;
    const reserves = a.out(action.reserve, { key: A }, type.access);
    const second = b.out(action.reserve, { key: B }, type.access);
    const legacy = c.told([0x16, 0, 0, 0, 0, 0]);
    assert.equal(await reservation(c), undefined);
    assert.deepEqual([await c.writes(), volume.unregistered.mayRead], [true, true]);
    volume.holdSaves = false;
    volume.heldSaves[0]?.release();
    assert.deepEqual(await Promise.all([reserves, second, legacy]), ['good', 'conflict', 'conflict']);
    assert.deepEqual([await c.writes(), volume.unregistered.mayRead], [false, false]);
  });

  it('changes nothing when it cannot be saved', async () => {
    const { a, b, volume } = await rig();
    await a.register(A, 0n, flag.aptpl);
    volume.holdSaves = true;
    const reserves = a.out(action.reserve, { key: A }, type.access);
    assert.equal(await reservation(b), undefined);
    volume.heldSaves[0]?.release(new GatewayError('disk-full', 'the disk is full'));
    assert.equal(await reserves, '7/27/07');
    volume.holdSaves = false;
    assert.equal(await reservation(a), undefined);
    assert.equal(await b.writes(), true);
    assert.equal(await a.out(action.reserve, { key: A }, type.access), 'good', 'and goes on');
    assert.equal(volume.saves.at(-1)?.reservation?.type, type.access);
  });

  it('forgets without APTPL', async () => {
    const { volume } = await reserved(type.access);
    assert.equal(volume.saved, undefined);
  });
});

describe('SPC-2 5.5.1, RESERVE(6) and RELEASE(6)', () => {
  const reserve6 = [0x16, 0, 0, 0, 0, 0];
  const release6 = [0x17, 0, 0, 0, 0, 0];

  it('leave another what learns about the unit, and nothing else', async () => {
    const { a, b, volume } = await rig();
    assert.equal(await a.told(reserve6), 'good');
    assert.equal(await a.told(reserve6), 'good', 'again');
    assert.deepEqual([await a.reads(), await a.writes()], [true, true]);
    assert.equal(await b.told(reserve6), 'conflict');
    assert.deepEqual([await b.reads(), await b.writes()], [false, false]);
    for (const refused of [[0], [0x1a, 0, 8, 0, 255, 0], [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]]) {
      assert.equal(await b.told(refused), 'conflict');
    }
    for (const served of [
      [0x12, 0, 0, 0, 96, 0],
      [0x03, 0, 0, 0, 18, 0],
      [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
      [0xa0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0],
    ])
      assert.equal(await b.told(served), 'good');
    assert.deepEqual(volume.unregistered, { mayRead: false, mayWrite: false });
    assert.equal(await b.told(release6), 'good', 'no error');
    assert.equal(await b.writes(), false, 'nor anything else');
    assert.equal(await a.told(release6), 'good');
    assert.deepEqual([await b.writes(), volume.unregistered.mayWrite], [true, true]);
    assert.equal(await a.told([0x16, 0x10, 0, 0, 0, 0]), '5/24/00@1.4', 'third party');
  });

  it('end with the session, with a reset, and with a power on', async () => {
    const { a, b, unit } = await rig();
    await a.told(reserve6);
    unit.reset(sense.logicalUnitReset);
    await b.attentions();
    assert.equal(await b.told(reserve6), 'good');
    unit.detach(b.nexus);
    await a.attentions();
    assert.equal(await a.told(reserve6), 'good');
    assert.equal(await (await rig()).b.told(reserve6), 'good');
  });

  it('refuse PERSISTENT RESERVE IN and OUT to everybody', async () => {
    const { a, b } = await rig();
    await a.told(reserve6);
    for (const by of [a, b]) {
      for (let service = 0; service < 4; service++) assert.equal(await by.told(inCdb(service)), 'conflict');
      for (const service of Object.values(action)) assert.equal(await by.out(service, { actionKey: A }), 'conflict');
    }
  });

  it('conflict where somebody is registered', async () => {
    const { a, b } = await rig();
    await a.register(A);
    for (const cdb of [reserve6, release6]) for (const by of [a, b]) assert.equal(await by.told(cdb), 'conflict');
    assert.equal(await b.writes(), true);
  });

  it('SPC-4 5.13.3, CRH: do nothing, without an error, for who may use what is reserved', async () => {
    for (const kind of everyType) {
      const { a, b, c, initiator } = await reserved(kind);
      const d = await initiator(port('d'));
      for (const cdb of [reserve6, release6]) {
        assert.equal(await a.told(cdb), 'good');
        assert.equal(await b.told(cdb), kind > type.access ? 'good' : 'conflict', `type ${kind}`);
        assert.equal(await d.told(cdb), 'conflict');
      }
      assert.equal((await reservation(a))?.[1], kind);
      assert.equal(await c.writes(), kind > type.access, 'nothing was reserved by it');
    }
  });
});

describe('what the volume is told', () => {
  it('is who has it reserved, and how many are registered, whenever that changes', async () => {
    const { a, b, c, volume } = await reserved(type.writeOnly);
    await c.out(action.register, { key: C });
    await b.out(action.preempt, { key: B, actionKey: A }, type.writeAll);
    await b.out(action.release, { key: B }, type.writeAll);
    await b.out(action.clear, { key: B });
    await a.attentions();
    await a.told([0x16, 0, 0, 0, 0, 0]);
    await a.told([0x17, 0, 0, 0, 0, 0]);
    assert.deepEqual(volume.told, [
      `write exclusive, registrants only by ${port('a')}, 3`,
      `write exclusive, registrants only by ${port('a')}, 2`,
      'write exclusive, all registrants by all, 1',
      'nobody',
      `RESERVE(6) by ${port('a')}, 0`,
      'nobody',
    ]);
  });
});

describe('resets', () => {
  it('leave registrations and the persistent reservation (SPC-4 5.13.1)', async () => {
    const { a, b, unit } = await reserved(type.access);
    unit.reset(sense.targetReset);
    await a.attentions();
    await b.attentions();
    assert.deepEqual(await keys(a), [A, B, C]);
    assert.deepEqual(await reservation(a), [A, type.access]);
    assert.equal(await b.reads(), false);
  });
});
