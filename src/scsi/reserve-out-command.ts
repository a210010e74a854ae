/** PERSISTENT RESERVE OUT (SPC-4 6.16), and RESERVE(6) and RELEASE(6) (SPC-2 7.17, 7.21): what their bytes say. */
import { limits } from '../base/limits.js';
import { readU16, readU32 } from './big-endian.js';
import type { UnitContext } from './command.js';
import * as action from './reservation-state.js';
import type { Outcome, ReservationState, ReserveOut } from './reservation-state.js';
import { invalidFieldInCdb, invalidFieldInParameterList, sense } from './sense.js';
import type { Sense } from './sense.js';
import { step } from './task.js';
import type { ScsiTask, Step } from './task.js';
import { decodeTransportId } from './transport-id.js';
import type { TransportId } from './transport-id.js';
import { RELATIVE_PORT } from './unit-identity.js';

/** Service action codes (6.16.2). */
export const reserveOut = {
  register: 0x00,
  reserve: 0x01,
  release: 0x02,
  clear: 0x03,
  preempt: 0x04,
  preemptAndAbort: 0x05,
  registerAndIgnore: 0x06,
  registerAndMove: 0x07,
} as const;

const SERVICE_ACTION = 0x1f;
const LIST_BYTES = 24;
const SPEC_I_PT = 0x08;
const ALL_TG_PT = 0x04;
const APTPL = 0x01;
const UNREG = 0x02;

/** Before its parameter list. */
export function persistentReserveOut(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  if (unit.reservations.refusesPersistent) return task.fail(sense.reservationConflict);
  const lengthBytes = readU32(cdb, at + 5);
  if (lengthBytes < LIST_BYTES) return task.fail(sense.parameterListLengthError);
  if (lengthBytes > limits.reserveOutBytesMax) return task.fail(invalidFieldInCdb(5, 7));
  task.parameterBytes = lengthBytes;
  return step.collect;
}

/**
 * The basic parameter list (6.16.3):
 *
 *   0..7 reservation key   8..15 service action reservation key   20 SPEC_I_PT, ALL_TG_PT, APTPL
 *   24..27, with SPEC_I_PT: length of the TransportIDs   28.. TransportIDs
 */
export function acceptPersistentReserveOut(unit: UnitContext, task: ScsiTask, list: Uint8Array): Step {
  const { nexus, cdb } = task;
  if (nexus === undefined) return task.fail(sense.internalTargetFailure);
  if (list.length < task.parameterBytes) return task.fail(sense.parameterListLengthError);
  const code = (cdb[1] ?? 0) & SERVICE_ACTION;
  const basic = {
    port: nexus.initiatorPort,
    key: readKey(list, 0),
    actionKey: readKey(list, 8),
    scope: (cdb[2] ?? 0) >>> 4,
    type: (cdb[2] ?? 0) & 0x0f,
  };
  if (code === reserveOut.registerAndMove) return registerAndMove(unit, task, basic, list);
  const flags = list[20] ?? 0;
  const isSpecific = (flags & SPEC_I_PT) !== 0;
  if (isSpecific && code !== reserveOut.register) return task.fail(invalidFieldInParameterList(20, 3));
  if (!isSpecific && list.length !== LIST_BYTES) return task.fail(sense.parameterListLengthError);
  const out = {
    ...basic,
    ports: undefined,
    allTargetPorts: (flags & ALL_TG_PT) !== 0,
    persistent: (flags & APTPL) !== 0,
  };
  if (out.persistent && isRegistering(code) && !unit.reservations.persists) {
    return task.fail(invalidFieldInParameterList(20, 0));
  }
  if (!isSpecific) return unit.reservations.change(task, (state) => perform(code, state, out));
  const ports = specifiedPorts(unit, list);
  if (!Array.isArray(ports)) return task.fail(ports);
  return unit.reservations.change(task, (state) => perform(code, state, { ...out, ports }));
}

function isRegistering(code: number): boolean {
  return code === reserveOut.register || code === reserveOut.registerAndIgnore;
}

function perform(code: number, state: ReservationState, out: ReserveOut): Outcome {
  switch (code) {
    case reserveOut.register:
      return action.register(state, out);
    case reserveOut.registerAndIgnore:
      return action.registerAnyway(state, out);
    case reserveOut.reserve:
      return action.reserve(state, out);
    case reserveOut.release:
      return action.release(state, out);
    case reserveOut.clear:
      return action.clear(state, out);
    case reserveOut.preempt:
      return action.preempt(state, out, false);
    case reserveOut.preemptAndAbort:
      return action.preempt(state, out, true);
    default:
      return { refused: invalidFieldInCdb(1, 4) };
  }
}

/**
 * 6.16.4:
 *
 *   0..7 reservation key   8..15 service action reservation key   17 UNREG, APTPL   18..19 relative target port
 *   20..23 length of the TransportID   24.. TransportID
 */
function registerAndMove(
  unit: UnitContext,
  task: ScsiTask,
  basic: Pick<ReserveOut, 'port' | 'key' | 'actionKey' | 'scope' | 'type'>,
  list: Uint8Array,
): Step {
  const flags = list[17] ?? 0;
  const persistent = (flags & APTPL) !== 0;
  if (persistent && !unit.reservations.persists) return task.fail(invalidFieldInParameterList(17, 0));
  if (readU16(list, 18) !== RELATIVE_PORT) return task.fail(invalidFieldInParameterList(18, 7));
  if (readU32(list, 20) !== list.length - LIST_BYTES) return task.fail(sense.parameterListLengthError);
  const named = decodeTransportId(list, LIST_BYTES, list.length);
  if (named === 'truncated') return task.fail(sense.parameterListLengthError);
  if (named?.lengthBytes !== list.length - LIST_BYTES) return task.fail(invalidFieldInParameterList(24, 7));
  // One port is to get the reservation, so that it must be clear which.
  const [to, ...more] = portsOf(unit, named);
  if (to === undefined || more.length > 0) return task.fail(invalidFieldInParameterList(24, 7));
  const out = { ...basic, persistent, allTargetPorts: false, ports: undefined };
  return unit.reservations.change(task, (state) => action.move(state, out, to, (flags & UNREG) !== 0));
}

/** SPEC_I_PT (6.16.3); all TransportIDs are looked at before one counts. */
function specifiedPorts(unit: UnitContext, list: Uint8Array): string[] | Sense {
  const firstAt = LIST_BYTES + 4;
  if (list.length < firstAt) return sense.parameterListLengthError;
  if (readU32(list, LIST_BYTES) !== list.length - firstAt) return sense.parameterListLengthError;
  const ports = new Set<string>();
  for (let at = firstAt; at < list.length;) {
    const named = decodeTransportId(list, at, list.length);
    if (named === 'truncated') return sense.parameterListLengthError;
    if (named === undefined) return invalidFieldInParameterList(at, 7);
    const found = portsOf(unit, named);
    if (found.length === 0) return invalidFieldInParameterList(at, 7);
    for (const port of found) ports.add(port);
    at += named.lengthBytes;
  }
  return [...ports];
}

/** A TransportID without an ISID means the ports by which its initiator is logged in. */
function portsOf(unit: UnitContext, { port, initiator }: TransportId): string[] {
  return port === undefined ? unit.reservations.portsOf(initiator) : [port];
}

function readKey(bytes: Uint8Array, at: number): bigint {
  return (BigInt(readU32(bytes, at)) << 32n) | BigInt(readU32(bytes, at + 4));
}

export function reserve6(unit: UnitContext, task: ScsiTask): Step {
  if (task.nexus === undefined) return task.fail(sense.internalTargetFailure);
  return unit.reservations.reserveUnit(task, task.nexus);
}

export function release6(unit: UnitContext, task: ScsiTask): Step {
  if (task.nexus === undefined) return task.fail(sense.internalTargetFailure);
  return unit.reservations.releaseUnit(task, task.nexus);
}
