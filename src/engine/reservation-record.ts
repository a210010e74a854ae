/**
 * The file `reservations` of a volume's directory: the SCSI registrations and the reservation that are to survive a loss of
 * power (docs/formats.md, "Reservations").
 *
 * One that cannot be read whole is a refusal of the volume, never "nothing is reserved": a cluster's node that was shut out
 * would write again, beside the one that took over.
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';
import type { SavedRegistration, SavedReservations } from '../ports/volume-reservations.js';
import { written } from './disk-outcome.js';
import { readSealedRecord, writeSealedRecord } from './sealed-record.js';

export const RESERVATIONS_FILE = 'reservations';

const KEY = /^[0-9a-f]{16}$/;
const TYPES: readonly unknown[] = [1, 3, 5, 6, 7, 8];
const TYPES_OF_ALL: readonly unknown[] = [7, 8];

/** Durable once it resolves. disk-full: what was there stays; any other failure is a DurabilityLostError. */
export async function writeReservations(disk: Disk, checksums: Checksums, what: SavedReservations): Promise<void> {
  const { registrations, reservation } = what;
  const fields = {
    registrations: registrations.map(({ port, key, allTargetPorts }) => ({ port, key, allTargetPorts })),
    ...(reservation === undefined ? {} : { reservation: { type: reservation.type, holder: reservation.holder } }),
  };
  await written('write of the reservations', writeSealedRecord(disk, checksums, RESERVATIONS_FILE, fields));
}

/** undefined: there is none. reservations-damaged, format-newer. */
export async function readReservations(disk: Disk, checksums: Checksums): Promise<SavedReservations | undefined> {
  let body: object | undefined;
  try {
    body = await readSealedRecord(disk, checksums, RESERVATIONS_FILE);
  } catch (cause) {
    if (!(cause instanceof GatewayError) || cause.code === 'format-newer') throw cause;
    throw damaged(cause.message, cause);
  }
  return body && check(body);
}

function check(body: { readonly registrations?: unknown; readonly reservation?: unknown }): SavedReservations {
  const { registrations, reservation } = body;
  if (!Array.isArray(registrations) || registrations.length > limits.registrationsPerVolumeMax) {
    throw damaged('registrations is no list that it could be');
  }
  const checked = registrations.map(checkRegistration);
  const ports = new Set(checked.map(({ port }) => port));
  if (ports.size !== checked.length) throw damaged('a port is registered twice');
  if (reservation === undefined) return { registrations: checked, reservation: undefined };
  const { type, holder } = (reservation ?? {}) as { readonly type?: unknown; readonly holder?: unknown };
  if (typeof type !== 'number' || !TYPES.includes(type)) throw damaged('the reservation has no known type');
  if (TYPES_OF_ALL.includes(type) ? holder !== undefined || ports.size === 0 : !ports.has(holder as string)) {
    throw damaged('the reservation is of nobody who is registered');
  }
  return { registrations: checked, reservation: { type, holder: holder as string | undefined } };
}

function checkRegistration(value: unknown): SavedRegistration {
  const { port, key, allTargetPorts } = (value ?? {}) as Readonly<Partial<Record<keyof SavedRegistration, unknown>>>;
  if (typeof port !== 'string' || typeof key !== 'string' || !KEY.test(key) || typeof allTargetPorts !== 'boolean') {
    throw damaged('a registration has unknown or missing fields');
  }
  return { port, key, allTargetPorts };
}

function damaged(why: string, cause?: unknown): GatewayError {
  return new GatewayError(
    'reservations-damaged',
    `${why}, so that it is unknown who may write; make sure that no node of a cluster uses the volume, then remove the file ${RESERVATIONS_FILE} from its directory`,
    { cause },
  );
}
