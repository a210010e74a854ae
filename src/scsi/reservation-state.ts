/**
 * Registrations and the persistent reservation of a unit, as values, and what each service action of PERSISTENT RESERVE
 * OUT makes of them (SPC-4 5.13, 6.16). Nothing here waits, keeps or tells anybody: reservations.ts does.
 *
 * An I_T nexus is the initiator port's name; the target has one port.
 */
import { limits } from '../base/limits.js';
import { findReservationType } from './reservation-type.js';
import type { ReservationType } from './reservation-type.js';
import { invalidFieldInCdb, invalidFieldInParameterList, sense } from './sense.js';
import type { Sense } from './sense.js';

export interface Registration {
  /** 64 bits; never 0. */
  readonly key: bigint;
  readonly allTargetPorts: boolean;
}

export interface PersistentReservation {
  readonly type: ReservationType;
  /** undefined: whoever is registered. */
  readonly holder: string | undefined;
}

export interface ReservationState {
  /** By the name of the initiator port, in the order in which they came. */
  readonly registrations: ReadonlyMap<string, Registration>;
  readonly reservation: PersistentReservation | undefined;
  /** PRGENERATION, 32 bits: 0 at every power on, whatever was kept (6.15.2). */
  readonly generation: number;
  /** APTPL of the last REGISTER: all of it survives a loss of power. */
  readonly persistent: boolean;
}

export const nothingReserved: ReservationState = {
  registrations: new Map(),
  reservation: undefined,
  generation: 0,
  persistent: false,
};

/** What a PERSISTENT RESERVE OUT command says (6.16.2, 6.16.3). */
export interface ReserveOut {
  /** The initiator port that it came from. */
  readonly port: string;
  readonly key: bigint;
  readonly actionKey: bigint;
  readonly scope: number;
  readonly type: number;
  readonly persistent: boolean;
  readonly allTargetPorts: boolean;
  /** SPEC_I_PT: further initiator ports that are to be registered; undefined: it was not set. */
  readonly ports: readonly string[] | undefined;
}

/** What a service action comes to: the new state, and what is due once it holds. */
export interface Transition {
  readonly state: ReservationState;
  /** Unit attention conditions, and the ports that they are for. */
  readonly attentions?: readonly { readonly ports: readonly string[]; readonly what: Sense }[];
  /** The ports whose commands are to be aborted. */
  readonly aborts?: readonly string[];
}

/** The status that refuses it, or what it comes to. */
export type Outcome = { readonly refused: Sense } | Transition;

const LU_SCOPE = 0;
const ACTION_KEY_AT = 8;
const conflict: Outcome = { refused: sense.reservationConflict };

/** Whether a port holds the reservation (5.13.10). */
export function isHolder({ registrations, reservation }: ReservationState, port: string): boolean {
  if (reservation === undefined) return false;
  return reservation.holder === undefined ? registrations.has(port) : reservation.holder === port;
}

/** The bits of `need` that a port is denied. */
export function deniedTo(state: ReservationState, port: string | undefined): number {
  const { reservation, registrations } = state;
  if (reservation === undefined) return 0;
  const { type } = reservation;
  if (port === undefined) return type.denies;
  const shares = type.registrants !== 'none' && registrations.has(port);
  return shares || isHolder(state, port) ? 0 : type.denies;
}

/** REGISTER (6.16.2, 5.13.7): the key must be the one that is registered, or 0 where none is. */
export function register(state: ReservationState, out: ReserveOut): Outcome {
  const registered = state.registrations.get(out.port);
  if ((registered?.key ?? 0n) !== out.key) return conflict;
  if (registered !== undefined && out.ports !== undefined) return { refused: invalidFieldInParameterList(20, 3) };
  return registerAnyway(state, out);
}

/** REGISTER AND IGNORE EXISTING KEY. */
export function registerAnyway(state: ReservationState, out: ReserveOut): Outcome {
  if (out.actionKey === 0n) {
    // Nothing happens: above all, nobody who is registered nowhere ends the persistence of what others registered.
    if (!state.registrations.has(out.port)) return { state };
    return unregister({ ...state, persistent: out.persistent }, out.port);
  }
  const registrations = new Map(state.registrations);
  const { actionKey: key, allTargetPorts, ports = [] } = out;
  if (ports.some((port) => registrations.has(port))) return { refused: invalidFieldInParameterList(24, 7) };
  for (const port of [out.port, ...ports]) registrations.set(port, { key, allTargetPorts });
  if (registrations.size > limits.registrationsPerVolumeMax) {
    return { refused: sense.insufficientRegistrationResources };
  }
  return { state: generated({ ...state, registrations, persistent: out.persistent }) };
}

/** 5.13.11.2.3: the reservation goes with its holder, or with the last of those that hold it together. */
function unregister(state: ReservationState, port: string): Transition {
  const registrations = without(state, (each) => each === port);
  const { reservation } = state;
  const left = { ...state, registrations };
  if (
    reservation === undefined ||
    !isHolder(state, port) ||
    (reservation.holder === undefined && registrations.size > 0)
  ) {
    return { state: generated(left) };
  }
  return {
    state: generated({ ...left, reservation: undefined }),
    attentions: released(reservation.type, registrations, port),
  };
}

/** RESERVE (5.13.9). */
export function reserve(state: ReservationState, out: ReserveOut): Outcome {
  if (!isRegistered(state, out)) return conflict;
  const { reservation } = state;
  const wanted = wantedReservation(out);
  if ('refused' in wanted) return wanted;
  if (reservation === undefined) return { state: { ...state, reservation: wanted } };
  return isHolder(state, out.port) && reservation.type === wanted.type ? { state } : conflict;
}

/** RELEASE (5.13.11.2). */
export function release(state: ReservationState, out: ReserveOut): Outcome {
  if (!isRegistered(state, out)) return conflict;
  const { reservation } = state;
  if (reservation === undefined || !isHolder(state, out.port)) return { state };
  if (out.scope !== LU_SCOPE || out.type !== reservation.type.code) {
    return { refused: sense.invalidReleaseOfPersistentReservation };
  }
  return {
    state: { ...state, reservation: undefined },
    attentions: released(reservation.type, state.registrations, out.port),
  };
}

/** CLEAR (5.13.11.6). */
export function clear(state: ReservationState, out: ReserveOut): Outcome {
  if (!isRegistered(state, out)) return conflict;
  const ports = [...state.registrations.keys()].filter((port) => port !== out.port);
  return {
    state: generated({ ...state, registrations: new Map(), reservation: undefined }),
    attentions: [{ ports, what: sense.reservationsPreempted }],
  };
}

/** PREEMPT (5.13.11.4), and with `aborting` PREEMPT AND ABORT (5.13.11.5). */
export function preempt(state: ReservationState, out: ReserveOut, aborting: boolean): Outcome {
  if (!isRegistered(state, out)) return conflict;
  const { reservation, registrations } = state;
  const ofAll = reservation !== undefined && reservation.holder === undefined;
  if (out.actionKey === 0n && !ofAll) return { refused: invalidFieldInParameterList(ACTION_KEY_AT, 7) };
  const isMeant = (port: string): boolean =>
    out.actionKey === 0n ? port !== out.port : registrations.get(port)?.key === out.actionKey;
  const meant = [...registrations.keys()].filter(isMeant);
  if (meant.length === 0 && out.actionKey !== 0n) return conflict;
  const aborts = aborting ? { aborts: meant } : {};
  const others = meant.filter((port) => port !== out.port);
  const attentions = [{ ports: others, what: sense.registrationsPreempted }];
  const takesOver = reservation !== undefined && (ofAll ? out.actionKey === 0n : isMeant(reservation.holder ?? ''));
  if (!takesOver) {
    const left = without(state, isMeant);
    const stays = ofAll && left.size === 0 ? undefined : reservation;
    return { state: generated({ ...state, registrations: left, reservation: stays }), attentions, ...aborts };
  }
  const wanted = wantedReservation(out);
  if ('refused' in wanted) return wanted;
  const left = without(state, (port) => port !== out.port && isMeant(port));
  const changed = wanted.type !== reservation.type;
  return {
    state: generated({ ...state, registrations: left, reservation: wanted }),
    attentions: changed ? [...attentions, told(left, out.port, sense.reservationsReleased)] : attentions,
    ...aborts,
  };
}

/** REGISTER AND MOVE (5.13.8): `to` gets the registration and the reservation; the sender keeps its own unless `leaving`. */
export function move(state: ReservationState, out: ReserveOut, to: string, leaving: boolean): Outcome {
  if (!isRegistered(state, out)) return conflict;
  const { reservation } = state;
  if (reservation === undefined) return { refused: invalidFieldInCdb(1, 4) };
  // Where all that are registered hold it, there is no one holder that could give it away.
  if (reservation.holder !== out.port) return conflict;
  if (out.actionKey === 0n) return { refused: invalidFieldInParameterList(ACTION_KEY_AT, 7) };
  if (to === out.port) return { refused: invalidFieldInParameterList(24, 7) };
  const registrations = new Map(state.registrations);
  registrations.set(to, { key: out.actionKey, allTargetPorts: registrations.get(to)?.allTargetPorts ?? false });
  if (leaving) registrations.delete(out.port);
  if (registrations.size > limits.registrationsPerVolumeMax) {
    return { refused: sense.insufficientRegistrationResources };
  }
  const moved = { type: reservation.type, holder: to };
  return { state: generated({ ...state, registrations, reservation: moved, persistent: out.persistent }) };
}

function isRegistered({ registrations }: ReservationState, out: ReserveOut): boolean {
  return registrations.get(out.port)?.key === out.key;
}

function wantedReservation(out: ReserveOut): PersistentReservation | { readonly refused: Sense } {
  if (out.scope !== LU_SCOPE) return { refused: invalidFieldInCdb(2, 7) };
  const type = findReservationType(out.type);
  if (type === undefined) return { refused: invalidFieldInCdb(2, 3) };
  return { type, holder: type.registrants === 'all' ? undefined : out.port };
}

function without({ registrations }: ReservationState, leaves: (port: string) => boolean): Map<string, Registration> {
  return new Map([...registrations].filter(([port]) => !leaves(port)));
}

/** What those that shared a reservation are told when it is gone (5.13.11.2.2); a reservation of one alone ends silently. */
function released(
  type: ReservationType,
  registrations: ReadonlyMap<string, Registration>,
  by: string,
): Required<Transition>['attentions'] {
  return type.registrants === 'none' ? [] : [told(registrations, by, sense.reservationsReleased)];
}

function told(
  registrations: ReadonlyMap<string, Registration>,
  by: string,
  what: Sense,
): { readonly ports: readonly string[]; readonly what: Sense } {
  return { ports: [...registrations.keys()].filter((port) => port !== by), what };
}

function generated(state: ReservationState): ReservationState {
  return { ...state, generation: (state.generation + 1) >>> 0 };
}
