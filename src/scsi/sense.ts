/**
 * How a command ends that does not end well: status and sense data (SPC-4 4.5, SAM-5 5.3).
 *
 *   fixed format (70h)                         descriptor format (72h)
 *   0      response code                       0      response code
 *   0      VALID (bit 7)                       1      sense key
 *   2      sense key
 *   3..6   information
 *   8..11  command-specific information
 *   7      additional length (10)              2, 3   ASC, ASCQ
 *   12, 13 ASC, ASCQ                           7      additional length
 *   15..17 sense-key specific: field pointer   8..    descriptors: 00h information, 01h command-specific,
 *                                                    02h sense-key specific
 */
import { writeU16, writeU32, writeU64 } from './big-endian.js';

/** SAM-5 5.3.1. */
export const scsiStatus = {
  good: 0x00,
  checkCondition: 0x02,
  conditionMet: 0x04,
  busy: 0x08,
  reservationConflict: 0x18,
  taskSetFull: 0x28,
  taskAborted: 0x40,
} as const;

/** SPC-4 4.5.6. */
export const senseKey = {
  noSense: 0x0,
  notReady: 0x2,
  mediumError: 0x3,
  hardwareError: 0x4,
  illegalRequest: 0x5,
  unitAttention: 0x6,
  dataProtect: 0x7,
  copyAborted: 0xa,
  abortedCommand: 0xb,
  miscompare: 0xe,
} as const;

/** Which field of the CDB or of the parameter list was wrong (SPC-4 4.5.2.4.2). */
export interface FieldPointer {
  readonly inCdb: boolean;
  readonly byte: number;
  readonly bit: number;
}

export interface Sense {
  readonly status: number;
  readonly key: number;
  readonly asc: number;
  readonly ascq: number;
  readonly field?: FieldPointer;
  /**
   * What the INFORMATION field says (SBC-3 4.18.1): for MISCOMPARE how many bytes were equal, for a MEDIUM ERROR the LBA.
   * Left out of the fixed format where it does not fit its four bytes.
   */
  readonly information?: number;
  /** COMMAND-SPECIFIC INFORMATION: of COPY ABORTED, the segment (SPC-4 6.3). */
  readonly commandInformation?: number;
  /** PROGRESS INDICATION of NOT READY, of 65,536 (SPC-4 4.5.2.4.4); not beside `field`. */
  readonly progress?: number;
}

function check(key: number, asc: number, ascq: number): Sense {
  return { status: scsiStatus.checkCondition, key, asc, ascq };
}

const { notReady, mediumError, hardwareError, illegalRequest, unitAttention, dataProtect, abortedCommand } = senseKey;

/** Codes of SPC-4 annex D.2. */
export const sense = {
  none: check(senseKey.noSense, 0x00, 0x00),
  /** What the transport says of a command that it cannot carry (SPC-4 D.2, 0E 03). */
  invalidFieldInInformationUnit: check(illegalRequest, 0x0e, 0x03),
  sanitizeInProgress: check(notReady, 0x04, 0x1b),
  sanitizeFailed: check(mediumError, 0x31, 0x03),
  unrecoveredReadError: check(mediumError, 0x11, 0x00),
  internalTargetFailure: check(hardwareError, 0x44, 0x00),
  operationInProgress: check(illegalRequest, 0x00, 0x16),
  copyAborted: check(senseKey.copyAborted, 0x00, 0x00),
  unreachableCopyTarget: check(senseKey.copyAborted, 0x08, 0x04),
  parameterListLengthError: check(illegalRequest, 0x1a, 0x00),
  invalidOperationCode: check(illegalRequest, 0x20, 0x00),
  lbaOutOfRange: check(illegalRequest, 0x21, 0x00),
  invalidFieldInCdb: check(illegalRequest, 0x24, 0x00),
  logicalUnitNotSupported: check(illegalRequest, 0x25, 0x00),
  invalidFieldInParameterList: check(illegalRequest, 0x26, 0x00),
  invalidReleaseOfPersistentReservation: check(illegalRequest, 0x26, 0x04),
  tooManyTargetDescriptors: check(illegalRequest, 0x26, 0x06),
  unsupportedTargetDescriptor: check(illegalRequest, 0x26, 0x07),
  tooManySegmentDescriptors: check(illegalRequest, 0x26, 0x08),
  unsupportedSegmentDescriptor: check(illegalRequest, 0x26, 0x09),
  savingParametersNotSupported: check(illegalRequest, 0x39, 0x00),
  insufficientRegistrationResources: check(illegalRequest, 0x55, 0x04),
  becomingReady: check(notReady, 0x04, 0x01),
  manualInterventionRequired: check(notReady, 0x04, 0x03),
  writeProtected: check(dataProtect, 0x27, 0x00),
  miscompare: check(senseKey.miscompare, 0x1d, 0x00),
  softwareWriteProtected: check(dataProtect, 0x27, 0x02),
  spaceAllocationFailed: check(dataProtect, 0x27, 0x07),
  accessDenied: check(dataProtect, 0x20, 0x02),
  powerOn: check(unitAttention, 0x29, 0x00),
  targetReset: check(unitAttention, 0x29, 0x02),
  logicalUnitReset: check(unitAttention, 0x29, 0x03),
  modeParametersChanged: check(unitAttention, 0x2a, 0x01),
  reservationsPreempted: check(unitAttention, 0x2a, 0x03),
  reservationsReleased: check(unitAttention, 0x2a, 0x04),
  registrationsPreempted: check(unitAttention, 0x2a, 0x05),
  capacityChanged: check(unitAttention, 0x2a, 0x09),
  commandsClearedByAnother: check(unitAttention, 0x2f, 0x00),
  /** What the transport calls data that nobody asked for, or not so much of, or that were lost (RFC 7143 11.4.7.2). */
  unexpectedUnsolicitedData: check(abortedCommand, 0x0c, 0x0c),
  incorrectAmountOfData: check(abortedCommand, 0x0c, 0x0d),
  protocolServiceCrcError: check(abortedCommand, 0x47, 0x05),
  /** Not ready for work at all; the initiator tries again. No sense data. */
  busy: { status: scsiStatus.busy, key: 0, asc: 0, ascq: 0 },
  /** Too much is under way already; the initiator tries again when a command of its own has ended. No sense data. */
  taskSetFull: { status: scsiStatus.taskSetFull, key: 0, asc: 0, ascq: 0 },
  reservationConflict: { status: scsiStatus.reservationConflict, key: 0, asc: 0, ascq: 0 },
} as const satisfies Record<string, Sense>;

/** INVALID FIELD IN CDB that says which: `bit` is the leftmost wrong bit of the byte. */
export function invalidFieldInCdb(byte: number, bit: number): Sense {
  return { ...sense.invalidFieldInCdb, field: { inCdb: true, byte, bit } };
}

export function invalidFieldInParameterList(byte: number, bit: number): Sense {
  return { ...sense.invalidFieldInParameterList, field: { inCdb: false, byte, bit } };
}

/** MISCOMPARE DURING VERIFY OPERATION: `equalBytes` before the first that differs. */
export function miscompareAt(equalBytes: number): Sense {
  return { ...sense.miscompare, information: equalBytes };
}

export const SENSE_BYTES_MAX = 40;
const U32_MAX = 0xffff_ffff;
const FIXED_BYTES = 18;
const FIXED_ADDITIONAL_BYTES = 10;

/** Writes sense data at `at`, and returns its length. `descriptorFormat`: as the control mode page's D_SENSE asks. */
export function writeSense(bytes: Uint8Array, at: number, what: Sense, descriptorFormat: boolean): number {
  bytes.fill(0, at, at + SENSE_BYTES_MAX);
  if (!descriptorFormat) {
    bytes[at] = 0x70;
    bytes[at + 2] = what.key;
    bytes[at + 7] = FIXED_ADDITIONAL_BYTES;
    bytes[at + 12] = what.asc;
    bytes[at + 13] = what.ascq;
    if (what.information !== undefined && what.information <= U32_MAX) {
      bytes[at] = 0xf0;
      writeU32(bytes, at + 3, what.information);
    }
    writeU32(bytes, at + 8, what.commandInformation ?? 0);
    writeKeySpecific(bytes, at + 15, what);
    return FIXED_BYTES;
  }
  bytes[at] = 0x72;
  bytes[at + 1] = what.key;
  bytes[at + 2] = what.asc;
  bytes[at + 3] = what.ascq;
  let end = 8;
  if (what.information !== undefined) {
    bytes.set([0x00, 0x0a, 0x80], at + end);
    writeU64(bytes, at + end + 4, what.information);
    end += 12;
  }
  if (what.commandInformation !== undefined) {
    bytes.set([0x01, 0x0a], at + end);
    writeU64(bytes, at + end + 4, what.commandInformation);
    end += 12;
  }
  if (what.field !== undefined || what.progress !== undefined) {
    bytes.set([0x02, 0x06], at + end);
    writeKeySpecific(bytes, at + end + 4, what);
    end += 8;
  }
  bytes[at + 7] = end - 8;
  return end;
}

function writeKeySpecific(bytes: Uint8Array, at: number, { field, progress }: Sense): void {
  if (field !== undefined) writeFieldPointer(bytes, at, field);
  if (progress === undefined) return;
  bytes[at] = 0x80;
  writeU16(bytes, at + 1, progress);
}

/** SKSV, C/D and BPV are the upper bits of the first of three bytes. */
function writeFieldPointer(bytes: Uint8Array, at: number, field: FieldPointer): void {
  bytes[at] = 0x80 | (field.inCdb ? 0x40 : 0) | 0x08 | field.bit;
  writeU16(bytes, at + 1, field.byte);
}
