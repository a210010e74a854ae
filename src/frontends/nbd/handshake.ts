/**
 * The handshake of one connection ("Fixed newstyle negotiation" of proto.md), as a table of states:
 *
 *   state         waits for           then
 *   clientFlags   4 bytes             option, or cut off (a flag that is not known)
 *   option        16 bytes            optionData, skipping (longer than nbdOptionBytesMax), or cut off
 *   optionData    the option's data   option (after its replies), attaching (GO, EXPORT_NAME), or closed (ABORT)
 *   skipping      the option's data   option (after ERR_TOO_BIG); nothing of it is kept
 *   attaching     the directory       transmission, option (GO refused), or closed (EXPORT_NAME refused)
 *
 * An unknown option is answered and the handshake goes on. A wrong magic, or an unknown client flag, is a peer that
 * speaks something else: it is cut off, because nothing that follows could be understood. While attaching, received
 * bytes stay in the stream. INFO and LIST never attach.
 */
import { GatewayError, ProtocolError } from '../../base/errors.js';
import { limits } from '../../base/limits.js';
import type { ServedVolume, VolumeDirectory } from '../../ports/volume-directory.js';
import { nbdAnswers } from './error-table.js';
import {
  decodeInfoRequest,
  decodeName,
  decodeOptionHeader,
  encodeExport,
  encodeGreeting,
  encodeInfo,
  encodeListed,
  encodeOptionError,
  encodeOptionReply,
} from './option-codec.js';
import type { InfoRequest } from './option-codec.js';
import { handshakeFlag, option, optionReply, readU32, STRING_BYTES_MAX, wireBytes } from './wire.js';

/** What the handshake needs of its connection. */
export interface HandshakeHost {
  readonly directory: VolumeDirectory;
  send(bytes: Uint8Array): void;
  /** Takes the volume for this connection's client; rejects with a GatewayError where it is refused. */
  attach(volume: ServedVolume): Promise<void>;
  /** The transmission phase begins; bytes that were left over are its first. */
  transmit(volume: ServedVolume): void;
  /** Sends what was written, then closes. */
  end(reason: string): void;
  /** An export was refused; `reason` is an error code, for the metrics. */
  rejected(reason: string): void;
}

type State = 'clientFlags' | 'option' | 'optionData' | 'skipping' | 'attaching' | 'closed';

export class Handshake {
  readonly #host: HandshakeHost;
  #state: State = 'clientFlags';
  #noZeroes = false;
  #option = 0;
  /** Bytes that the state waits for, and those of them that have arrived (skipped ones are only counted). */
  #neededBytes: number = wireBytes.clientFlags;
  #arrivedBytes = 0;
  #arrived = new Uint8Array(wireBytes.optionHeader);

  constructor(host: HandshakeHost) {
    this.#host = host;
    host.send(encodeGreeting());
  }

  /** As StreamHandler.received; throws ProtocolError where the peer must be cut off. */
  received(buffer: Uint8Array, start: number, end: number): number {
    let at = start;
    while (at < end && this.#state !== 'attaching') {
      if (this.#state === 'closed') return end - start;
      const taken = Math.min(this.#neededBytes - this.#arrivedBytes, end - at);
      if (this.#state !== 'skipping') this.#arrived.set(buffer.subarray(at, at + taken), this.#arrivedBytes);
      this.#arrivedBytes += taken;
      at += taken;
      if (this.#arrivedBytes === this.#neededBytes) this.#complete();
    }
    return at - start;
  }

  #expect(state: State, neededBytes: number): void {
    this.#state = state;
    this.#neededBytes = neededBytes;
    this.#arrivedBytes = 0;
    if (state !== 'skipping' && this.#arrived.length < neededBytes) this.#arrived = new Uint8Array(neededBytes);
  }

  #complete(): void {
    switch (this.#state) {
      case 'clientFlags':
        return this.#clientFlags(readU32(this.#arrived, 0));
      case 'option':
        return this.#optionHeader();
      case 'optionData':
        return this.#optionData(this.#arrived.slice(0, this.#neededBytes));
      case 'skipping':
        this.#refuse('errTooBig', `an option may have ${limits.nbdOptionBytesMax} bytes of data`);
        return this.#nextOption();
      case 'attaching':
      case 'closed':
        return;
    }
  }

  #nextOption(): void {
    this.#expect('option', wireBytes.optionHeader);
  }

  #clientFlags(flags: number): void {
    const known = handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes;
    if ((flags & ~known) !== 0) throw new ProtocolError('the client set a flag that was not offered');
    this.#noZeroes = (flags & handshakeFlag.noZeroes) !== 0;
    this.#nextOption();
  }

  #optionHeader(): void {
    const header = decodeOptionHeader(this.#arrived);
    if (header === undefined) throw new ProtocolError('an option begins with the wrong magic');
    const { lengthBytes } = header;
    this.#option = header.option;
    if (lengthBytes <= limits.nbdOptionBytesMax) {
      this.#expect('optionData', lengthBytes);
      if (lengthBytes === 0) this.#complete();
      return;
    }
    // EXPORT_NAME has no error reply; and nobody sends megabytes of option data in good faith.
    if (header.option === option.exportName || lengthBytes > limits.nbdSkippedOptionBytesMax) {
      throw new ProtocolError(`an option has ${lengthBytes} bytes of data`);
    }
    this.#expect('skipping', lengthBytes);
  }

  #optionData(data: Uint8Array): void {
    switch (this.#option) {
      case option.exportName:
        return this.#exportName(data);
      case option.abort:
        this.#state = 'closed';
        this.#host.send(encodeOptionReply(this.#option, optionReply.ack));
        return this.#host.end('the client aborted the handshake');
      case option.list:
        this.#list(data);
        return this.#nextOption();
      case option.info:
      case option.go:
        return this.#infoOrGo(data);
      default:
        this.#refuse('errUnsupported', `option ${this.#option} is not supported`);
        return this.#nextOption();
    }
  }

  #list(data: Uint8Array): void {
    if (data.length > 0) return this.#refuse('errInvalid', 'LIST takes no data');
    const replies = this.#exports().map((volume) => encodeListed(this.#option, volume));
    replies.push(encodeOptionReply(this.#option, optionReply.ack));
    this.#sendAll(replies);
  }

  #infoOrGo(data: Uint8Array): void {
    const request = decodeInfoRequest(data);
    if (request === undefined) {
      this.#refuse('errInvalid', 'malformed INFO or GO: name and information types do not fit the length');
      return this.#nextOption();
    }
    const volume = this.#find(request.name);
    if (volume === undefined) {
      this.#host.rejected('not-found');
      this.#refuse('errUnknown', this.#unknownExport(request.name));
      return this.#nextOption();
    }
    if (this.#option === option.info) {
      this.#sendInfo(volume, request);
      return this.#nextOption();
    }
    this.#attach(
      volume,
      () => this.#sendInfo(volume, request),
      (error) => {
        this.#refuse(nbdAnswers[error.code].option, error.message);
        this.#nextOption();
      },
    );
  }

  #sendInfo(volume: ServedVolume, request: InfoRequest): void {
    const replies = encodeInfo(this.#option, volume, request.wanted);
    replies.push(encodeOptionReply(this.#option, optionReply.ack));
    this.#sendAll(replies);
  }

  /** Has no error reply: what cannot be served is disconnected. */
  #exportName(data: Uint8Array): void {
    const name = data.length <= STRING_BYTES_MAX ? decodeName(data) : undefined;
    const volume = this.#find(name);
    if (volume === undefined) {
      this.#state = 'closed';
      this.#host.rejected('not-found');
      return this.#host.end(this.#unknownExport(name));
    }
    this.#attach(
      volume,
      () => {
        const zeroes = new Uint8Array(this.#noZeroes ? 0 : wireBytes.exportNameZeroes);
        this.#sendAll([encodeExport(volume), zeroes]);
      },
      (error) => {
        this.#state = 'closed';
        this.#host.end(error.message);
      },
    );
  }

  #attach(volume: ServedVolume, accept: () => void, refuse: (error: GatewayError) => void): void {
    this.#state = 'attaching';
    // Anything but a GatewayError is a bug: it rejects, unhandled, and ends the process.
    void this.#host.attach(volume).then(
      () => {
        if (this.#state === 'closed') return;
        this.#state = 'closed';
        accept();
        this.#host.transmit(volume);
      },
      (error: unknown) => {
        if (!(error instanceof GatewayError)) throw error;
        if (this.#state === 'closed') return;
        this.#host.rejected(error.code);
        refuse(error);
      },
    );
  }

  /** The connection is gone, or is told to go. */
  close(): void {
    this.#state = 'closed';
  }

  #exports(): readonly ServedVolume[] {
    return this.#host.directory.list().filter((volume) => volume.nbd.enabled);
  }

  /** The empty name is the default export: the only volume there is. */
  #find(name: string | undefined): ServedVolume | undefined {
    if (name === undefined) return undefined;
    if (name === '') {
      const [first, ...others] = this.#exports();
      return others.length === 0 ? first : undefined;
    }
    const volume = this.#host.directory.find(name);
    return volume?.nbd.enabled === true ? volume : undefined;
  }

  #unknownExport(name: string | undefined): string {
    const names = this.#exports().map((volume) => volume.device.name);
    const there = names.length === 0 ? 'no volume is exported over NBD' : `there is: ${names.join(', ')}`;
    if (name === '') return `there is no default export, name the volume; ${there}`;
    const sayable = name !== undefined && name.length <= limits.volumeNameCharsMax;
    return `no volume ${sayable ? JSON.stringify(name) : 'with that name'}; ${there}`;
  }

  #refuse(error: Parameters<typeof encodeOptionError>[1], message: string): void {
    this.#host.send(encodeOptionError(this.#option, error, message));
  }

  #sendAll(replies: readonly Uint8Array[]): void {
    const bytes = new Uint8Array(replies.reduce((sum, reply) => sum + reply.length, 0));
    let at = 0;
    for (const reply of replies) {
      bytes.set(reply, at);
      at += reply.length;
    }
    this.#host.send(bytes);
  }
}
