/**
 * An iSCSI initiator for tests, written from RFC 7143 alone, so that it shares no code with the target that it judges.
 * One session of one connection, no authentication, no digests; writes send what may go unsolicited as immediate data
 * and the rest when the target asks (R2T); any number of commands in flight within the target's window.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const opcode = {
  nopOut: 0x00,
  scsiCommand: 0x01,
  loginRequest: 0x03,
  dataOut: 0x05,
  logout: 0x06,
  nopIn: 0x20,
  scsiResponse: 0x21,
  loginResponse: 0x23,
  dataIn: 0x25,
  logoutResponse: 0x26,
  r2t: 0x31,
  asyncMessage: 0x32,
} as const;
const immediateBit = 0x40;
const finalBit = 0x80;
const noTag = 0xffffffff;
const headerBytes = 48;
const sectorBytes = 512;
const dataSegmentBytesMax = 262_144;

interface Command {
  readonly data: Uint8Array | undefined;
  readonly into: Buffer;
  readonly resolve: (data: Buffer) => void;
  readonly reject: (error: Error) => void;
}

interface Pdu {
  readonly header: Buffer;
  readonly data: Buffer;
}

/** CHECK CONDITION, BUSY and the like, with what the target said about it. */
export class ScsiStatusError extends Error {
  constructor(
    readonly status: number,
    /** undefined where no sense came. */
    readonly sense: { readonly key: number; readonly code: number; readonly qualifier: number } | undefined,
  ) {
    super(`the target answered SCSI status ${status}, sense ${JSON.stringify(sense)}`);
  }
}

export class IscsiClient {
  private readonly commands = new Map<number, Command>();
  private received: Buffer = Buffer.alloc(0);
  private readonly inbox: Pdu[] = [];
  private wakeReader: (() => void) | undefined;
  private readonly blocked: (() => void)[] = [];
  private closedBy: Error | undefined;
  /** The target asked for a logout: no further command is sent. */
  private leaving = false;
  private nextTag = 1;
  private cmdSn = 1;
  private expStatSn = 0;
  private maxCmdSn = 1;
  private immediateBytesMax = 65_536;
  private targetSegmentBytesMax = 8192;

  private constructor(
    private readonly socket: Socket,
    private readonly lun: number,
  ) {
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('error', (error) => this.fail(error));
    socket.on('close', () => this.fail(new Error('the connection was closed')));
  }

  static async connect(port: number, target: string, initiator: string, lun = 0): Promise<IscsiClient> {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    const client = new IscsiClient(socket, lun);
    await client.login(target, initiator);
    void client.serve();
    // The first command of a session may be answered by a UNIT ATTENTION, which is no failure.
    await client.command(Buffer.alloc(16), undefined, 0).catch(() => undefined);
    return client;
  }

  read(offset: number, lengthBytes: number): Promise<Buffer> {
    return this.command(transferCdb(0x88, offset, lengthBytes, false), undefined, lengthBytes);
  }
  async write(offset: number, data: Uint8Array, options: { readonly fua?: boolean } = {}): Promise<void> {
    await this.command(transferCdb(0x8a, offset, data.length, options.fua === true), data, 0);
  }
  /** WRITE SAME (16) of one sector of zeros. */
  async writeZeroes(offset: number, lengthBytes: number): Promise<void> {
    await this.command(transferCdb(0x93, offset, lengthBytes, false), Buffer.alloc(sectorBytes), 0);
  }
  async flush(): Promise<void> {
    const cdb = Buffer.alloc(16);
    cdb[0] = 0x35;
    await this.command(cdb, undefined, 0);
  }
  destroy(): void {
    this.socket.destroy();
  }

  private async login(target: string, initiator: string): Promise<void> {
    const keys = {
      InitiatorName: initiator,
      TargetName: target,
      SessionType: 'Normal',
      HeaderDigest: 'None',
      DataDigest: 'None',
      MaxRecvDataSegmentLength: String(dataSegmentBytesMax),
      MaxBurstLength: '1048576',
      FirstBurstLength: '65536',
      InitialR2T: 'Yes',
      ImmediateData: 'Yes',
      MaxOutstandingR2T: '1',
      MaxConnections: '1',
      ErrorRecoveryLevel: '0',
      DefaultTime2Wait: '2',
      DefaultTime2Retain: '0',
    };
    const text = Object.entries(keys).map(([key, value]) => `${key}=${value}\0`);
    const header = Buffer.alloc(headerBytes);
    header[0] = opcode.loginRequest | immediateBit;
    header[1] = finalBit | (1 << 2) | 3; // From operational negotiation to the full feature phase.
    header.writeUIntBE(0x80_0000_000000 + Math.floor(process.pid), 8, 6);
    header.writeUInt32BE(this.cmdSn, 24);
    this.send(header, Buffer.from(text.join('')));
    const answer = await this.nextPdu();
    const status = answer.header.readUInt16BE(36);
    if ((answer.header[0] ?? 0) !== opcode.loginResponse || status !== 0) throw new Error(`login: status ${status}`);
    this.expStatSn = answer.header.readUInt32BE(24) + 1;
    this.updateWindow(answer.header);
    for (const line of answer.data.toString().split('\0')) this.accept(...splitKey(line));
  }

  private accept(key: string, value: string): void {
    if (key === 'ImmediateData' && value === 'No') this.immediateBytesMax = 0;
    if (key === 'FirstBurstLength') this.immediateBytesMax = Math.min(this.immediateBytesMax, Number(value));
    if (key === 'MaxRecvDataSegmentLength') this.targetSegmentBytesMax = Number(value);
  }

  /** Any command: resolves to what it read; rejects with ScsiStatusError. */
  async command(cdb: Buffer, data: Uint8Array | undefined, readBytes: number): Promise<Buffer> {
    while (this.closedBy === undefined && (this.leaving || ((this.maxCmdSn - this.cmdSn) | 0) < 0)) {
      await new Promise<void>((resolve) => this.blocked.push(resolve));
    }
    if (this.closedBy !== undefined) throw this.closedBy;
    const tag = this.nextTag++;
    const header = Buffer.alloc(headerBytes);
    header[0] = opcode.scsiCommand;
    header[1] = finalBit | (readBytes > 0 ? 0x40 : 0) | (data === undefined ? 0 : 0x20) | 1;
    header[9] = this.lun;
    header.writeUInt32BE(tag, 16);
    header.writeUInt32BE(data?.length ?? readBytes, 20);
    header.writeUInt32BE(this.cmdSn, 24);
    header.writeUInt32BE(this.expStatSn, 28);
    cdb.copy(header, 32);
    this.cmdSn = (this.cmdSn + 1) >>> 0;
    const immediateMax = Math.min(this.immediateBytesMax, this.targetSegmentBytesMax);
    const answer = new Promise<Buffer>((resolve, reject) => {
      this.commands.set(tag, { data, into: Buffer.alloc(readBytes), resolve, reject });
    });
    this.send(header, data?.subarray(0, immediateMax));
    return answer;
  }

  private async serve(): Promise<void> {
    try {
      for (;;) this.handle(await this.nextPdu());
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
      this.socket.destroy();
    }
  }

  private handle({ header, data }: Pdu): void {
    const type = (header[0] ?? 0) & 0x3f;
    const tag = header.readUInt32BE(16);
    if (type === opcode.r2t) {
      this.answerR2t(header);
    } else if (type === opcode.dataIn) {
      data.copy(this.commandOf(tag).into, header.readUInt32BE(40));
      if (((header[1] ?? 0) & 1) !== 0) this.complete(header, data, tag);
    } else if (type === opcode.scsiResponse) {
      this.complete(header, data, tag);
    } else if (type === opcode.nopIn) {
      if (header.readUInt32BE(20) !== noTag) this.answerNop(header);
    } else if (type === opcode.asyncMessage) {
      this.leaving = header[36] === 1;
      this.leaveIfIdle();
    } else if (type === opcode.logoutResponse) {
      this.socket.end();
    } else {
      throw new Error(`the target sent a PDU of type 0x${type.toString(16)}`);
    }
    this.updateWindow(header);
  }

  private complete(header: Buffer, data: Buffer, tag: number): void {
    const command = this.commandOf(tag);
    this.commands.delete(tag);
    this.expStatSn = (header.readUInt32BE(24) + 1) >>> 0;
    const status = header[3] ?? 0;
    if (status === 0) command.resolve(command.into);
    else command.reject(new ScsiStatusError(status, senseOf(data)));
    this.leaveIfIdle();
  }

  private leaveIfIdle(): void {
    if (!this.leaving || this.commands.size > 0) return;
    const header = Buffer.alloc(headerBytes);
    header[0] = opcode.logout | immediateBit;
    header[1] = finalBit;
    header.writeUInt32BE(this.nextTag++, 16);
    header.writeUInt32BE(this.cmdSn, 24);
    header.writeUInt32BE(this.expStatSn, 28);
    this.send(header, undefined);
  }

  private commandOf(tag: number): Command {
    const command = this.commands.get(tag);
    if (command === undefined) throw new Error('an answer to no command');
    return command;
  }

  private answerR2t(r2t: Buffer): void {
    const tag = r2t.readUInt32BE(16);
    const { data } = this.commandOf(tag);
    const start = r2t.readUInt32BE(40);
    const lengthBytes = r2t.readUInt32BE(44);
    if (data === undefined || start + lengthBytes > data.length) throw new Error('an R2T for what was not offered');
    for (let at = 0, dataSn = 0; at < lengthBytes; at += this.targetSegmentBytesMax, dataSn += 1) {
      const end = Math.min(lengthBytes, at + this.targetSegmentBytesMax);
      const header = Buffer.alloc(headerBytes);
      header[0] = opcode.dataOut;
      header[1] = end === lengthBytes ? finalBit : 0;
      header[9] = this.lun;
      header.writeUInt32BE(tag, 16);
      r2t.copy(header, 20, 20, 24);
      header.writeUInt32BE(this.expStatSn, 28);
      header.writeUInt32BE(dataSn, 36);
      header.writeUInt32BE(start + at, 40);
      this.send(header, data.subarray(start + at, start + end));
    }
  }

  private answerNop(nopIn: Buffer): void {
    const header = Buffer.alloc(headerBytes);
    header[0] = opcode.nopOut | immediateBit;
    header[1] = finalBit;
    nopIn.copy(header, 8, 8, 16);
    header.writeUInt32BE(noTag, 16);
    nopIn.copy(header, 20, 20, 24);
    header.writeUInt32BE(this.cmdSn, 24);
    header.writeUInt32BE(this.expStatSn, 28);
    this.send(header, undefined);
  }

  private updateWindow(header: Buffer): void {
    this.maxCmdSn = header.readUInt32BE(32);
    for (const wake of this.blocked.splice(0)) wake();
  }

  private send(header: Buffer, data: Uint8Array | undefined): void {
    const lengthBytes = data?.length ?? 0;
    header.writeUIntBE(lengthBytes, 5, 3);
    this.socket.cork();
    this.socket.write(header);
    if (data !== undefined) this.socket.write(data);
    if (lengthBytes % 4 !== 0) this.socket.write(Buffer.alloc(4 - (lengthBytes % 4)));
    this.socket.uncork();
  }

  private receive(chunk: Buffer): void {
    this.received = this.received.length === 0 ? chunk : Buffer.concat([this.received, chunk]);
    for (;;) {
      if (this.received.length < headerBytes) break;
      const header = this.received.subarray(0, headerBytes);
      const dataBytes = header.readUIntBE(5, 3);
      const wholeBytes = headerBytes + ((dataBytes + 3) & ~3);
      if (this.received.length < wholeBytes) break;
      this.inbox.push({ header, data: this.received.subarray(headerBytes, headerBytes + dataBytes) });
      this.received = this.received.subarray(wholeBytes);
    }
    this.wakeReader?.();
  }

  private async nextPdu(): Promise<Pdu> {
    for (;;) {
      const pdu = this.inbox.shift();
      if (pdu !== undefined) return pdu;
      if (this.closedBy !== undefined) throw this.closedBy;
      await new Promise<void>((resolve) => {
        this.wakeReader = resolve;
      });
    }
  }

  private fail(error: Error): void {
    this.closedBy ??= error;
    for (const command of this.commands.values()) command.reject(this.closedBy);
    this.commands.clear();
    for (const wake of this.blocked.splice(0)) wake();
    this.wakeReader?.();
  }
}

/** Fixed format (SPC-4, 4.5.3), behind its length in two bytes (RFC 7143, 11.4.7.2). */
function senseOf(data: Buffer): ScsiStatusError['sense'] {
  if (data.length < 2 + 14) return undefined;
  return { key: (data[2 + 2] ?? 0) & 0x0f, code: data[2 + 12] ?? 0, qualifier: data[2 + 13] ?? 0 };
}

function splitKey(line: string): [string, string] {
  const at = line.indexOf('=');
  return [line.slice(0, Math.max(at, 0)), line.slice(at + 1)];
}

/** READ (16), WRITE (16) and WRITE SAME (16) have the same places for address and length. */
function transferCdb(code: number, offset: number, lengthBytes: number, fua: boolean): Buffer {
  const cdb = Buffer.alloc(16);
  cdb[0] = code;
  cdb[1] = fua ? 0x08 : 0;
  cdb.writeBigUInt64BE(BigInt(offset / sectorBytes), 2);
  cdb.writeUInt32BE(lengthBytes / sectorBytes, 10);
  return cdb;
}
