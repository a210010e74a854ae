/**
 * A SCSI command as iSCSI carries it. Pooled per connection, to which the command has allegiance (RFC 7143, section
 * 4.2.2.3): a READ or WRITE allocates nothing.
 *
 * Where its data-out stands is one of `dataOut`'s states; data always arrive in order (DataPDUInOrder,
 * DataSequenceInOrder), so one count of received bytes says everything.
 */
import type { GatewayError } from '../../base/errors.js';
import type { PartialWrite } from '../../ports/block-device.js';
import { scsiStatus } from '../../scsi/sense.js';
import type { Sense } from '../../scsi/sense.js';
import { otherOp, ScsiTask } from '../../scsi/task.js';
import type { LogicalUnit } from '../../scsi/logical-unit.js';
import type { PduBuffer } from './pdu-buffer.js';
import type { EarlyCommand } from './command-window.js';
import { NO_TAG } from './wire.js';

export interface TaskOwner {
  /** The device or the unit has ended what a task left to it. */
  ended(task: IscsiTask, error: GatewayError | undefined): void;
}

/** What becomes of data-out that arrive. */
export const dataOut = {
  none: 0,
  /** They go into `write`. */
  write: 1,
  /** They go into `stash`: the device, or the right to use it, is being waited for. */
  stash: 2,
  /** They go into `stash`: a parameter list. */
  parameters: 3,
  /** Dropped: the command has failed already, its status follows the last unsolicited data. */
  drop: 4,
  /** A write of which nothing has come: memory for it is taken when a part does. */
  ready: 5,
} as const;
export type DataOutState = (typeof dataOut)[keyof typeof dataOut];

export class IscsiTask extends ScsiTask {
  /** In use. */
  active = false;
  /** The device or the unit works on it: `done` will come. */
  running = false;
  immediate = false;
  /** Its number is not due: it waits in the session's window, and takes no place in it yet. */
  early: EarlyCommand | undefined;
  initiatorTaskTag = NO_TAG;
  startedMs = 0;
  /** undefined: the command is for a LUN that does not exist. */
  unit: LogicalUnit | undefined;
  /** What the initiator made room for, and what it has to send. */
  expectedInBytes = 0;
  expectedOutBytes = 0;
  /** R and W are both set: then expectedInBytes is what the additional header says. */
  bidirectional = false;
  /** What is wrong with the data that it brought. */
  unwelcome: Sense | undefined;
  /** It is a READ or WRITE: lengthBytes is its transfer length. */
  movesMedium = false;

  // data-in
  sentBytes = 0;
  dataSn = 0;
  /** Of a read that still runs: where its Data-In PDU is being built. */
  lent: PduBuffer | undefined;
  lentAt = 0;
  segmentBytes = 0;

  // data-out
  outState: DataOutState = dataOut.none;
  /** Data-out bytes that are used; what the initiator sends beyond is dropped. */
  wantedBytes = 0;
  receivedBytes = 0;
  write: PartialWrite | undefined;
  stash: Uint8Array | undefined;
  /** Of the unit's memory for what commands gather. */
  gatheredBytes = 0;
  /** Unsolicited data are still to come. */
  unsolicited = false;
  /** A PDU with data for it has begun and not ended. */
  receiving = false;
  nextDataSn = 0;
  /** R2T k asks for the k-th burst from `solicitedFrom` on. */
  solicitedFrom = 0;
  r2tSent = 0;
  r2tDone = 0;
  transferTag = NO_TAG;

  readonly #owner: TaskOwner;

  constructor(owner: TaskOwner) {
    super();
    this.#owner = owner;
  }

  /** Bytes that the command itself moves, or moved: what the residual count is the difference to (11.4.5). */
  get actualBytes(): number {
    if (this.status !== scsiStatus.good) return this.sentBytes;
    return this.movesMedium ? this.lengthBytes : this.parameterBytes + this.response.length;
  }

  get offeredBytes(): number {
    return this.expectedOutBytes;
  }

  done(error: GatewayError | undefined): void {
    this.#owner.ended(this, error);
  }
}

export class TaskPool {
  readonly #owner: TaskOwner;
  readonly #all: IscsiTask[] = [];
  readonly #free: IscsiTask[] = [];

  constructor(owner: TaskOwner) {
    this.#owner = owner;
  }

  /** Tasks that were ever made; look at `active`. */
  get all(): readonly IscsiTask[] {
    return this.#all;
  }

  get activeCount(): number {
    return this.#all.length - this.#free.length;
  }

  take(): IscsiTask {
    let task = this.#free.pop();
    if (task === undefined) {
      task = new IscsiTask(this.#owner);
      this.#all.push(task);
    }
    task.active = true;
    task.aborted = false;
    task.status = scsiStatus.good;
    task.running = false;
    task.early = undefined;
    task.op = otherOp;
    task.movesMedium = false;
    task.sentBytes = 0;
    task.dataSn = 0;
    task.outState = dataOut.none;
    task.wantedBytes = 0;
    task.receivedBytes = 0;
    task.unsolicited = false;
    task.receiving = false;
    task.nextDataSn = 0;
    task.r2tSent = 0;
    task.r2tDone = 0;
    return task;
  }

  giveBack(task: IscsiTask): void {
    task.active = false;
    if (task.gatheredBytes > 0) task.unit?.ungather(task.gatheredBytes);
    task.gatheredBytes = 0;
    task.stash = undefined;
    task.write = undefined;
    task.lent = undefined;
    this.#free.push(task);
  }
}
