/**
 * A volume's reservations, as its directory keeps them (engine/reservation-record.ts): read before anybody is served, over
 * any protocol, so that what was shut out before a restart is shut out after it.
 */
import { GatewayError } from '../base/errors.js';
import { readReservations, writeReservations } from '../engine/reservation-record.js';
import type { Checksums } from '../ports/checksum.js';
import type { Clock, Timer } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { Log } from '../ports/log.js';
import { unreserved } from '../ports/volume-reservations.js';
import type {
  HeldReservation,
  SavedReservations,
  UnregisteredAccess,
  VolumeReservations,
} from '../ports/volume-reservations.js';
import type { ReservationStatus } from '../ports/volume-status.js';
import { findReservationType, setUnregistered } from '../scsi/reservation-type.js';
import { initiatorOf } from '../scsi/transport-id.js';
import { keep } from './durable-record.js';

const LINE_MS = 1000;

export interface ReservationLineOptions {
  readonly volume: string;
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly clock: Clock;
  readonly log: Log;
  readonly onFatal: (error: Error) => void;
}

export class ReservationLine implements VolumeReservations {
  readonly unregistered: UnregisteredAccess = unreserved();
  readonly #options: ReservationLineOptions;
  #saved: SavedReservations | undefined;
  #held: HeldReservation | undefined;
  /** What the log was told last. */
  #told: HeldReservation | undefined;
  /** The log was told within the last second. */
  #quiet: Timer | undefined;
  #closed = false;

  constructor(options: ReservationLineOptions) {
    this.#options = options;
  }

  get saved(): SavedReservations | undefined {
    return this.#saved;
  }

  /** undefined: nobody has the volume reserved. */
  get status(): ReservationStatus | undefined {
    const held = this.#held;
    return held && { ...held, holder: held.holder === undefined ? undefined : initiatorOf(held.holder) };
  }

  /** reservations-damaged, format-newer. */
  async load(): Promise<void> {
    const { disk, checksums } = this.#options;
    this.#saved = await readReservations(disk, checksums);
    const { reservation, registrations = [] } = this.#saved ?? {};
    const type = findReservationType(reservation?.type ?? 0);
    if (type === undefined) return;
    setUnregistered(this.unregistered, type.denies);
    this.reserved({ type: type.name, holder: reservation?.holder, registrations: registrations.length });
  }

  reserved(by: HeldReservation | undefined): void {
    this.#held = by;
    if (this.#quiet === undefined && this.#isNews) this.#tell();
  }

  get #isNews(): boolean {
    return this.#held?.type !== this.#told?.type || this.#held?.holder !== this.#told?.holder;
  }

  close(): void {
    this.#closed = true;
    this.#quiet?.cancel();
  }

  /** An initiator may reserve and release as fast as it can; the log gets a line a second of it. */
  #tell(): void {
    const { log, clock, volume } = this.#options;
    const told = this.#held;
    this.#told = told;
    if (told === undefined) log.info('the volume is no longer reserved', { volume });
    else log.info('the volume is reserved', { volume, type: told.type, holder: told.holder ?? 'all registered' });
    this.#quiet = clock.after(LINE_MS, () => {
      this.#quiet = undefined;
      if (this.#isNews) this.#tell();
    });
  }

  async save(what: SavedReservations): Promise<void> {
    const { disk, checksums, onFatal, volume } = this.#options;
    // Its directory may be another volume's by now.
    if (this.#closed) throw new GatewayError('volume-closed', `volume ${volume} is closed`);
    await keep(writeReservations(disk, checksums, what), onFatal);
    this.#saved = what;
  }
}
