/**
 * What a volume knows of the SCSI reservations on it: what of them survives a restart, and what they leave to clients that
 * are no SCSI initiators. The rules are SCSI's (src/scsi/reservation-state.ts); keeping them is the volume's.
 */

/** A registration of an initiator port (SPC-4 5.13.7). */
export interface SavedRegistration {
  /** The initiator port's name, "iqn.2026-11.example:a,i,0x800000000001". */
  readonly port: string;
  /** 16 hexadecimal digits. */
  readonly key: string;
  /** It was made for all target ports. */
  readonly allTargetPorts: boolean;
}

/** All that a volume was told to keep over a loss of power (APTPL). */
export interface SavedReservations {
  readonly registrations: readonly SavedRegistration[];
  /** SPC-4 6.15.3.3 has the types; `holder` is the port that holds it, undefined: all that are registered. */
  readonly reservation: { readonly type: number; readonly holder: string | undefined } | undefined;
}

/**
 * What somebody who is registered nowhere may do now. One object for the volume's life, read at every request: whoever
 * looks at it sees what holds from this moment on.
 */
export interface UnregisteredAccess {
  mayRead: boolean;
  mayWrite: boolean;
}

export interface VolumeReservations {
  /** What is kept now; undefined: it was never asked for. */
  readonly saved: SavedReservations | undefined;
  /**
   * Replaces what is saved; durable once it resolves, and then only the new is there. disk-full: the old is there, alone.
   * Any other failure ends the process, as nobody knows which is.
   */
  save(what: SavedReservations): Promise<void>;
  readonly unregistered: UnregisteredAccess;
  /** Who has the volume reserved from now on, for whoever wonders why it refuses; undefined: nobody. Told of each change. */
  reserved(by: HeldReservation | undefined): void;
}

/** For the log, and for whoever asks. */
export interface HeldReservation {
  /** "write exclusive", "RESERVE(6)". */
  readonly type: string;
  /** The holder's initiator port; undefined: all that are registered. */
  readonly holder: string | undefined;
  /** How many initiator ports are registered; beside RESERVE(6) none is. */
  readonly registrations: number;
}

/** Of a volume on which nobody ever reserves anything. */
export function unreserved(): UnregisteredAccess {
  return { mayRead: true, mayWrite: true };
}
