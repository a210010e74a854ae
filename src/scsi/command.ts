/** What a row of the command table says, and what the commands may use of their unit. */
import type { ByteLength } from '../base/units.js';
import type { BlockDevice } from '../ports/block-device.js';
import type { VolumeSanitizer } from '../ports/volume-sanitizer.js';
import type { CopyResults } from './copy-results.js';
import type { ModePages } from './mode-page.js';
import type { Nexus } from './nexus.js';
import type { Reservations } from './reservations.js';
import type { Sense } from './sense.js';
import type { ScsiTask, Step } from './task.js';

/** How a unit's target port is named over its transport (SPC-4 7.5.1, 7.8.6). */
export interface TargetPort {
  /** PROTOCOL IDENTIFIER: 5h, iSCSI. */
  readonly protocol: number;
  /** The target's name, and the port's: SCSI name strings. */
  readonly targetName: string;
  readonly portName: string;
  /** What the transport can do to tasks: bytes 0 and 1 of SPC-4 table 275. */
  readonly taskFunctions: number;
}

export interface UnitContext {
  /** The whole command table. */
  readonly commands: readonly Command[];
  /** undefined: the unit is reached by no transport that names its ports. */
  readonly port: TargetPort | undefined;
  readonly device: BlockDevice;
  readonly modes: ModePages;
  /** A power of two from 512 to 4096: what is changed at once without reading around it, as initiators are told. */
  readonly physicalBlockBytes: ByteLength;
  readonly copies: CopyResults;
  /** PRE-FETCH commands that the device works on, answered or not. */
  prefetches: number;
  readonly reservations: Reservations;
  /** The transport's version descriptor in standard INQUIRY data (SPC-4 6.6.2). */
  readonly transportVersion: number;
  /** Sense data in the format that the control mode page asks for; returns their length. */
  writeSense(bytes: Uint8Array, at: number, what: Sense): number;
  /** undefined: the unit cannot be sanitized. */
  readonly sanitizer: VolumeSanitizer | undefined;
  /** Tells every nexus but one that something changed. */
  establishForOthers(nexus: Nexus | undefined, what: Sense): void;
}

export interface Command {
  readonly name: string;
  /**
   * CDB usage data (SPC-4 6.35.3): the opcode, then per byte the bits that the unit evaluates; all others must be
   * zero. Its length is the CDB's.
   */
  readonly usage: Uint8Array;
  /** Of opcodes that stand for several commands: bits 4..0 of byte 1. */
  readonly serviceAction?: number;
  /** Index into ioOps, for the counters. */
  readonly op: number;
  /** Whether this unit has the command at all; one that it has not is not reported either. */
  isSupported(unit: UnitContext): boolean;
  /** REPORT SUPPORTED OPERATION CODES gives them out; 0: none is named. */
  readonly timeouts: { readonly nominalSeconds: number; readonly recommendedSeconds: number };
  /** It learns about the unit and touches no data: served to initiators that do not hold the volume as well. */
  readonly inquiry: boolean;
  /** Served although a unit attention is pending, which stays pending (SAM-5 5.14.5). */
  readonly passesAttention: boolean;
  /** What a reservation may keep from it: bits of `need` (reservation-type.ts). */
  readonly need: number;
  /** The same, where it depends on the CDB; never more than `need`. */
  readonly needOf: ((cdb: Uint8Array, at: number) => number) | undefined;
  /** Served by a unit that is in a failed sanitize: SANITIZE alone. */
  readonly servedAfterFailedSanitize: boolean;
  /** Refused while the medium is write protected. */
  readonly changesMedium: boolean;
  begin(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step;
  /** After step.collect, with the parameter list. */
  accept?(unit: UnitContext, task: ScsiTask, list: Uint8Array): Step;
}
