/**
 * Task management functions (RFC 7143, section 11.5, 11.6; SAM-5 7).
 *
 * No function ever waits for a task: what the device was given has its place in the order of writes already, so that
 * nothing of an aborted command can take effect after a later one; its answer is suppressed. Functions that reach other
 * initiators' commands are for the session that holds the volume.
 */
import { readU32 } from '../../scsi/big-endian.js';
import type { GatewayError } from '../../base/errors.js';
import type { Responder } from './responder.js';
import type { ServedUnit, UnitMember } from './served-unit.js';
import { field, FINAL, taskFunction, taskResponse } from './wire.js';
import type { TaskResponse } from './wire.js';

export interface ManagedSession extends UnitMember {
  abortTask(initiatorTaskTag: number): boolean;
  whenHeld(callback: (refusal: GatewayError | undefined) => void): void;
}

interface Context {
  readonly session: ManagedSession;
  readonly served: ServedUnit | undefined;
  readonly responder: Responder;
}

export function manageTasks({ session, served, responder }: Context, header: Uint8Array, at: number): void {
  const tag = readU32(header, at + field.initiatorTaskTag);
  const wanted = (header[at + field.flags] ?? 0) & ~FINAL;
  const answer = (response: TaskResponse): void => responder.taskManagement(tag, response);
  const isTargetWide = wanted === taskFunction.targetWarmReset || wanted === taskFunction.targetColdReset;
  const isLunZero = (readU32(header, at + field.lun) & ~0x4000_0000) === 0 && readU32(header, at + field.lun + 4) === 0;
  if (served === undefined || (!isTargetWide && !isLunZero)) {
    answer(taskResponse.noUnit);
    return;
  }
  const ifHeld = (act: () => void): void =>
    session.whenHeld((refusal) => {
      if (refusal === undefined) act();
      answer(refusal === undefined ? taskResponse.complete : taskResponse.authorizationFailed);
    });
  switch (wanted) {
    case taskFunction.abortTask:
      answer(
        session.abortTask(readU32(header, at + field.referencedTaskTag)) ? taskResponse.complete : taskResponse.noTask,
      );
      return;
    case taskFunction.abortTaskSet:
      session.abortTasks();
      answer(taskResponse.complete);
      return;
    case taskFunction.clearTaskSet:
      ifHeld(() => served.clearTaskSet(session));
      return;
    case taskFunction.logicalUnitReset:
      ifHeld(() => served.resetUnit());
      return;
    case taskFunction.targetWarmReset:
      ifHeld(() => served.resetTarget());
      return;
    case taskFunction.targetColdReset:
      // No answer: the connection is gone (SAM-5 6.3.1, RFC 7143 11.5.1).
      session.whenHeld((refusal) => {
        if (refusal === undefined) served.dropAll();
        else answer(taskResponse.authorizationFailed);
      });
      return;
    case taskFunction.taskReassign:
      answer(taskResponse.reassignNotSupported);
      return;
    default:
      // CLEAR ACA among them: NACA is not supported, so there is no ACA condition.
      answer(taskResponse.notSupported);
  }
}
