/**
 * A volume's logical unit and the sessions on it: what reaches over several of them. There is one per volume and target,
 * however many listeners lead to it.
 */
import type { ServedVolume } from '../../ports/volume-directory.js';
import { LogicalUnit } from '../../scsi/logical-unit.js';
import type { Nexus } from '../../scsi/nexus.js';
import { sense } from '../../scsi/sense.js';
import type { ScsiTask } from '../../scsi/task.js';
import { ISCSI_PROTOCOL, ISCSI_VERSION_DESCRIPTOR, PORTAL_GROUP, TASK_FUNCTIONS } from './wire.js';

export interface UnitMember {
  readonly nexus: Nexus;
  readonly connectionCount: number;
  /** Aborts the commands that were begun, all but one; returns whether there was any. */
  abortTasks(except?: ScsiTask): boolean;
  /** Ends the session at once. */
  drop(reason: string): void;
  /** Ends the session after what was gathered for it is sent. */
  end(reason: string): void;
}

export class ServedUnit {
  readonly volume: ServedVolume;
  readonly unit: LogicalUnit;
  readonly #members = new Set<UnitMember>();

  /** `targetName`: the iSCSI name that leads to the volume. */
  constructor(volume: ServedVolume, targetName: string) {
    this.volume = volume;
    this.unit = new LogicalUnit({
      device: volume.device,
      physicalBlockBytes: volume.iscsi.physicalBlockBytes,
      transportVersion: ISCSI_VERSION_DESCRIPTOR,
      port: {
        protocol: ISCSI_PROTOCOL,
        targetName,
        // RFC 7143 3.4.2: a target port is a portal group of a target.
        portName: `${targetName},t,0x${PORTAL_GROUP.toString(16).padStart(4, '0')}`,
        taskFunctions: TASK_FUNCTIONS,
      },
      reservations: volume.reservations,
      sanitizer: volume.sanitizer,
      abort: (nexus, except) => this.#preempted(nexus, except),
    });
  }

  join(member: UnitMember): void {
    this.#members.add(member);
  }

  leave(member: UnitMember): void {
    this.#members.delete(member);
    this.unit.detach(member.nexus);
  }

  get connectionCount(): number {
    let count = 0;
    for (const member of this.#members) count += member.connectionCount;
    return count;
  }

  /** CLEAR TASK SET: there is one task set (SAM-5 7.4; TST is 0). */
  clearTaskSet(by: UnitMember): void {
    for (const member of this.#members) member.abortTasks();
    this.unit.establishForOthers(by.nexus, sense.commandsClearedByAnother);
  }

  /** PREEMPT AND ABORT (SPC-4 5.13.11.5): the device gets nothing more of what is aborted. */
  #preempted(nexus: Nexus, except: ScsiTask): void {
    for (const member of this.#members) {
      if (member.nexus !== nexus) continue;
      const hadSome = member.abortTasks(except);
      if (hadSome && except.nexus !== nexus) nexus.establish(sense.commandsClearedByAnother);
    }
  }

  resetUnit(): void {
    for (const member of this.#members) member.abortTasks();
    this.unit.reset(sense.logicalUnitReset);
  }

  /** TARGET WARM RESET; the target has one unit. */
  resetTarget(): void {
    for (const member of this.#members) member.abortTasks();
    this.unit.reset(sense.targetReset);
  }

  /** TARGET COLD RESET ends every session, as if the power had failed; who asked for it gets its answer before. */
  dropAll(by: UnitMember): void {
    for (const member of this.#members) member.abortTasks();
    this.unit.reset(sense.targetReset);
    for (const member of [...this.#members]) if (member !== by) member.drop('target cold reset');
    by.end('target cold reset');
  }
}
