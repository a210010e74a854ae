/**
 * SANITIZE (SBC-3 5.33, 4.11): OVERWRITE, BLOCK ERASE, EXIT FAILURE MODE. Of units that replicate there is no SANITIZE at
 * all, since the bucket would keep what it is to remove.
 *
 * CRYPTOGRAPHIC ERASE is refused everywhere, as a service action that there is not: the local copy is not encrypted, so
 * forgetting a key would make nothing unreadable. VPD page B1h says the same with WACEREQ 00b.
 *
 * An abort, a reset or the end of the session ends the command, not the sanitize.
 */
import { GatewayError } from '../base/errors.js';
import { LOGICAL_BLOCK_BYTES } from '../base/units.js';
import type { SanitizeOrder, VolumeSanitizer } from '../ports/volume-sanitizer.js';
import { readU16 } from './big-endian.js';
import type { UnitContext } from './command.js';
import { invalidFieldInCdb, invalidFieldInParameterList, sense } from './sense.js';
import type { Sense } from './sense.js';
import { step } from './task.js';
import type { ScsiTask, Step } from './task.js';

const IMMED = 0x80;
const AUSE = 0x20;
const HEADER_BYTES = 4;
const PROGRESS_FULL = 0xffff;

/** What other commands are answered with while the unit is being sanitized, and after that failed. */
export function sanitizeSense(sanitizer: VolumeSanitizer): Sense | undefined {
  switch (sanitizer.state) {
    case 'none':
      return undefined;
    case 'running':
      return { ...sense.sanitizeInProgress, progress: Math.floor(sanitizer.progress * PROGRESS_FULL) };
    case 'failed':
      return sense.sanitizeFailed;
  }
}

export function sanitizeOverwrite(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  if (unit.sanitizer === undefined) return task.fail(sense.invalidOperationCode);
  const lengthBytes = readU16(cdb, at + 7);
  if (lengthBytes <= HEADER_BYTES || lengthBytes > HEADER_BYTES + LOGICAL_BLOCK_BYTES) {
    return task.fail(invalidFieldInCdb(7, 7));
  }
  task.parameterBytes = lengthBytes;
  return step.collect;
}

/** 0 INVERT (bit 7), OVERWRITE COUNT (4..0)   2-3 length of the initialization pattern   4.. the pattern */
export function acceptSanitizeOverwrite(unit: UnitContext, task: ScsiTask, list: Uint8Array): Step {
  if (list.length < task.parameterBytes) return task.fail(sense.parameterListLengthError);
  const first = list[0] ?? 0;
  if ((first & 0x60) !== 0) return task.fail(invalidFieldInParameterList(0, 6));
  const passes = first & 0x1f;
  if (passes === 0) return task.fail(invalidFieldInParameterList(0, 4));
  const patternBytes = readU16(list, 2);
  if (patternBytes === 0 || patternBytes > LOGICAL_BLOCK_BYTES) return task.fail(invalidFieldInParameterList(2, 7));
  if (HEADER_BYTES + patternBytes > list.length) return task.fail(sense.parameterListLengthError);
  return begin(unit, task, {
    method: 'overwrite',
    pattern: Uint8Array.from(list.subarray(HEADER_BYTES, HEADER_BYTES + patternBytes)),
    passes,
    inverts: (first & 0x80) !== 0,
    mayExitFailure: ((task.cdb[1] ?? 0) & AUSE) !== 0,
  });
}

export function sanitizeBlockErase(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  if (unit.sanitizer === undefined) return task.fail(sense.invalidOperationCode);
  if (readU16(cdb, at + 7) !== 0) return task.fail(invalidFieldInCdb(7, 7));
  task.cdb.set(cdb.subarray(at, at + 10));
  return begin(unit, task, {
    method: 'blockErase',
    pattern: new Uint8Array(0),
    passes: 1,
    inverts: false,
    mayExitFailure: ((cdb[at + 1] ?? 0) & AUSE) !== 0,
  });
}

/** task.cdb is set: IMMED says whether the status waits for the end. */
function begin(unit: UnitContext, task: ScsiTask, order: SanitizeOrder): Step {
  const { sanitizer } = unit;
  // Another one may have begun while the parameters of this one were on their way.
  if (sanitizer === undefined || sanitizer.state === 'running') return task.fail(sense.sanitizeInProgress);
  const waits = ((task.cdb[1] ?? 0) & IMMED) === 0;
  const { begun, ended } = sanitizer.begin(order);
  const answered = waits
    ? begun.then(async () => {
        if (!(await ended)) task.fail(sense.sanitizeFailed);
      })
    : begun;
  end(task, answered);
  return step.waiting;
}

export function exitSanitizeFailure(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  if (unit.sanitizer === undefined) return task.fail(sense.invalidOperationCode);
  if (readU16(cdb, at + 7) !== 0) return task.fail(invalidFieldInCdb(7, 7));
  end(
    task,
    unit.sanitizer.exitFailure().then((allowed) => {
      if (!allowed) task.fail(invalidFieldInCdb(1, 4));
    }),
  );
  return step.waiting;
}

/** A task that was aborted meanwhile ends all the same: whoever aborted it knows. */
function end(task: ScsiTask, answered: Promise<void>): void {
  void answered.then(
    () => task.done(undefined),
    (error: unknown) => {
      // A lost disk has been told to the process already, which ends.
      task.done(error instanceof GatewayError ? error : new GatewayError('disk-failed', String(error)));
    },
  );
}
