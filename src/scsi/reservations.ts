/**
 * The reservations of one unit: who may do what now, changes one after another, and what survives a loss of power.
 *
 * A change that must be durable is saved first and holds only then: until its status, the old state holds, for everybody.
 * Meanwhile further changes wait, in order, RESERVE(6) among them. What a change denies is denied to every command that
 * begins, or hands its data to the device, after the change's status was sent (SPC-4 5.13.1).
 *
 * Hot path: a command looks at `nexus.denied`, a number, and NBD at two booleans; both change here alone.
 */
import { GatewayError } from '../base/errors.js';
import type { HeldReservation, SavedReservations, VolumeReservations } from '../ports/volume-reservations.js';
import type { Nexus } from './nexus.js';
import { deniedTo, isHolder, nothingReserved } from './reservation-state.js';
import type { Outcome, ReservationState, Transition } from './reservation-state.js';
import { findReservationType, need, setUnregistered } from './reservation-type.js';
import { sense } from './sense.js';
import { step } from './task.js';
import type { ScsiTask, Step } from './task.js';
import { initiatorOf } from './transport-id.js';

export interface ReservationsOptions {
  /** undefined: nothing survives a restart (APTPL is refused). */
  readonly volume: VolumeReservations | undefined;
  /** Aborts every command of a nexus but one. */
  readonly abort: (nexus: Nexus, except: ScsiTask) => void;
}

interface Waiting {
  readonly task: ScsiTask;
  readonly act: () => Step;
}

/** What RESERVE(6) of another leaves: need.nothing. */
const EVERYTHING = need.unit | need.read | need.write;

export class Reservations {
  readonly #options: ReservationsOptions;
  readonly #nexuses = new Set<Nexus>();
  #state: ReservationState;
  /** Who holds the unit by RESERVE(6): a session, which its end or a reset ends. */
  #legacyHolder: Nexus | undefined;
  /** What the volume was told last. */
  #told: HeldReservation | undefined;
  #saving = false;
  readonly #waiting: Waiting[] = [];

  constructor(options: ReservationsOptions) {
    this.#options = options;
    this.#state = restored(options.volume?.saved);
    // The volume found that by itself.
    this.#told = this.#held();
    this.#refresh();
  }

  get state(): ReservationState {
    return this.#state;
  }

  /** Whether APTPL is possible. */
  get persists(): boolean {
    return this.#options.volume !== undefined;
  }

  /** Ports of sessions of an initiator. */
  portsOf(initiator: string): string[] {
    const ports = [...this.#nexuses].map(({ initiatorPort }) => initiatorPort);
    return [...new Set(ports)].filter((port) => initiatorOf(port) === initiator);
  }

  join(nexus: Nexus): void {
    this.#nexuses.add(nexus);
    nexus.denied = this.#deniedTo(nexus);
  }

  /** A loss of the I_T nexus ends RESERVE(6); registrations stay (SPC-4 5.13.7). */
  leave(nexus: Nexus): void {
    this.#nexuses.delete(nexus);
    if (this.#legacyHolder === nexus) this.reset();
  }

  /** Resets end RESERVE(6); registrations and persistent reservations stay (SPC-4 5.13.1). */
  reset(): void {
    this.#legacyHolder = undefined;
    this.#refresh();
  }

  /** PERSISTENT RESERVE IN, and OUT before its parameters are looked at: SPC-2 5.5.1 lets RESERVE(6) refuse both, to all. */
  get refusesPersistent(): boolean {
    return this.#legacyHolder !== undefined;
  }

  /** A service action of PERSISTENT RESERVE OUT, in its turn. */
  change(task: ScsiTask, action: (state: ReservationState) => Outcome): Step {
    return this.#inTurn(task, () => {
      if (this.refusesPersistent) return task.fail(sense.reservationConflict);
      const outcome = action(this.#state);
      if ('refused' in outcome) return task.fail(outcome.refused);
      const save = this.#whatToSave(outcome.state);
      if (save === undefined) {
        this.#install(outcome, task);
        return step.finished;
      }
      this.#saveAndInstall(outcome, save, task);
      return step.waiting;
    });
  }

  /** RESERVE(6): SPC-2 7.21, with the exceptions that CRH=1 announces (SPC-4 5.13.3). */
  reserveUnit(task: ScsiTask, nexus: Nexus): Step {
    return this.#inTurn(task, () => {
      if (this.#state.registrations.size > 0) return this.#compatibly(task, nexus);
      if (this.#legacyHolder !== undefined && this.#legacyHolder !== nexus) return task.fail(sense.reservationConflict);
      this.#legacyHolder = nexus;
      this.#refresh();
      return step.finished;
    });
  }

  /** RELEASE(6): of what another reserved it is no error, and does nothing (SPC-2 7.17). */
  releaseUnit(task: ScsiTask, nexus: Nexus): Step {
    return this.#inTurn(task, () => {
      if (this.#state.registrations.size > 0) return this.#compatibly(task, nexus);
      if (this.#legacyHolder === nexus) this.reset();
      return step.finished;
    });
  }

  /** RESERVE(6) and RELEASE(6) beside registrations: nothing happens, to who may use the unit; others conflict. */
  #compatibly(task: ScsiTask, nexus: Nexus): Step {
    const { registrations, reservation } = this.#state;
    const port = nexus.initiatorPort;
    const isShared = reservation !== undefined && reservation.type.registrants !== 'none';
    if (isHolder(this.#state, port) || (isShared && registrations.has(port))) return step.finished;
    return task.fail(sense.reservationConflict);
  }

  #inTurn(task: ScsiTask, act: () => Step): Step {
    if (!this.#saving) return act();
    this.#waiting.push({ task, act });
    return step.waiting;
  }

  #takeTurns(): void {
    while (!this.#saving) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      const { task, act } = next;
      if (task.aborted || act() !== step.waiting) task.done(undefined);
    }
  }

  #saveAndInstall(outcome: Transition, save: SavedReservations, task: ScsiTask): void {
    this.#saving = true;
    const end = (error?: GatewayError): void => {
      this.#saving = false;
      if (error === undefined) this.#install(outcome, task);
      task.done(error);
      this.#takeTurns();
    };
    void this.#options.volume?.save(save).then(
      () => end(),
      (error: unknown) => {
        if (!(error instanceof GatewayError)) throw error;
        end(error);
      },
    );
  }

  #install({ state, attentions = [], aborts = [] }: Transition, by: ScsiTask): void {
    this.#state = state;
    this.#refresh();
    for (const nexus of this.#nexuses) {
      const port = nexus.initiatorPort;
      if (aborts.includes(port)) this.#options.abort(nexus, by);
      for (const { ports, what } of attentions) if (ports.includes(port)) nexus.establish(what);
    }
  }

  /** undefined: what is saved stays as it is. */
  #whatToSave(next: ReservationState): SavedReservations | undefined {
    const { persistent, registrations, reservation } = this.#state;
    if (!next.persistent) return persistent ? savedAs(nothingReserved) : undefined;
    const isSame = persistent && registrations === next.registrations && reservation === next.reservation;
    return isSame ? undefined : savedAs(next);
  }

  #refresh(): void {
    for (const nexus of this.#nexuses) nexus.denied = this.#deniedTo(nexus);
    const { volume } = this.#options;
    if (volume === undefined) return;
    setUnregistered(
      volume.unregistered,
      this.#legacyHolder === undefined ? deniedTo(this.#state, undefined) : EVERYTHING,
    );
    const held = this.#held();
    if (isSame(held, this.#told)) return;
    this.#told = held;
    volume.reserved(held);
  }

  #held(): HeldReservation | undefined {
    if (this.#legacyHolder !== undefined) {
      return { type: 'RESERVE(6)', holder: this.#legacyHolder.initiatorPort, registrations: 0 };
    }
    const { reservation, registrations } = this.#state;
    return (
      reservation && { type: reservation.type.name, holder: reservation.holder, registrations: registrations.size }
    );
  }

  #deniedTo(nexus: Nexus): number {
    if (this.#legacyHolder === undefined) return deniedTo(this.#state, nexus.initiatorPort);
    return this.#legacyHolder === nexus ? 0 : EVERYTHING;
  }
}

function isSame(left: HeldReservation | undefined, right: HeldReservation | undefined): boolean {
  return left?.type === right?.type && left?.holder === right?.holder && left?.registrations === right?.registrations;
}

function savedAs({ registrations, reservation }: ReservationState): SavedReservations {
  return {
    registrations: Array.from(registrations, ([port, { key, allTargetPorts }]) => ({
      port,
      key: key.toString(16).padStart(16, '0'),
      allTargetPorts,
    })),
    reservation: reservation && { type: reservation.type.code, holder: reservation.holder },
  };
}

/** After a power on (SPC-4 5.13.5): what was saved holds again, and PRGENERATION begins anew. */
export function restored(saved: SavedReservations | undefined): ReservationState {
  if (saved === undefined || saved.registrations.length === 0) return nothingReserved;
  const { reservation } = saved;
  const type = reservation && findReservationType(reservation.type);
  return {
    registrations: new Map(
      saved.registrations.map(({ port, key, allTargetPorts }) => [port, { key: BigInt(`0x${key}`), allTargetPorts }]),
    ),
    reservation: reservation && type && { type, holder: reservation.holder },
    generation: 0,
    persistent: true,
  };
}
