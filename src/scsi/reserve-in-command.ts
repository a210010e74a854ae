/** PERSISTENT RESERVE IN (SPC-4 6.15): what is registered, what is reserved, and what the unit can do. */
import { readU16, writeU16, writeU32 } from './big-endian.js';
import type { UnitContext } from './command.js';
import type { Registration, ReservationState } from './reservation-state.js';
import { isHolder } from './reservation-state.js';
import { reservationTypes } from './reservation-type.js';
import { sense } from './sense.js';
import type { ScsiTask, Step } from './task.js';
import { encodeTransportId } from './transport-id.js';
import { RELATIVE_PORT } from './unit-identity.js';

const KEY_BYTES = 8;
const HEADER_BYTES = 8;

/**
 *   0..3 PRGENERATION   4..7 additional length, whatever the allocation length cuts off   8.. the body
 */
function answer(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number, body: Uint8Array): Step {
  if (unit.reservations.refusesPersistent) return task.fail(sense.reservationConflict);
  const bytes = new Uint8Array(HEADER_BYTES + body.length);
  writeU32(bytes, 0, unit.reservations.state.generation);
  writeU32(bytes, 4, body.length);
  bytes.set(body, HEADER_BYTES);
  return task.answer(bytes, readU16(cdb, at + 7));
}

/** 6.15.2. */
export function readKeys(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const keys = Array.from(unit.reservations.state.registrations.values(), ({ key }) => key);
  const body = new Uint8Array(keys.length * KEY_BYTES);
  keys.forEach((key, index) => writeKey(body, index * KEY_BYTES, key));
  return answer(unit, task, cdb, at, body);
}

/** 6.15.3: nothing, or 0..7 the holder's key, 0 where all hold it; 13 scope (of the unit: 0) and type. */
export function readReservation(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const { reservation, registrations } = unit.reservations.state;
  if (reservation === undefined) return answer(unit, task, cdb, at, new Uint8Array(0));
  const body = new Uint8Array(16);
  const holder = reservation.holder === undefined ? undefined : registrations.get(reservation.holder);
  writeKey(body, 0, holder?.key ?? 0n);
  body[13] = reservation.type.code;
  return answer(unit, task, cdb, at, body);
}

const CRH = 0x10;
const SIP_C = 0x08;
const ATP_C = 0x04;
const PTPL_C = 0x01;
const TMV = 0x80;
const PTPL_A = 0x01;

/**
 * 6.15.4:
 *
 *   0..1 length, 8     2 CRH, SIP_C, ATP_C, PTPL_C     3 TMV, PTPL_A     4..5 the types that there are
 *
 * ALLOW COMMANDS is 0: which commands are allowed through is as the tables of the standard have it.
 */
export function reportCapabilities(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const { reservations } = unit;
  if (reservations.refusesPersistent) return task.fail(sense.reservationConflict);
  const bytes = new Uint8Array(8);
  writeU16(bytes, 0, bytes.length);
  bytes[2] = CRH | SIP_C | ATP_C | (reservations.persists ? PTPL_C : 0);
  bytes[3] = TMV | (reservations.state.persistent ? PTPL_A : 0);
  writeU16(
    bytes,
    4,
    reservationTypes.reduce((mask, { maskBit }) => mask | maskBit, 0),
  );
  return task.answer(bytes, readU16(cdb, at + 7));
}

const DESCRIPTOR_BYTES = 24;
const ALL_TG_PT = 0x02;
const R_HOLDER = 0x01;

/** 6.15.5: a descriptor of each registration. */
export function readFullStatus(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const { state } = unit.reservations;
  const parts = Array.from(state.registrations, ([port, registration]) => fullStatus(state, port, registration));
  return answer(unit, task, cdb, at, Buffer.concat(parts));
}

/**
 *   0..7 key    12 ALL_TG_PT, R_HOLDER    13 scope and type, of a holder    18..19 relative target port, unless ALL_TG_PT
 *   20..23 length of the TransportID    24.. TransportID
 */
function fullStatus(state: ReservationState, port: string, { key, allTargetPorts }: Registration): Uint8Array {
  const transportId = encodeTransportId(port);
  const bytes = new Uint8Array(DESCRIPTOR_BYTES + transportId.length);
  const holds = isHolder(state, port);
  writeKey(bytes, 0, key);
  bytes[12] = (allTargetPorts ? ALL_TG_PT : 0) | (holds ? R_HOLDER : 0);
  if (holds) bytes[13] = state.reservation?.type.code ?? 0;
  if (!allTargetPorts) writeU16(bytes, 18, RELATIVE_PORT);
  writeU32(bytes, 20, transportId.length);
  bytes.set(transportId, DESCRIPTOR_BYTES);
  return bytes;
}

function writeKey(bytes: Uint8Array, at: number, key: bigint): void {
  writeU32(bytes, at, Number(key >> 32n));
  writeU32(bytes, at + 4, Number(key & 0xffff_ffffn));
}
