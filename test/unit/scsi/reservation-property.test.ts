/** Whatever initiators send, in whatever order: what must hold of reservations at every moment. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { VolumeReservations } from '../../../src/ports/volume-reservations.js';
import { LogicalUnit } from '../../../src/scsi/logical-unit.js';
import { need } from '../../../src/scsi/reservation-type.js';
import { restored } from '../../../src/scsi/reservations.js';
import { sense } from '../../../src/scsi/sense.js';
import { MemoryDevice, MemoryReservations } from '../../fake/memory-device.js';
import { action, moveList, outCdb, outList, transportId } from '../../fake/reserve-out.js';
import { ScsiHost } from '../../fake/scsi-task.js';

const ports = ['a', 'b', 'c'].map((letter) => `iqn.2026-11.test:${letter},i,0x80000000000${letter}`);

interface Rig {
  readonly unit: LogicalUnit;
  readonly volume: MemoryReservations;
  readonly hosts: ScsiHost[];
}

async function rig(): Promise<Rig> {
  const volume = new MemoryReservations();
  const device = new MemoryDevice({ sizeBytes: 4096, keepHistory: false });
  const unit = new LogicalUnit({ device, transportVersion: 0, reservations: volume satisfies VolumeReservations });
  const hosts = await Promise.all(ports.map((port) => new ScsiHost(unit, port).ready()));
  return { unit, volume, hosts };
}

/** Written from the standard once more, for one reservation at a time. */
function check({ unit, volume, hosts }: Rig): void {
  const { state } = unit.reservations;
  const { registrations, reservation } = state;
  for (const [, { key }] of registrations) assert.notEqual(key, 0n, 'key 0 is no key');
  if (reservation !== undefined) {
    const { holder, type } = reservation;
    assert.equal(holder === undefined, type.registrants === 'all');
    assert(holder === undefined ? registrations.size > 0 : registrations.has(holder), 'a reservation is somebody’s');
  }
  const legacy = unit.reservations.refusesPersistent;
  let withEverything = 0;
  for (const { nexus } of hosts) {
    const isRegistered = registrations.has(nexus.initiatorPort);
    const isFree = reservation === undefined || reservation.holder === nexus.initiatorPort;
    const shares = isRegistered && reservation?.type.registrants !== 'none';
    if (nexus.denied === 0) withEverything++;
    if (legacy) continue;
    assert.equal(nexus.denied === 0, isFree || shares);
    if (nexus.denied !== 0) assert.equal(nexus.denied & need.write, need.write, 'no type lets all write');
  }
  if (legacy) assert(withEverything <= 1, 'RESERVE(6) is of one');
  assert.equal(volume.unregistered.mayWrite, reservation === undefined && !legacy);
  const saved = restored(volume.saved);
  if (state.persistent) {
    assert.deepEqual([...saved.registrations], [...registrations]);
    assert.deepEqual(saved.reservation, reservation);
  } else {
    assert.equal(saved.registrations.size, 0, 'nothing comes back that was not to');
  }
}

describe('reservations', () => {
  const who = fc.nat(2);
  const key = fc.constantFrom(0n, 1n, 2n);
  const type = fc.constantFrom(0, 1, 3, 5, 6, 7, 8, 0x15);
  const known = fc.record({
    kind: fc.constant('known' as const),
    who,
    service: fc.constantFrom(...Object.values(action)),
    type,
    key,
    actionKey: key,
    flags: fc.constantFrom(0, 1, 4, 5, 8, 9),
    other: who,
  });
  const legacy = fc.record({ kind: fc.constant('legacy' as const), who, opcode: fc.constantFrom(0x16, 0x17) });
  const event = fc.record({ kind: fc.constant('event' as const), who, what: fc.constantFrom('reset', 'session') });
  const bytes = fc.record({
    kind: fc.constant('bytes' as const),
    who,
    cdb: fc.uint8Array({ minLength: 9, maxLength: 9 }),
    list: fc.uint8Array({ minLength: 24, maxLength: 96 }),
  });

  it('keep their invariants, and what is saved is what holds', async () => {
    const step = fc.oneof({ weight: 12, arbitrary: known }, legacy, event, { weight: 2, arbitrary: bytes });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
        const made = await rig();
        for (const each of steps) {
          const host = made.hosts[each.who]!;
          await host.ready();
          const before = made.unit.reservations.state;
          if (each.kind === 'known') {
            const { service, key: reservationKey, actionKey, flags } = each;
            const transportIds = transportId(ports[each.other]!);
            const fields = { key: reservationKey, actionKey, flags };
            const list =
              service === action.registerAndMove
                ? moveList({ ...fields, transportIds })
                : outList((flags & 8) === 0 ? fields : { ...fields, transportIds });
            const { status } = await host.run(outCdb(service, each.type, list.length), list);
            if (status !== 0) assert.equal(made.unit.reservations.state, before, 'what fails changes nothing');
          } else if (each.kind === 'legacy') {
            await host.run([each.opcode, 0, 0, 0, 0, 0]);
          } else if (each.kind === 'bytes') {
            const length = each.list.length;
            const cdb = [0x5f, each.cdb[0]! & 0x1f, each.cdb[1]!, 0, 0, 0, 0, 0, length, 0];
            await host.run(cdb, each.list);
          } else if (each.what === 'reset') {
            made.unit.reset(sense.logicalUnitReset);
          } else {
            made.unit.detach(host.nexus);
            made.hosts[each.who] = await new ScsiHost(made.unit, ports[each.who]).ready();
          }
          check(made);
        }
      }),
      { numRuns: 400 },
    );
  });
});
