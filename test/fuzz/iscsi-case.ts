/**
 * What a fuzzed iSCSI session consists of, how a new one is made, and how one is made of another.
 *
 * A case is a list of steps in JSON, so that it can be kept and run again whatever becomes of the generator. What depends
 * on the target's answers (command numbers, transfer tags) is left to the run unless a step says otherwise.
 */
import { commands } from '../../src/scsi/command-table.js';
import type { SeededRandom } from '../fake/random.js';

export interface PduStep {
  readonly kind: 'pdu';
  /** Which of the connections; it is made when it is first used. */
  readonly connection: number;
  /** 48 bytes in hexadecimal; data length and command number are filled in where the step does not say. */
  readonly header: string;
  /** Additional header segments in hexadecimal. */
  readonly ahs?: string;
  /** Text, or so many bytes of one value. */
  readonly data: string | { readonly bytes: number; readonly value: number };
  /** Instead of the true length. */
  readonly dataLength?: number;
  /** Added to the right command number; undefined: the header's own is sent. */
  readonly cmdSnOff?: number;
  /** Task tag, transfer tag and offset of the newest R2T. */
  readonly answersR2t?: boolean;
  /** Referenced task tag of the newest command. */
  readonly refersToLast?: boolean;
  /** Tag of the newest NOP-In that asks for an answer. */
  readonly answersPing?: boolean;
  readonly wrongDigest?: 'header' | 'data';
  /** Where the bytes are cut; between two pieces everything runs that is ready. */
  readonly cuts: readonly number[];
}

export type Step =
  | PduStep
  /** What is ready runs; the device ends what it holds. */
  | { readonly kind: 'settle' }
  /** The peer stops reading, or reads on. */
  | { readonly kind: 'stall' | 'take'; readonly connection: number }
  /** Reads and flushes wait from now on, until the next `settle`. */
  | { readonly kind: 'hold' }
  | { readonly kind: 'close'; readonly connection: number }
  /** The clock goes on. */
  | { readonly kind: 'wait'; readonly ms: number };

export type Case = readonly Step[];

export const connectionsMax = 3;
const NO_TAG = 0xffffffff;
const STEPS_MAX = 24;
const CONNECTION_OF_ALL = '800000000001';

const loginKeys: readonly (readonly [string, readonly string[]])[] = [
  ['HeaderDigest', ['None', 'CRC32C,None', 'CRC32C', 'None,CRC32C', 'MD5', '']],
  ['DataDigest', ['None', 'CRC32C,None', 'CRC32C', 'SHA']],
  ['MaxConnections', ['1', '8', '0', '65536', '-1', '0x4']],
  ['MaxRecvDataSegmentLength', ['512', '8192', '262144', '511', '16777216', 'many']],
  ['InitialR2T', ['Yes', 'No', 'Maybe']],
  ['ImmediateData', ['Yes', 'No', 'yes']],
  ['MaxBurstLength', ['512', '16384', '16776192', '100', '0x10000']],
  ['FirstBurstLength', ['512', '65536', '16777215', '1']],
  ['MaxOutstandingR2T', ['1', '8', '0', '65535']],
  ['DefaultTime2Wait', ['0', '2', '3601']],
  ['DefaultTime2Retain', ['0', '20', 'x']],
  ['DataPDUInOrder', ['Yes', 'No']],
  ['DataSequenceInOrder', ['Yes', 'No']],
  ['ErrorRecoveryLevel', ['0', '1', '2', '3']],
  ['AuthMethod', ['None', 'CHAP,None', 'CHAP', 'KRB5']],
  ['CHAP_A', ['5', '7,5', '99']],
  ['IFMarker', ['No', 'Yes']],
  ['TaskReporting', ['RFC3720', 'FastAbort']],
  ['X-com.example.key', ['1']],
  ['SendTargets', ['All', '', 'iqn.2026-11.io.keepgate:demo', 'no']],
];

class Maker {
  constructor(private readonly random: SeededRandom) {}

  make(): Case {
    const { random } = this;
    const steps: Step[] = [];
    if (random.fraction() < 0.9) steps.push(this.login(0, random.fraction() < 0.1));
    if (random.fraction() < 0.7) steps.push(...this.attach());
    const count = 1 + random.below(STEPS_MAX);
    while (steps.length < count) steps.push(this.step());
    return steps;
  }

  /** Takes the unit attention of a new session, and the volume. */
  private attach(): Step[] {
    const ask = (cdb: string, expected: number): PduStep =>
      this.pdu(0, 0x01, (header) => {
        header[1] = 0xc0;
        header.writeUInt32BE(expected, 20);
        header.set(Buffer.from(cdb, 'hex'), 32);
      });
    return [ask('00', 0), ask('280000000000000001', 512), { kind: 'settle' }];
  }

  step(): Step {
    const { random } = this;
    const connection = random.fraction() < 0.85 ? 0 : random.below(connectionsMax);
    const choice = random.fraction();
    if (choice < 0.5) return this.command(connection);
    if (choice < 0.6) return this.dataOut(connection);
    if (choice < 0.66) return this.login(connection, random.fraction() < 0.3);
    if (choice < 0.72) return this.text(connection);
    if (choice < 0.78) return this.taskManagement(connection);
    if (choice < 0.83) return this.nop(connection);
    if (choice < 0.85)
      return this.pdu(connection, 0x06, (header) => {
        header[1] = 0x80 | random.below(4);
        header.writeUInt16BE(random.below(connectionsMax), 20);
      });
    if (choice < 0.87) return this.pdu(connection, 0x10, (header) => header.set(random.bytes(40), 8));
    if (choice < 0.89) return this.pdu(connection, random.below(64), (header) => header.set(random.bytes(47), 1));
    if (choice < 0.92) return { kind: 'settle' };
    if (choice < 0.955) return { kind: 'hold' };
    if (choice < 0.97) return { kind: random.fraction() < 0.5 ? 'stall' : 'take', connection };
    if (choice < 0.985) return { kind: 'wait', ms: random.below(40_000) };
    return { kind: 'close', connection };
  }

  private pick<T>(from: readonly T[]): T {
    return from[this.random.below(from.length)] as T;
  }

  private pdu(connection: number, code: number, fill: (header: Buffer) => void, more: Partial<PduStep> = {}): PduStep {
    const { random } = this;
    const header = Buffer.alloc(48);
    header[1] = 0x80;
    header.writeUInt32BE(random.fraction() < 0.97 ? 1 + random.below(40) : NO_TAG, 16);
    fill(header);
    header[0] = code | (random.fraction() < 0.15 ? 0x40 : 0);
    const wrongDigest = random.fraction() < 0.01 ? this.pick(['header', 'data'] as const) : undefined;
    return {
      kind: 'pdu',
      connection,
      data: '',
      cmdSnOff: random.fraction() < 0.96 ? 0 : random.below(400) - 200,
      cuts: random.fraction() < 0.2 ? Array.from({ length: 1 + random.below(3) }, () => random.below(120)) : [],
      ...(wrongDigest === undefined ? {} : { wrongDigest }),
      ...(random.fraction() < 0.01
        ? { ahs: Buffer.from(random.bytes(4 * (1 + random.below(4)))).toString('hex') }
        : {}),
      ...(random.fraction() < 0.01 ? { dataLength: random.below(300_000) } : {}),
      ...more,
      header: header.toString('hex'),
    };
  }

  private keys(count: number): string {
    let text = '';
    for (let left = count; left > 0; left--) {
      const [key, values] = this.pick(loginKeys);
      text += `${key}=${this.pick(values)}\0`;
    }
    return text;
  }

  /** From the operational stage to full feature, or, `odd`, from anywhere to anywhere with anything. */
  private login(connection: number, odd: boolean): PduStep {
    const { random } = this;
    const names = `InitiatorName=iqn.2026-11.test:${connection < 2 ? 'one' : 'two'}\0`;
    const type =
      random.fraction() < 0.9
        ? `SessionType=Normal\0TargetName=iqn.2026-11.io.keepgate:demo\0`
        : 'SessionType=Discovery\0';
    const data = odd && random.fraction() < 0.5 ? this.keys(4) : `${names}${type}${this.keys(random.below(6))}`;
    return this.pdu(
      connection,
      0x43,
      (header) => {
        header[1] = odd ? random.below(256) : 0x87;
        header[2] = odd ? random.below(2) : 0;
        header.write(CONNECTION_OF_ALL, 8, 'hex');
        if (odd || connection > 0) header.writeUInt16BE(random.below(4), 14);
        header.writeUInt16BE(connection, 20);
      },
      { data, cmdSnOff: 0 },
    );
  }

  private text(connection: number): PduStep {
    const { random } = this;
    return this.pdu(
      connection,
      0x04,
      (header) => {
        header[1] = this.pick([0x80, 0x40, 0x00, 0xc0]);
        header.writeUInt32BE(random.fraction() < 0.7 ? NO_TAG : random.below(4), 20);
      },
      { data: this.keys(1 + random.below(4)) },
    );
  }

  private nop(connection: number): PduStep {
    const { random } = this;
    const answers = random.fraction() < 0.3;
    return this.pdu(
      connection,
      0x00,
      (header) => {
        header.writeUInt32BE(answers ? NO_TAG : random.below(40), 16);
        header.writeUInt32BE(NO_TAG, 20);
      },
      { data: { bytes: random.below(600), value: 0x6e }, ...(answers ? { answersPing: true } : {}) },
    );
  }

  private taskManagement(connection: number): PduStep {
    const { random } = this;
    const refersToLast = random.fraction() < 0.6;
    return this.pdu(
      connection,
      0x02,
      (header) => {
        header[1] = 0x80 | (random.fraction() < 0.5 ? 1 : 1 + random.below(9));
        header.writeUInt32BE(1 + random.below(40), 20);
        header.writeUInt32BE(random.below(8), 32);
        if (random.fraction() < 0.1) header.writeUInt16BE(random.below(3), 8);
      },
      refersToLast ? { refersToLast } : {},
    );
  }

  private dataOut(connection: number): PduStep {
    const { random } = this;
    const answers = random.fraction() < 0.8;
    return this.pdu(
      connection,
      0x05,
      (header) => {
        header[1] = random.fraction() < 0.7 ? 0x80 : 0;
        header.writeUInt32BE(answers ? 0 : NO_TAG, 20);
        header.writeUInt32BE(random.fraction() < 0.8 ? 0 : random.below(4), 36);
        header.writeUInt32BE(random.fraction() < 0.8 ? 0 : 512 * random.below(64), 40);
      },
      { data: { bytes: this.lengthBytes(), value: random.below(256) }, ...(answers ? { answersR2t: true } : {}) },
    );
  }

  private lengthBytes(): number {
    const { random } = this;
    return this.pick([0, 1, 511, 512, 513, 1024, 4096, 8192, 512 * random.below(80), random.below(70_000)]);
  }

  /** READ(10) or WRITE(10) as they should be, so that what is wrong meets a target at work. */
  private transfer(connection: number): PduStep {
    const { random } = this;
    const blocks = this.pick([1, 2, 8, 16, 130]);
    const reads = random.fraction() < 0.5;
    const sent = reads ? 0 : 512 * random.below(blocks + 1);
    return this.pdu(
      connection,
      0x01,
      (header) => {
        header[1] = (reads || random.fraction() < 0.7 ? 0x80 : 0) | (reads ? 0x40 : 0x20);
        header.writeUInt32BE(512 * blocks, 20);
        header[32] = reads ? 0x28 : 0x2a;
        header.writeUInt32BE(random.below(1000), 34);
        header.writeUInt16BE(blocks, 39);
      },
      { data: { bytes: sent, value: random.below(256) } },
    );
  }

  /** PERSISTENT RESERVE OUT with one of few keys, so that registrations, reservations and preemptions come about. */
  private reserve(connection: number): PduStep {
    const { random } = this;
    const key = (): string => this.pick(['\0\0\0\0\0\0\0\0', 'first\0\0\0', 'second\0\0']);
    const flags = random.fraction() < 0.8 ? 0 : random.below(16);
    return this.pdu(
      connection,
      0x01,
      (header) => {
        header[1] = 0xa0;
        header.writeUInt32BE(24, 20);
        header.set(
          [0x5f, this.pick([0, 1, 1, 2, 3, 4, 5, 6, 6, 7]), this.pick([1, 3, 5, 6, 7, 8]), 0, 0, 0, 0, 0, 24],
          32,
        );
      },
      { data: `${key()}${key()}\0\0\0\0${String.fromCharCode(flags)}\0\0\0` },
    );
  }

  private command(connection: number): PduStep {
    const { random } = this;
    if (random.fraction() < 0.08) return this.reserve(connection);
    if (random.fraction() < 0.4) return this.transfer(connection);
    const { usage, serviceAction } = this.pick(commands);
    const cdb = Buffer.alloc(16);
    for (let at = 0; at < usage.length; at++) {
      const mask = usage[at] ?? 0;
      // Mostly small numbers in wide fields: an address or a length that there is.
      const value = at >= usage.length - 5 || random.fraction() < 0.2 ? random.below(256) : 0;
      cdb[at] = random.fraction() < 0.6 ? value & mask & (random.fraction() < 0.7 ? 0x0f : 0xff) : 0;
    }
    cdb[0] = usage[0] ?? 0;
    if (serviceAction !== undefined) cdb[1] = ((cdb[1] ?? 0) & 0xe0) | serviceAction;
    if (random.fraction() < 0.08) cdb[random.below(16)] = random.below(256);
    const writes = random.fraction() < 0.5;
    const expected = this.lengthBytes();
    const sent = writes ? Math.min(expected, random.fraction() < 0.6 ? expected : this.lengthBytes()) : 0;
    return this.pdu(
      connection,
      0x01,
      (header) => {
        const direction = random.fraction() < 0.97 ? (writes ? 0x20 : 0x40) : this.pick([0x60, 0x00]);
        header[1] = (random.fraction() < 0.9 ? 0x80 : 0) | direction | random.below(5);
        if (random.fraction() < 0.04) header.writeUInt16BE(random.below(300), 8);
        header.writeUInt32BE(random.fraction() < 0.97 ? expected : random.below(2 ** 32), 20);
        header.set(cdb, 32);
      },
      { data: { bytes: random.fraction() < 0.95 ? sent : random.below(300_000), value: random.below(256) } },
    );
  }

  /** Another case made of one: steps left out, doubled, exchanged, put in, and bits of headers changed. */
  mutate(from: Case): Case {
    const { random } = this;
    const steps = [...from];
    for (let left = 1 + random.below(4); left > 0; left--) {
      const at = random.below(steps.length + 1);
      const choice = random.fraction();
      const step = steps[at];
      if (choice < 0.2) steps.splice(at, 1);
      else if (choice < 0.45) steps.splice(at, 0, this.step());
      else if (choice < 0.55 && step !== undefined) steps.splice(at, 0, step);
      else if (choice < 0.65 && step !== undefined) steps.splice(random.below(steps.length), 0, ...steps.splice(at, 1));
      else if (step?.kind === 'pdu') steps[at] = this.mutatePdu(step);
    }
    return steps.slice(0, 2 * STEPS_MAX);
  }

  private mutatePdu(step: PduStep): PduStep {
    const { random } = this;
    const header = Buffer.from(step.header, 'hex');
    const choice = random.fraction();
    if (choice < 0.6) {
      // The CDB and the flags more often than the rest.
      const at = this.pick([1, 2, 3, 8 + random.below(40), 32 + random.below(16), 20 + random.below(4)]);
      header[at] = random.fraction() < 0.5 ? (header[at] ?? 0) ^ (1 << random.below(8)) : random.below(256);
      return { ...step, header: header.toString('hex') };
    }
    if (choice < 0.75 && typeof step.data !== 'string')
      return { ...step, data: { ...step.data, bytes: this.lengthBytes() } };
    if (choice < 0.75) {
      const data = Buffer.from(step.data as string);
      if (data.length > 0) data[random.below(data.length)] = random.below(128);
      return { ...step, data: data.toString() };
    }
    if (choice < 0.9) return { ...step, cuts: Array.from({ length: 1 + random.below(4) }, () => random.below(600)) };
    return { ...step, dataLength: random.below(2 ** 24) };
  }
}

export function makeCase(random: SeededRandom): Case {
  return new Maker(random).make();
}

export function mutateCase(from: Case, random: SeededRandom): Case {
  return new Maker(random).mutate(from);
}
