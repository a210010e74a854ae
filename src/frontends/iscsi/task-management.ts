/**
 * Task management functions (RFC 7143, sections 4.2.3, 11.5, 11.6; SAM-5 7).
 *
 * No function ever waits for a task: what the device was given has its place in the order of writes already, so that
 * nothing of an aborted command can take effect after a later one; its answer is suppressed. A function waits for the
 * commands before it, which it may have overtaken on another connection (4.2.3.3), but for at most
 * limits.iscsiTaskManagementMsMax: those that have not come by then are taken as received and aborted, so that they are
 * dropped when they come. Functions that reach other initiators' commands are for the session that holds the volume.
 */
import { limits } from '../../base/limits.js';
import type { GatewayError } from '../../base/errors.js';
import type { Clock } from '../../ports/clock.js';
import { readU32 } from '../../scsi/big-endian.js';
import { isLunZero } from './command-header.js';
import type { CommandWindow } from './command-window.js';
import type { Responder } from './responder.js';
import type { ServedUnit, UnitMember } from './served-unit.js';
import type { VolumeClaim } from './volume-claim.js';
import { field, FINAL, isBefore, taskFunction, taskResponse } from './wire.js';
import type { TaskResponse } from './wire.js';

export interface ManagedSession extends UnitMember {
  readonly window: CommandWindow;
  readonly claim: VolumeClaim;
  abortTask(initiatorTaskTag: number): boolean;
}

/** A connection that functions come on; it counts those that wait for something. */
export interface FunctionConnection {
  readonly closed: boolean;
  readonly responder: Responder;
  functionsWaiting: number;
  touched(): void;
}

interface Context {
  readonly session: ManagedSession;
  readonly served: ServedUnit | undefined;
  /** That the function came on, and is answered on; nothing is done any more once it is gone. */
  readonly connection: FunctionConnection;
  readonly clock: Clock;
}

export function manageTasks(context: Context, header: Uint8Array, at: number): void {
  const { session, served, connection } = context;
  const tag = readU32(header, at + field.initiatorTaskTag);
  const wanted = (header[at + field.flags] ?? 0) & ~FINAL;
  const answer = (response: TaskResponse): void => {
    if (connection.closed) return;
    connection.responder.taskManagement(tag, response);
    connection.touched();
  };
  const isTargetWide = wanted === taskFunction.targetWarmReset || wanted === taskFunction.targetColdReset;
  if (served === undefined || (!isTargetWide && !isLunZero(header, at + field.lun))) {
    answer(taskResponse.noUnit);
    return;
  }
  const cmdSn = readU32(header, at + field.cmdSn);
  const inOrder = (act: () => void): void => {
    if (connection.functionsWaiting >= limits.iscsiTaskManagementMax) {
      answer(taskResponse.rejected);
      return;
    }
    connection.functionsWaiting++;
    whenPrecedingBegan(context, cmdSn, act);
  };
  const done = (response: TaskResponse): void => {
    connection.functionsWaiting--;
    answer(response);
  };
  const ifHeld = (act: () => void): void =>
    inOrder(() => {
      const decided = (refusal: GatewayError | undefined): void => {
        if (connection.closed) return;
        if (refusal === undefined) act();
        done(refusal === undefined ? taskResponse.complete : taskResponse.authorizationFailed);
      };
      // At once where that is possible, so that it meets no command that comes after it.
      if (session.claim.held) decided(undefined);
      else session.claim.whenDecided(decided);
    });
  switch (wanted) {
    case taskFunction.abortTask:
      answer(abortTask(session, header, at) ? taskResponse.complete : taskResponse.noTask);
      return;
    case taskFunction.abortTaskSet:
      inOrder(() => {
        session.abortTasks();
        done(taskResponse.complete);
      });
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
      // The answer is the last that any connection carries (SAM-5 6.3.1, RFC 7143 11.5.1).
      ifHeld(() => {
        answer(taskResponse.complete);
        served.dropAll(session);
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

/** A task that is not here, but whose number is still expected, is aborted by dropping it when it comes (11.6.1). */
function abortTask(session: ManagedSession, header: Uint8Array, at: number): boolean {
  if (session.abortTask(readU32(header, at + field.referencedTaskTag))) return true;
  const refCmdSn = readU32(header, at + field.refCmdSn);
  return isBefore(refCmdSn, readU32(header, at + field.cmdSn)) && session.window.skip(refCmdSn);
}

function whenPrecedingBegan({ session, connection, clock }: Context, cmdSn: number, act: () => void): void {
  if (session.window.whenBegun(cmdSn, connection, act)) return;
  clock.after(limits.iscsiTaskManagementMsMax, () => {
    if (!connection.closed) session.window.skipBefore(cmdSn);
  });
}
