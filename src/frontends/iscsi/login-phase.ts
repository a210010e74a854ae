/**
 * The PDUs of a connection's login phase: requests in, responses out (RFC 7143, sections 11.12, 11.13). What they mean is
 * in login.ts. Digests begin behind the last response (section 7.8), and so does the session.
 */
import { ProtocolError } from '../../base/errors.js';
import { readU32, writeU16, writeU32 } from '../../scsi/big-endian.js';
import type { Login } from './login.js';
import type { PduSink } from './pdu-reader.js';
import type { PduWriter } from './pdu-writer.js';
import { Sequence } from './sequence.js';
import { BHS_BYTES, field, loginStatus, opcode, OPCODE_MASK } from './wire.js';
import type { LoginStatus } from './wire.js';

export interface LoginPhaseHost {
  /** The login is complete. Returns the new session's TSIH, or why there is none. */
  complete(sequence: Sequence): { readonly tsih: number } | { readonly status: LoginStatus; readonly reason: string };
  /** The last response is gathered: the session's PDUs follow. */
  begin(): void;
  /** The response with this status is gathered: the connection ends. */
  refused(status: LoginStatus, reason: string): void;
}

const NOTHING = new Uint8Array(0);

interface Response {
  readonly flags: number;
  readonly tsih: number;
  readonly status: LoginStatus;
  readonly data: Uint8Array;
}

export class LoginPhase implements PduSink {
  readonly ready = true;
  readonly #login: Login;
  readonly #writer: PduWriter;
  readonly #host: LoginPhaseHost;
  #sequence: Sequence | undefined;
  /** The header of the last login request. */
  readonly #request = new Uint8Array(BHS_BYTES);
  /** Of a PDU that arrives in pieces. */
  #header = new Uint8Array(0);
  #data = new Uint8Array(0);
  #fill = 0;

  constructor(options: { readonly login: Login; readonly writer: PduWriter; readonly host: LoginPhaseHost }) {
    this.#login = options.login;
    this.#writer = options.writer;
    this.#host = options.host;
  }

  pdu(header: Uint8Array, at: number, data: Uint8Array, start: number, end: number): void {
    if (((header[at] ?? 0) & OPCODE_MASK) !== opcode.login) {
      if (this.#sequence === undefined) throw new ProtocolError('a connection begins with a login (RFC 7143 6.3)');
      const reason = 'something else than a login request came during login (RFC 7143 6.3)';
      this.#refuse(this.#sequence, this.#request, 0, loginStatus.invalidDuringLogin, reason);
      return;
    }
    this.#request.set(header.subarray(at, at + BHS_BYTES));
    this.#sequence ??= new Sequence({
      cmdSn: readU32(header, at + field.cmdSn),
      statSn: readU32(header, at + field.expStatSn),
    });
    const sequence = this.#sequence;
    const reply = this.#login.receive(header, at, data.subarray(start, end));
    if (this.#login.session !== undefined) sequence.window = this.#login.session.window;
    if (reply.kind === 'refused') {
      this.#refuse(sequence, header, at, reply.status, reply.reason);
    } else if (reply.kind === 'answer') {
      this.#respond(sequence, header, at, { ...reply, tsih: this.#login.tsih, status: loginStatus.success });
    } else {
      const outcome = this.#host.complete(sequence);
      if ('status' in outcome) {
        this.#refuse(sequence, header, at, outcome.status, outcome.reason);
        return;
      }
      this.#respond(sequence, header, at, { ...reply, tsih: outcome.tsih, status: loginStatus.success });
      this.#host.begin();
    }
  }

  begin(header: Uint8Array, at: number, dataBytes: number): void {
    this.#header = header.slice(at, at + BHS_BYTES);
    this.#data = new Uint8Array(dataBytes);
    this.#fill = 0;
  }

  piece(data: Uint8Array, start: number, end: number): void {
    this.#data.set(data.subarray(start, end), this.#fill);
    this.#fill += end - start;
  }

  end(): void {
    this.pdu(this.#header, 0, this.#data, 0, this.#data.length);
  }

  damaged(): void {
    // There are no digests in the login phase.
  }

  #refuse(sequence: Sequence, header: Uint8Array, at: number, status: LoginStatus, reason: string): void {
    this.#respond(sequence, header, at, { flags: 0, tsih: this.#login.tsih, status, data: NOTHING });
    this.#host.refused(status, reason);
  }

  #respond(sequence: Sequence, header: Uint8Array, requestAt: number, response: Response): void {
    const { data } = response;
    const writer = this.#writer;
    const bytes = writer.open(opcode.loginResponse, data.length);
    const at = writer.position;
    bytes[at + field.flags] = response.flags;
    bytes.set(header.subarray(requestAt + field.isid, requestAt + field.isid + 6), at + field.isid);
    writeU16(bytes, at + field.tsih, response.tsih);
    bytes.set(
      header.subarray(requestAt + field.initiatorTaskTag, requestAt + field.initiatorTaskTag + 4),
      at + field.initiatorTaskTag,
    );
    writeU32(bytes, at + field.statSn, sequence.takeStatSn());
    writeU32(bytes, at + field.expCmdSn, sequence.window.expCmdSn);
    writeU32(bytes, at + field.maxCmdSn, sequence.window.maxCmdSn);
    bytes[at + field.statusClass] = response.status >>> 8;
    bytes[at + field.statusDetail] = response.status & 0xff;
    bytes.set(data, writer.dataAt(at));
    writer.close(data.length);
  }
}
