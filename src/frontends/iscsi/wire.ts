/**
 * The iSCSI wire as tables: every constant with its section of RFC 7143. All fields are big-endian. Constants are wire
 * format: never change one.
 *
 * A PDU (section 11.2):
 *
 *   0                48                 48 + 4 x TotalAHSLength    [4]
 *   | basic header   | additional headers | header digest | data segment, padded to 4 | data digest |
 */

export const BHS_BYTES = 48;
export const DIGEST_BYTES = 4;
/** Of TotalAHSLength, which is one byte. */
export const AHS_BYTES_MAX = 255 * 4;
/** "No task", "no transfer", in every tag field. */
export const NO_TAG = 0xffff_ffff;

/** Section 11.2.1.2; I: sent by initiators, T: by targets. */
export const opcode = {
  nopOut: 0x00, //                   I 11.18
  scsiCommand: 0x01, //              I 11.3
  taskManagement: 0x02, //           I 11.5
  login: 0x03, //                    I 11.12
  text: 0x04, //                     I 11.10
  dataOut: 0x05, //                  I 11.7
  logout: 0x06, //                   I 11.14
  snack: 0x10, //                    I 11.16
  nopIn: 0x20, //                    T 11.19
  scsiResponse: 0x21, //             T 11.4
  taskManagementResponse: 0x22, //   T 11.6
  loginResponse: 0x23, //            T 11.13
  textResponse: 0x24, //             T 11.11
  dataIn: 0x25, //                   T 11.7
  logoutResponse: 0x26, //           T 11.15
  readyToTransfer: 0x31, //          T 11.8
  asyncMessage: 0x32, //             T 11.9
  reject: 0x3f, //                   T 11.17
} as const;

/** Byte 0 (section 11.2.1.1, 11.2.1.2). */
export const OPCODE_MASK = 0x3f;
export const IMMEDIATE = 0x40;
/** Of an opcode: a target's. */
export const FROM_TARGET = 0x20;

/** Byte 1, bit 7 of every opcode but login: no further PDU follows in this sequence (section 11.2.1.3). */
export const FINAL = 0x80;

/** Where fields stand in the basic header: those that (nearly) all opcodes share, then by opcode. */
export const field = {
  flags: 1,
  ahsLength: 4, //             u8, in words of 4 bytes
  dataLength: 5, //            u24
  lun: 8, //                   8 bytes
  initiatorTaskTag: 16, //     u32
  targetTransferTag: 20, //    u32
  cmdSn: 24, //                u32, from the initiator
  statSn: 24, //               u32, from the target
  expStatSn: 28, //            u32, from the initiator
  expCmdSn: 28, //             u32, from the target
  maxCmdSn: 32, //             u32, from the target
  // SCSI Command, 11.3
  expectedLength: 20, //       u32
  cdb: 32, //                  16 bytes
  // SCSI Response, 11.4
  response: 2, //              u8
  status: 3, //                u8
  expDataSn: 36, //            u32
  readResidual: 40, //         u32, of a bidirectional command
  residual: 44, //             u32, also in Data-In
  // Data-Out, Data-In, R2T: 11.7, 11.8
  dataSn: 36, //               u32, R2TSN in R2T
  bufferOffset: 40, //         u32
  desiredLength: 44, //        u32, in R2T
  // Task Management, 11.5
  referencedTaskTag: 20, //    u32
  refCmdSn: 32, //             u32
  // Login, 11.12
  versionMax: 2, //            u8
  versionMin: 3, //            u8
  isid: 8, //                  6 bytes
  tsih: 14, //                 u16
  connectionId: 20, //         u16, also in Logout
  statusClass: 36, //          u8
  statusDetail: 37, //         u8
  // Asynchronous Message, 11.9
  asyncEvent: 36, //           u8
  asyncParameter3: 42, //      u16
  // Logout, 11.14
  time2Wait: 40, //            u16
  time2Retain: 42, //          u16
  // Reject, 11.17
  reason: 2, //                u8
} as const;

/** SCSI Command, byte 1 (section 11.3.1). */
export const commandFlag = { read: 0x40, write: 0x20 } as const;

/** SCSI Response and Data-In, byte 1 (sections 11.4.1, 11.7.3). */
export const residualFlag = { readOverflow: 0x10, readUnderflow: 0x08, overflow: 0x04, underflow: 0x02 } as const;
export const DATA_IN_STATUS = 0x01;

/** Login, byte 1 (section 11.12.1 to 11.12.4). */
export const loginFlag = { transit: 0x80, continue: 0x40 } as const;
/** Additional header segments (section 11.2.2): 2 bytes of length, 1 of type, then what the type says. */
export const ahsType = { extendedCdb: 1, bidirectionalReadLength: 2 } as const;

/** Text, byte 1 (section 11.10.2). */
export const TEXT_CONTINUE = 0x40;

/** Section 11.12.3; 2 is not defined. */
export const stage = { security: 0, operational: 1, fullFeature: 3 } as const;
export type Stage = (typeof stage)[keyof typeof stage];

/** Status-Class and Status-Detail (section 11.13.5) as class x 256 + detail. */
export const loginStatus = {
  success: 0x0000,
  initiatorError: 0x0200,
  authenticationFailure: 0x0201,
  authorizationFailure: 0x0202,
  notFound: 0x0203,
  unsupportedVersion: 0x0205,
  tooManyConnections: 0x0206,
  missingParameter: 0x0207,
  unsupportedSessionType: 0x0209,
  sessionDoesNotExist: 0x020a,
  invalidDuringLogin: 0x020b,
  targetError: 0x0300,
  serviceUnavailable: 0x0301,
  outOfResources: 0x0302,
} as const;
export type LoginStatus = (typeof loginStatus)[keyof typeof loginStatus];

/** Section 11.5.1. */
export const taskFunction = {
  abortTask: 1,
  abortTaskSet: 2,
  clearAca: 3,
  clearTaskSet: 4,
  logicalUnitReset: 5,
  targetWarmReset: 6,
  targetColdReset: 7,
  taskReassign: 8,
} as const;

/** Section 11.6.1. */
export const taskResponse = {
  complete: 0,
  noTask: 1,
  noUnit: 2,
  reassignNotSupported: 4,
  notSupported: 5,
  authorizationFailed: 6,
  rejected: 255,
} as const;
export type TaskResponse = (typeof taskResponse)[keyof typeof taskResponse];

/** Section 11.14.1. */
export const logoutReason = { closeSession: 0, closeConnection: 1, removeForRecovery: 2 } as const;
/** Section 11.15.1. */
export const logoutResponse = { closed: 0, noConnection: 1, recoveryNotSupported: 2 } as const;

/** Section 11.9.1. */
export const asyncEvent = { logoutRequested: 1 } as const;

/** Section 11.17.1. */
export const rejectReason = {
  dataDigestError: 0x02,
  snackRejected: 0x03,
  protocolError: 0x04,
  commandNotSupported: 0x05,
  immediateRejected: 0x06,
  invalidPduField: 0x09,
} as const;

/** Version descriptor in INQUIRY data: iSCSI (SPC-4 table 144). */
export const ISCSI_VERSION_DESCRIPTOR = 0x0960;

/** PROTOCOL IDENTIFIER of iSCSI (SPC-4 table 502). */
export const ISCSI_PROTOCOL = 0x5;

/** What REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS says of task-management.ts: ATS, ATSS, CTSS, LURS, TRS. */
export const TASK_FUNCTIONS = 0xda00;

/** The only portal group: every listener leads to every volume. */
export const PORTAL_GROUP = 1;

/** Serial-number arithmetic of 32 bits (section 4.2.2, RFC 1982): whether a is before b. */
export function isBefore(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

/** Bytes of padding after a data segment. */
export function paddingOf(lengthBytes: number): number {
  return -lengthBytes & 3;
}
