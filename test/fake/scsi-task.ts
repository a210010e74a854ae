/** A ScsiTask whose transport is the test: commands are run to their end against a unit, data included. */
import type { GatewayError } from '../../src/base/errors.js';
import type { LogicalUnit } from '../../src/scsi/logical-unit.js';
import type { Nexus } from '../../src/scsi/nexus.js';
import { ScsiTask, step } from '../../src/scsi/task.js';
import type { Step } from '../../src/scsi/task.js';

export class TestTask extends ScsiTask {
  offeredBytes = 0;
  #ended: ((error: GatewayError | undefined) => void) | undefined;

  /** Resolves when `done` was called. */
  readonly end = new Promise<GatewayError | undefined>((resolve) => (this.#ended = resolve));

  done(error: GatewayError | undefined): void {
    this.#ended?.(error);
  }
}

export interface Result {
  readonly step: Step;
  readonly status: number;
  /** "key/asc/ascq" in hexadecimal, with "@byte.bit" of a wrong field. */
  readonly sense: string | undefined;
  readonly data: Buffer;
  readonly task: TestTask;
}

export class ScsiHost {
  readonly unit: LogicalUnit;
  readonly nexus: Nexus;

  constructor(unit: LogicalUnit, initiatorPort = 'iqn.2026-11.test:initiator,i,0x800000000001') {
    this.unit = unit;
    this.nexus = unit.attach(initiatorPort);
  }

  /** Runs a command; `dataOut` is what it may collect. A READ or WRITE ends with its step: the medium is the transport's. */
  async run(
    cdb: readonly number[],
    dataOut: Uint8Array = new Uint8Array(0),
    whileCollected?: () => Promise<void>,
  ): Promise<Result> {
    const task = new TestTask();
    task.offeredBytes = dataOut.length;
    const bytes = new Uint8Array(20);
    bytes.set(cdb, 4);
    const first = this.unit.begin(this.nexus, task, bytes, 4);
    let next = first;
    if (next === step.collect) await whileCollected?.();
    if (next === step.collect) next = this.unit.accept(task, dataOut.subarray(0, task.parameterBytes));
    if (next === step.waiting) {
      this.unit.device.commit();
      const error = await task.end;
      if (error !== undefined) this.unit.refuse(task, error);
    }
    return { step: first, status: task.status, sense: describe(task), data: Buffer.from(task.response), task };
  }

  /** Takes what is pending, so that the next command is served. */
  async ready(): Promise<this> {
    // What is reserved by another is no attention.
    while ((await this.run([0])).status === 2);
    return this;
  }
}

function describe(task: ScsiTask): string | undefined {
  if (task.sense === undefined) return undefined;
  const { key, asc, ascq, field } = task.sense;
  const hex = (value: number): string => value.toString(16).padStart(2, '0');
  const where = field === undefined ? '' : `@${field.byte}.${field.bit}`;
  return `${key.toString(16)}/${hex(asc)}/${hex(ascq)}${where}`;
}
