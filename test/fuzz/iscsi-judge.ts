/**
 * What a target may answer (RFC 7143): judged by what the initiator sent, with code of its own. It never says what the
 * right answer to a broken request is, only which answers no state allows.
 */
import { strict as assert } from 'node:assert';
import type { Pdu } from '../fake/iscsi-client.js';

interface Command {
  readonly tag: number;
  readonly opcode: number;
  readonly expectedBytes: number;
  readonly reads: boolean;
  readonly writes: boolean;
  readonly cdbOpcode: number;
  readonly cmdSn: number;
  /** Of a task management function: the commands that end with it, all asked before it. */
  readonly aborts: readonly Command[];
  sentBytes: number;
  dataSn: number;
  r2tSn: number;
}

/** Opcodes of a target by what they answer; undefined: they answer nothing. */
const answerTo: Readonly<Record<number, number | undefined>> = {
  0x20: 0x00,
  0x21: 0x01,
  0x22: 0x02,
  0x23: 0x03,
  0x24: 0x04,
  0x25: 0x01,
  0x26: 0x06,
  0x31: 0x01,
};
const statuses: ReadonlySet<number> = new Set([0x00, 0x02, 0x04, 0x08, 0x18, 0x28, 0x30, 0x40]);
const NO_TAG = 0xffffffff;
const ABORT_TASK = 1;
/** ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET, TARGET WARM RESET. */
const abortingAll: ReadonlySet<number> = new Set([2, 4, 5, 6]);
const INVALID_DURING_LOGIN = 0x020b;

const isBefore = (left: number, right: number): boolean => ((left - right) | 0) < 0;

/** Requests that have no number, or are always immediate: Login, Data-Out, SNACK. */
export const unnumbered: ReadonlySet<number> = new Set([0x03, 0x05, 0x10]);
const DATA_DIGEST_ERROR = 0x02;

/** What is rejected was received, so that its number is acknowledged, but for damaged PDUs, which are not (4.2.2.1, 7.8). */
function judgeReject({ header, data }: Pdu): void {
  const [first, cmdSn, expCmdSn] = [data[0]!, data.readUInt32BE(24), header.readUInt32BE(28)];
  const opcode = first & 0x3f;
  const isNumbered = (first & 0x40) === 0 && opcode < 0x20 && !unnumbered.has(opcode);
  if (!isNumbered || header[2] === DATA_DIGEST_ERROR) return;
  assert.ok(isBefore(cmdSn, expCmdSn), `what is rejected has used its number ${cmdSn} up, not ${expCmdSn}`);
}

/** One connection. */
export class IscsiJudge {
  /** By task tag: requests of that tag that may be answered. */
  private readonly asked = new Map<number, Command[]>();
  /** Tags that were used again before they were answered: nobody can tell which request an answer is for. */
  private readonly ambiguous = new Set<number>();
  private loggedIn = false;
  private statSn: number | undefined;
  private maxCmdSn: number | undefined;
  /** What has been seen, in words; for the search for new behaviour. */
  readonly seen: string[] = [];

  /** The initiator has sent the header of a PDU, whole or not. */
  sent(header: Buffer): void {
    const opcode = header[0]! & 0x3f;
    const isCommand = opcode === 0x01;
    const flags = header[1]!;
    const tag = header.readUInt32BE(16);
    const command: Command = {
      tag,
      opcode,
      expectedBytes: isCommand ? header.readUInt32BE(20) : 0,
      reads: isCommand && (flags & 0x40) !== 0,
      writes: isCommand && (flags & 0x20) !== 0,
      cdbOpcode: header[32]!,
      cmdSn: header.readUInt32BE(24),
      aborts: opcode === 0x02 ? this.abortedBy(header) : [],
      sentBytes: 0,
      dataSn: 0,
      r2tSn: 0,
    };
    const before = this.asked.get(tag) ?? [];
    if (before.length > 0) this.ambiguous.add(tag);
    this.asked.set(tag, [...before, command]);
  }

  received(pdu: Pdu): void {
    const { opcode, header, flags } = pdu;
    const tag = header.readUInt32BE(16);
    if (!this.loggedIn) assert.ok(opcode === 0x23 || opcode === 0x3f, `opcode ${opcode.toString(16)} before the login`);
    this.judgeNumbers(pdu);
    const name = opcode.toString(16);
    if (opcode === 0x23) this.judgeLogin(pdu);
    if (opcode === 0x3f) {
      assert.ok(header[2]! > 0 && header[2]! <= 0x0c, 'a reject has a reason');
      this.seen.push(`reject ${header[2]!.toString(16)}`);
      judgeReject(pdu);
      return;
    }
    // Whatever comes in the place of a login is answered as one (6.3).
    if (opcode === 0x23 && header.readUInt16BE(36) === INVALID_DURING_LOGIN) return;
    if (opcode === 0x20 && tag === NO_TAG) return;
    if (opcode === 0x32) return;
    const wanted = answerTo[opcode];
    assert.ok(wanted !== undefined, `a target does not send opcode ${name}`);
    const candidates = (this.asked.get(tag) ?? []).filter(({ opcode: asked }) => asked === wanted);
    assert.ok(candidates.length > 0, `opcode ${name} answers nothing that was asked under tag ${tag}`);
    const only = this.ambiguous.has(tag) ? undefined : candidates[0];
    if (only !== undefined && opcode === 0x25) this.judgeData(only, pdu);
    if (only !== undefined && opcode === 0x31) this.judgeReadyToTransfer(only, pdu);
    if (opcode === 0x21) this.judgeStatus(only, pdu);
    if (opcode === 0x22) this.judgeTaskManagement(only, header[2]!);
    if (opcode === 0x26) this.seen.push(`logout ${header[2]!}`);
    const goesOn = opcode === 0x31 || (opcode === 0x25 && (flags & 1) === 0);
    if (goesOn) return;
    const all = this.asked.get(tag) ?? [];
    all.splice(all.indexOf(candidates[0]!), 1);
  }

  /** What came before in the order of numbers, and waits for its answer on this connection (11.5.1, 4.2.3.3). */
  private abortedBy(header: Buffer): readonly Command[] {
    const wanted = header[1]! & 0x7f;
    const cmdSn = header.readUInt32BE(24);
    if (wanted === ABORT_TASK) {
      const tag = header.readUInt32BE(20);
      // Of two under one tag, which there must not be, it ends one, and nobody can tell which.
      return this.ambiguous.has(tag) ? [] : [...(this.asked.get(tag) ?? [])];
    }
    if (!abortingAll.has(wanted) || header.readBigUInt64BE(8) !== 0n) return [];
    return [...this.asked.values()].flat().filter((each) => each.opcode === 0x01 && isBefore(each.cmdSn, cmdSn));
  }

  /** Behind the answer to a function nothing comes of the tasks that it ends (7.4, 11.5.1). */
  private judgeTaskManagement(only: Command | undefined, response: number): void {
    this.seen.push(`tmf ${response}`);
    if (response !== 0) return;
    for (const aborted of only?.aborts ?? []) {
      const left = (this.asked.get(aborted.tag) ?? []).filter((each) => each !== aborted);
      this.asked.set(aborted.tag, left);
    }
  }

  private judgeNumbers({ opcode, header, flags }: Pdu): void {
    const expCmdSn = header.readUInt32BE(28);
    const maxCmdSn = header.readUInt32BE(32);
    assert.ok(!isBefore((maxCmdSn + 1) >>> 0, expCmdSn), `MaxCmdSN ${maxCmdSn} is behind ExpCmdSN ${expCmdSn}`);
    if (this.maxCmdSn !== undefined && opcode !== 0x23)
      assert.ok(!isBefore(maxCmdSn, this.maxCmdSn), `MaxCmdSN went back from ${this.maxCmdSn} to ${maxCmdSn}`);
    this.maxCmdSn = maxCmdSn;
    const asksOnly = opcode === 0x31 || (opcode === 0x20 && header.readUInt32BE(16) === NO_TAG);
    if (opcode === 0x25 && (flags & 1) === 0) return;
    const statSn = header.readUInt32BE(24);
    if (this.statSn !== undefined) assert.equal(statSn, this.statSn, 'StatSN goes on by one (4.2.2.2)');
    this.statSn = asksOnly ? statSn : (statSn + 1) >>> 0;
  }

  private judgeLogin({ header, flags }: Pdu): void {
    const status = header.readUInt16BE(36);
    this.seen.push(`login ${status.toString(16)}`);
    if (status === 0 && (flags & 0x83) === 0x83) this.loggedIn = true;
  }

  private judgeData(command: Command, { header, data, flags }: Pdu): void {
    assert.equal(header.readUInt32BE(40), command.sentBytes, 'data come in order (11.7)');
    assert.equal(header.readUInt32BE(36), command.dataSn, 'DataSN goes on by one');
    command.dataSn++;
    command.sentBytes += data.length;
    assert.ok(command.reads, 'data for a command that reads');
    if (!command.writes)
      assert.ok(command.sentBytes <= command.expectedBytes, 'no more data than the initiator has room for');
    if ((flags & 1) === 0) return;
    assert.equal(header[3], 0, 'status with data is GOOD here');
    this.seen.push(`data ${command.cdbOpcode.toString(16)} ${Math.ceil(Math.log2(command.sentBytes + 1))}`);
    if ((flags & 2) !== 0)
      assert.equal(
        header.readUInt32BE(44) + command.sentBytes,
        command.expectedBytes,
        'the residual is what is missing',
      );
  }

  private judgeReadyToTransfer(command: Command, { header }: Pdu): void {
    assert.ok(command.writes, 'data are asked for by a command that writes');
    assert.equal(header.readUInt32BE(36), command.r2tSn, 'R2TSN goes on by one');
    command.r2tSn++;
    const [offset, length] = [header.readUInt32BE(40), header.readUInt32BE(44)];
    assert.ok(length > 0 && offset + length <= command.expectedBytes, 'no more is asked for than the initiator has');
  }

  private judgeStatus(command: Command | undefined, { header, data, flags }: Pdu): void {
    const status = header[3]!;
    assert.ok(statuses.has(status), `status ${status.toString(16)} is one of SAM-5`);
    assert.ok((flags & 6) !== 6, 'residual overflow and underflow exclude each other (11.4.1)');
    assert.equal(status === 2, data.length > 0, 'CHECK CONDITION, and nothing else, has sense data');
    let sense = '';
    if (status === 2) {
      assert.ok(data.readUInt16BE(0) + 2 <= data.length, 'the sense data are there');
      const code = data[2]! & 0x7f;
      assert.ok(code === 0x70 || code === 0x72, 'the sense data are current ones');
      const at = code === 0x70 ? [4, 14, 15] : [3, 4, 5];
      sense = at.map((position) => data[position]!.toString(16)).join('/');
    }
    const cdb = command?.cdbOpcode.toString(16) ?? '?';
    this.seen.push(`status ${cdb} ${status.toString(16)} ${sense}`);
  }
}
