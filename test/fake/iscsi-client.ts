/**
 * An iSCSI initiator for tests, over a MemoryStream: builds PDUs by RFC 7143 with its own code, byte by byte, and takes
 * the target's apart. It does what a test says, right or wrong; only sequence numbers and digests it keeps by itself.
 */
import assert from 'node:assert/strict';
import { IscsiTarget } from '../../src/frontends/iscsi/target.js';
import type { IscsiTargetOptions } from '../../src/frontends/iscsi/target.js';
import { plainChecksums } from './checksums.js';
import { ManualClock } from './clock.js';
import { RecordedLog } from './log.js';
import { MemoryDevice, MemoryDirectory, MemoryVolume } from './memory-device.js';
import { joined, MemoryStreamFactory, settled } from './memory-stream.js';
import type { MemoryStream } from './memory-stream.js';
import { SeededRandom } from './random.js';

export const PREFIX = 'iqn.2026-11.io.keepgate';
export const INITIATOR = 'iqn.2026-11.test:initiator';
export const NO_TAG = 0xffffffff;

export interface Pdu {
  readonly opcode: number;
  readonly flags: number;
  readonly header: Buffer;
  readonly data: Buffer;
}

/** A target over volumes in memory, with everything that a test may want to look at. */
export interface Rig {
  readonly target: IscsiTarget;
  readonly streams: MemoryStreamFactory;
  readonly device: MemoryDevice;
  readonly volume: MemoryVolume;
  readonly directory: MemoryDirectory;
  readonly clock: ManualClock;
  readonly log: RecordedLog;
  connect(): IscsiClient;
}

export async function createRig(
  given: {
    device?: MemoryDevice;
    volume?: MemoryVolume;
    directory?: MemoryDirectory;
    options?: Partial<IscsiTargetOptions['options']>;
  } = {},
): Promise<Rig> {
  const device = given.device ?? new MemoryDevice({ sizeBytes: 1024 * 1024 });
  const volume = given.volume ?? new MemoryVolume(device);
  const directory = given.directory ?? new MemoryDirectory(volume);
  const streams = new MemoryStreamFactory();
  const clock = new ManualClock();
  const log = new RecordedLog();
  const target = new IscsiTarget({
    directory,
    streams,
    clock,
    log,
    checksums: plainChecksums,
    random: new SeededRandom(1),
    options: { targetPrefix: PREFIX, advertise: [], digests: 'offered', ...given.options },
  });
  await target.listen([{ kind: 'tcp', host: '127.0.0.1', port: 3260 }]);
  const connect = (): IscsiClient => {
    const stream = streams.connect();
    assert(stream, 'the target accepts');
    return new IscsiClient(stream);
  };
  return { target, streams, device, volume, directory, clock, log, connect };
}

/** A session of two connections, which holds the volume. */
export async function createPair(
  given: Parameters<typeof createRig>[0] & { rig?: Rig } = {},
  keys: Readonly<Record<string, string>> = {},
): Promise<{ rig: Rig; first: IscsiClient; second: IscsiClient }> {
  const rig = given.rig ?? (await createRig(given));
  const first = rig.connect();
  first.login({ MaxConnections: '8', ...keys });
  await first.ready();
  const second = rig.connect();
  second.join(first, 1);
  return { rig, first, second };
}

export interface CommandOptions {
  readonly itt?: number;
  readonly read?: number;
  readonly write?: number;
  readonly data?: Uint8Array;
  readonly final?: boolean;
  readonly immediate?: boolean;
  readonly cmdSn?: number;
  readonly lun?: number;
  /** Additional header segments, whole words. */
  readonly ahs?: Uint8Array;
}

export class IscsiClient {
  readonly stream: MemoryStream;
  headerDigest = false;
  dataDigest = false;
  /** Shared by the connections of a session. */
  numbers = { cmdSn: 1, itt: 100 };
  isid = '800000000001';
  /** Of the session, once logged in. */
  tsih = 0;
  cid = 0;
  #unparsed = Buffer.alloc(0);

  constructor(stream: MemoryStream) {
    this.stream = stream;
  }

  get cmdSn(): number {
    return this.numbers.cmdSn;
  }
  set cmdSn(value: number) {
    this.numbers.cmdSn = value;
  }
  get itt(): number {
    return this.numbers.itt;
  }
  set itt(value: number) {
    this.numbers.itt = value;
  }

  // Sending

  /** Keeps what `act` sends on its way; the returned function lets it arrive. */
  delay(act: () => void): () => void {
    const sent: Uint8Array[] = [];
    this.stream.feed = (bytes) => void sent.push(Uint8Array.from(bytes));
    act();
    // The method of the class is visible again.
    Reflect.deleteProperty(this.stream, 'feed');
    return () => this.stream.feed(Buffer.concat(sent));
  }

  /** Lays a PDU out: header with the length of its data filled in, digests, padding. */
  encode(header: Buffer, data: Uint8Array = new Uint8Array(0)): Buffer {
    header.writeUIntBE(data.length, 5, 3);
    const parts: Uint8Array[] = [header];
    if (this.headerDigest) parts.push(digest(header));
    if (data.length > 0) {
      const padded = Buffer.concat([data, Buffer.alloc(-data.length & 3)]);
      parts.push(padded);
      if (this.dataDigest) parts.push(digest(padded));
    }
    return Buffer.concat(parts);
  }

  send(header: Buffer, data?: Uint8Array): void {
    this.stream.feed(this.encode(header, data));
  }

  loginHeader(options: { flags: number; tsih?: number; cid?: number; itt?: number; versionMin?: number }): Buffer {
    const header = Buffer.alloc(48);
    header[0] = 0x43;
    header[1] = options.flags;
    header[3] = options.versionMin ?? 0;
    header.write(this.isid, 8, 'hex');
    header.writeUInt16BE(options.tsih ?? this.tsih, 14);
    header.writeUInt32BE(options.itt ?? 1, 16);
    header.writeUInt16BE(options.cid ?? this.cid, 20);
    header.writeUInt32BE(this.cmdSn, 24);
    return header;
  }

  /** One login request and its response. */
  loginStep(
    keys: Readonly<Record<string, string>> | string,
    options: { csg: number; nsg?: number; more?: boolean; tsih?: number; cid?: number; versionMin?: number },
    encoding: BufferEncoding = 'utf8',
  ): Pdu {
    const transit = options.nsg === undefined ? 0 : 0x80 | options.nsg;
    const flags = transit | (options.csg << 2) | (options.more === true ? 0x40 : 0);
    this.send(
      this.loginHeader({ ...options, flags }),
      typeof keys === 'string' ? Buffer.from(keys, encoding) : text(keys),
    );
    return this.one();
  }

  /** Logs in to volume `demo` (or another), from the operational stage straight to full feature. */
  login(keys: Readonly<Record<string, string>> = {}, target = `${PREFIX}:demo`): Record<string, string> {
    const names = { InitiatorName: INITIATOR, SessionType: 'Normal', TargetName: target };
    const wanted = { MaxRecvDataSegmentLength: '262144', ...keys };
    return this.#logIn({ ...names, ...wanted });
  }

  /** Logs in as another connection of that client's session, or, with its CID, in its place. */
  join(first: IscsiClient, cid: number, keys: Readonly<Record<string, string>> = {}): Record<string, string> {
    this.numbers = first.numbers;
    this.isid = first.isid;
    this.tsih = first.tsih;
    this.cid = cid;
    return this.login(keys);
  }

  discover(): Record<string, string> {
    return this.#logIn({ InitiatorName: INITIATOR, SessionType: 'Discovery' });
  }

  #logIn(keys: Record<string, string>): Record<string, string> {
    const response = this.loginStep(keys, { csg: 1, nsg: 3 });
    assert.equal(response.opcode, 0x23);
    assert.equal(response.header.readUInt16BE(36), 0, 'the login succeeds');
    assert.equal(response.flags, 0x87);
    const answers = parse(response.data);
    this.tsih = response.header.readUInt16BE(14);
    this.headerDigest = answers['HeaderDigest'] === 'CRC32C';
    this.dataDigest = answers['DataDigest'] === 'CRC32C';
    return answers;
  }

  /** Sends a SCSI command; returns its task tag. */
  command(cdb: readonly number[], options: CommandOptions = {}): number {
    const itt = options.itt ?? this.itt++;
    const header = this.#numbered(options.immediate === true ? 0x41 : 0x01, itt, options);
    const read = options.read === undefined ? 0 : 0x40;
    const write = options.write === undefined ? 0 : 0x20;
    header[1] = (options.final === false ? 0 : 0x80) | read | write | 1;
    header.writeUInt16BE(options.lun ?? 0, 8);
    header.writeUInt32BE(options.write ?? options.read ?? 0, 20);
    header.set(cdb, 32);
    header[4] = (options.ahs?.length ?? 0) / 4;
    this.send(Buffer.concat([header, options.ahs ?? new Uint8Array(0)]), options.data);
    return itt;
  }

  dataOut(
    itt: number,
    data: Uint8Array,
    options: { offset: number; ttt?: number; dataSn?: number; final?: boolean },
  ): void {
    const header = Buffer.alloc(48);
    header[0] = 0x05;
    header[1] = options.final === false ? 0 : 0x80;
    header.writeUInt32BE(itt, 16);
    header.writeUInt32BE(options.ttt ?? NO_TAG, 20);
    header.writeUInt32BE(options.dataSn ?? 0, 36);
    header.writeUInt32BE(options.offset, 40);
    this.send(header, data);
  }

  nopOut(options: { itt?: number; ttt?: number; data?: Uint8Array; immediate?: boolean } = {}): number {
    const itt = options.itt ?? this.itt++;
    const header = this.#numbered(options.immediate === false ? 0x00 : 0x40, itt, {
      immediate: options.immediate !== false,
    });
    header[1] = 0x80;
    header.writeUInt32BE(options.ttt ?? NO_TAG, 20);
    this.send(header, options.data);
    return itt;
  }

  text(data: Uint8Array, options: { ttt?: number; flags?: number } = {}): void {
    const header = this.#numbered(0x04, this.itt++, {});
    header[1] = options.flags ?? 0x80;
    header.writeUInt32BE(options.ttt ?? NO_TAG, 20);
    this.send(header, data);
  }

  logout(reason = 0, cid = 0): void {
    const header = this.#numbered(0x06, this.itt++, {});
    header[1] = 0x80 | reason;
    header.writeUInt16BE(cid, 20);
    this.send(header);
  }

  taskManagement(
    wanted: number,
    options: { referenced?: number; refCmdSn?: number; lun?: number; immediate?: boolean } = {},
  ): void {
    const immediate = options.immediate !== false;
    const header = this.#numbered(immediate ? 0x42 : 0x02, this.itt++, { immediate });
    header.writeUInt32BE(options.refCmdSn ?? 0, 32);
    header[1] = 0x80 | wanted;
    header.writeUInt16BE(options.lun ?? 0, 8);
    header.writeUInt32BE(options.referenced ?? NO_TAG, 20);
    this.send(header);
  }

  #numbered(code: number, itt: number, options: { immediate?: boolean; cmdSn?: number }): Buffer {
    const header = Buffer.alloc(48);
    header[0] = code;
    header.writeUInt32BE(itt, 16);
    header.writeUInt32BE(options.cmdSn ?? this.cmdSn, 24);
    if (options.immediate !== true && options.cmdSn === undefined) this.cmdSn = (this.cmdSn + 1) >>> 0;
    return header;
  }

  // Receiving

  /** Every PDU that has come since the last call. */
  pdus(): Pdu[] {
    this.#unparsed = Buffer.concat([this.#unparsed, this.stream.output()]);
    const pdus: Pdu[] = [];
    for (;;) {
      const pdu = this.#next();
      if (pdu === undefined) return pdus;
      pdus.push(pdu);
    }
  }

  /** The one PDU that has come. */
  one(): Pdu {
    const pdus = this.pdus();
    assert.equal(pdus.length, 1, `one PDU, not ${pdus.map((pdu) => pdu.opcode.toString(16)).join(' ')}`);
    return pdus[0]!;
  }

  #next(): Pdu | undefined {
    const bytes = this.#unparsed;
    if (bytes.length < 48) return undefined;
    const dataBytes = bytes.readUIntBE(5, 3);
    const dataAt = 48 + (this.headerDigest ? 4 : 0);
    const dataEnd = dataAt + dataBytes + (-dataBytes & 3);
    const end = dataEnd + (this.dataDigest && dataBytes > 0 ? 4 : 0);
    if (bytes.length < end) return undefined;
    if (this.headerDigest) assert.deepEqual(bytes.subarray(48, 52), digest(bytes.subarray(0, 48)), 'header digest');
    if (end > dataEnd)
      assert.deepEqual(bytes.subarray(dataEnd, end), digest(bytes.subarray(dataAt, dataEnd)), 'data digest');
    this.#unparsed = bytes.subarray(end);
    return {
      opcode: bytes[0]! & 0x3f,
      flags: bytes[1]!,
      header: bytes.subarray(0, 48),
      data: bytes.subarray(dataAt, dataAt + dataBytes),
    };
  }

  /** Runs a command to its end, with what arrives after everything has settled. */
  async run(cdb: readonly number[], options: CommandOptions = {}): Promise<Outcome> {
    const itt = this.command(cdb, options);
    await settled();
    return outcome(this.pdus(), itt);
  }

  /** A TEST UNIT READY that takes the power-on attention, and a READ that takes the volume. */
  async ready(): Promise<void> {
    await this.run([0]);
    const taken = await this.run(read10(0, 1), { read: 512 });
    assert.equal(taken.status, 0);
  }
}

export interface Outcome {
  readonly status: number;
  readonly data: Buffer;
  /** [key, ASC, ASCQ] of fixed-format sense data. */
  readonly sense: readonly number[] | undefined;
  readonly residual: number;
  readonly flags: number;
}

/** What a command's PDUs come to. */
export function outcome(pdus: readonly Pdu[], itt: number): Outcome {
  const data: Buffer[] = [];
  for (const pdu of pdus) {
    if (pdu.header.readUInt32BE(16) !== itt) continue;
    if (pdu.opcode === 0x25) {
      assert.equal(
        pdu.header.readUInt32BE(40),
        data.reduce((sum, part) => sum + part.length, 0),
        'data in order',
      );
      data.push(pdu.data);
      if ((pdu.flags & 1) === 0) continue;
      const residual = pdu.header.readUInt32BE(44);
      return { status: pdu.header[3]!, data: Buffer.concat(data), sense: undefined, residual, flags: pdu.flags };
    }
    assert.equal(pdu.opcode, 0x21);
    const raw = pdu.data.length === 0 ? undefined : pdu.data.subarray(2, 2 + pdu.data.readUInt16BE(0));
    return {
      status: pdu.header[3]!,
      data: Buffer.concat(data),
      sense: raw === undefined ? undefined : [raw[2]! & 0xf, raw[12]!, raw[13]!],
      residual: pdu.header.readUInt32BE(44),
      flags: pdu.flags,
    };
  }
  assert.fail(`no answer to ${itt}`);
}

function digest(bytes: Uint8Array): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(plainChecksums.crc32c(0, bytes, 0, bytes.length));
  return out;
}

export function text(keys: Readonly<Record<string, string>>): Buffer {
  return Buffer.from(
    Object.entries(keys)
      .map(([key, value]) => `${key}=${value}\0`)
      .join(''),
  );
}

export function parse(data: Uint8Array): Record<string, string> {
  const items = Buffer.from(data).toString().split('\0').filter(Boolean);
  return Object.fromEntries(items.map((item) => [item.slice(0, item.indexOf('=')), item.slice(item.indexOf('=') + 1)]));
}

export function read10(lba: number, blocks: number): number[] {
  return [0x28, 0, ...bytes32(lba), 0, blocks >> 8, blocks & 0xff, 0];
}

export function write10(lba: number, blocks: number, flags = 0): number[] {
  return [0x2a, flags, ...bytes32(lba), 0, blocks >> 8, blocks & 0xff, 0];
}

export function bytes32(value: number): number[] {
  return [(value >>> 24) & 0xff, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff];
}

/** Bytes that differ everywhere, so that a piece in the wrong place shows. */
export function pattern(lengthBytes: number, seed = 7): Buffer {
  return Buffer.from(new SeededRandom(seed).bytes(lengthBytes));
}

export { joined, settled };
