/** How a command goes on outside of its own call, where nobody catches what the device refuses. */
import { GatewayError } from '../base/errors.js';
import type { BlockDevice } from '../ports/block-device.js';
import { sense } from './sense.js';
import type { ScsiTask } from './task.js';

/** The next part of a command: one that was aborted ends here, and so does one whose request is refused. */
export function goOn(task: ScsiTask, work: () => void): void {
  if (task.aborted) {
    task.done(undefined);
    return;
  }
  try {
    work();
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    task.done(error);
  }
}

/**
 * Writes once the device takes writes: within this call, which then throws what it refuses, or later. A reservation may
 * have come meanwhile, and others may have written: then the command ends here.
 */
export function whenWritable(device: BlockDevice, task: ScsiTask, write: () => void): void {
  if (task.isKeptFromWriting) {
    task.fail(sense.reservationConflict);
    task.done(undefined);
  } else if (device.writable) write();
  else device.onceWritable(() => goOn(task, () => whenWritable(device, task, write)));
}
