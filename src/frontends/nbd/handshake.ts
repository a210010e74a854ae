/**
 * The handshake of one connection ("Fixed newstyle negotiation" of proto.md), as a table of states:
 *
 *   state         waits for           then
 *   clientFlags   4 bytes             option, or cut off (a flag that is not known)
 *   option        16 bytes            optionData, skipping (longer than nbdOptionBytesMax), or cut off
 *   optionData    the option's data   option (after its replies), attaching (GO, EXPORT_NAME), or closed (ABORT)
 *   skipping      the option's data   option (after ERR_TOO_BIG); nothing of it is kept
 *   attaching     the directory       transmission, option (GO refused), or closed (EXPORT_NAME refused)
 *   securing      TLS                 nothing: over TLS another Handshake begins, with the client flags and no other
 *                                     memory of this one
 *
 * An unknown option is answered and the handshake goes on. A wrong magic, or an unknown client flag, is a peer that
 * speaks something else: it is cut off, because nothing that follows could be understood. While attaching, received
 * bytes stay in the stream. INFO and LIST never attach. Bytes that came in clear behind STARTTLS were not sent by a
 * client that waits for the answer: somebody on the way put them there to be taken for its own, so they end it.
 */
import { GatewayError, ProtocolError } from '../../base/errors.js';
import { limits } from '../../base/limits.js';
import type { ServedVolume, VolumeDirectory } from '../../ports/volume-directory.js';
import type { TlsMode } from './admission.js';
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
import { decodeContextRequest, encodeContext, listedContexts, selectedContexts } from './meta-context.js';
import { Negotiated } from './negotiated.js';
import { handshakeFlag, option, optionReply, readU32, STRING_BYTES_MAX, wireBytes } from './wire.js';
import type { OptionError } from './wire.js';

/** What the handshake needs of its connection. */
export interface HandshakeHost {
  readonly directory: VolumeDirectory;
  readonly tls: TlsMode;
  /** Over TLS already. */
  readonly secured: boolean;
  /** Bytes of replies that the peer has not read. */
  readonly pendingBytes: number;
  send(bytes: Uint8Array): void;
  /** Why this client may neither use a volume nor know more of it than its name; undefined: it may. */
  refusal(volume: ServedVolume): GatewayError | undefined;
  /** TLS begins behind what was sent. */
  secure(clientFlags: number): void;
  /** Takes the volume for this connection's client; rejects with a GatewayError where it is refused. */
  attach(volume: ServedVolume): Promise<void>;
  /** The transmission phase begins; bytes that were left over are its first. */
  transmit(volume: ServedVolume, negotiated: Negotiated): void;
  /** Sends what was written, then closes. */
  end(reason: string): void;
  /** The client was refused something, for the log and the metrics. */
  rejected(error: GatewayError): void;
}

type State = 'clientFlags' | 'option' | 'optionData' | 'skipping' | 'attaching' | 'securing' | 'closed';

export class Handshake {
  readonly #host: HandshakeHost;
  #state: State = 'clientFlags';
  #clientFlags = 0;
  readonly #negotiated = new Negotiated();
  #option = 0;
  #options = 0;
  #saidTlsRequired = false;
  /** Bytes that the state waits for, and those of them that have arrived (skipped ones are only counted). */
  #neededBytes: number = wireBytes.clientFlags;
  #arrivedBytes = 0;
  #arrived = new Uint8Array(wireBytes.optionHeader);

  /** `clientFlags`: those that were exchanged in clear, where the handshake begins again over TLS. */
  constructor(host: HandshakeHost, clientFlags?: number) {
    this.#host = host;
    if (clientFlags === undefined) {
      host.send(encodeGreeting());
      return;
    }
    this.#clientFlags = clientFlags;
    this.#nextOption();
  }

  /** As StreamHandler.received; throws ProtocolError where the peer must be cut off. */
  received(buffer: Uint8Array, start: number, end: number): number {
    let at = start;
    while (at < end && this.#state !== 'attaching') {
      if (this.#state === 'closed') return end - start;
      if (this.#state === 'securing') throw new ProtocolError('bytes in clear follow STARTTLS');
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
        return this.#takeClientFlags(readU32(this.#arrived, 0));
      case 'option':
        return this.#optionHeader();
      case 'optionData':
        return this.#optionData(this.#arrived.slice(0, this.#neededBytes));
      case 'skipping':
        if (this.#needsTls) return this.#demandTls();
        this.#refuse('errTooBig', `an option may have ${limits.nbdOptionBytesMax} bytes of data`);
        return this.#nextOption();
      case 'attaching':
      case 'securing':
      case 'closed':
        return;
    }
  }

  #nextOption(): void {
    this.#expect('option', wireBytes.optionHeader);
  }

  #takeClientFlags(flags: number): void {
    const known = handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes;
    if ((flags & ~known) !== 0) throw new ProtocolError('the client set a flag that was not offered');
    this.#clientFlags = flags;
    this.#nextOption();
  }

  get #fixedNewstyle(): boolean {
    return (this.#clientFlags & handshakeFlag.fixedNewstyle) !== 0;
  }

  #optionHeader(): void {
    const header = decodeOptionHeader(this.#arrived);
    if (header === undefined) throw new ProtocolError('an option begins with the wrong magic');
    if (++this.#options > limits.nbdOptionsMax) throw new ProtocolError('the handshake has too many options');
    if (this.#host.pendingBytes > limits.nbdOptionReplyBytesMax) {
      throw new ProtocolError('the client asks on and reads no replies');
    }
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
    if (this.#needsTls && this.#option !== option.startTls && this.#option !== option.abort) return this.#demandTls();
    switch (this.#option) {
      case option.exportName:
        return this.#exportName(data);
      case option.abort:
        this.#state = 'closed';
        this.#host.send(encodeOptionReply(this.#option, optionReply.ack));
        return this.#host.end('the client aborted the handshake');
      case option.startTls:
        return this.#startTls(data);
      case option.list:
        this.#list(data);
        return this.#nextOption();
      case option.info:
      case option.go:
        return this.#infoOrGo(data);
      case option.structuredReply:
      case option.extendedHeaders:
        this.#useChunks(data);
        return this.#nextOption();
      case option.listMetaContext:
      case option.setMetaContext:
        this.#metaContext(data);
        return this.#nextOption();
      default:
        this.#refuse('errUnsupported', `option ${this.#option} is not supported`);
        return this.#nextOption();
    }
  }

  get #needsTls(): boolean {
    return this.#host.tls === 'required' && !this.#host.secured;
  }

  /** "FORCEDTLS mode". EXPORT_NAME has no error reply, and without the fixed newstyle this one may not be sent. */
  #demandTls(): void {
    const error = new GatewayError('tls-required', 'this gateway requires TLS (nbd.tls)');
    if (!this.#saidTlsRequired) this.#host.rejected(error);
    this.#saidTlsRequired = true;
    if (this.#option === option.exportName || !this.#fixedNewstyle) {
      this.#state = 'closed';
      return this.#host.end(error.message);
    }
    this.#refuse('errTlsRequired', error.message);
    this.#nextOption();
  }

  #startTls(data: Uint8Array): void {
    const refused = this.#startTlsRefusal(data);
    if (refused !== undefined) {
      this.#refuse(...refused);
      return this.#nextOption();
    }
    this.#state = 'securing';
    this.#host.send(encodeOptionReply(this.#option, optionReply.ack));
    this.#host.secure(this.#clientFlags);
  }

  #startTlsRefusal(data: Uint8Array): readonly [OptionError, string] | undefined {
    if (data.length > 0) return ['errInvalid', 'STARTTLS takes no data'];
    if (this.#host.secured) return ['errInvalid', 'TLS was begun already'];
    if (this.#host.tls === 'off') return ['errPolicy', 'TLS is off in this gateway (nbd.tls)'];
    if (!this.#fixedNewstyle) return ['errPolicy', 'TLS needs the fixed newstyle handshake'];
    return undefined;
  }

  #list(data: Uint8Array): void {
    if (data.length > 0) return this.#refuse('errInvalid', 'LIST takes no data');
    const replies = this.#visible().map((volume) => encodeListed(this.#option, volume));
    replies.push(encodeOptionReply(this.#option, optionReply.ack));
    this.#sendAll(replies);
  }

  #useChunks(data: Uint8Array): void {
    const extended = this.#option === option.extendedHeaders;
    if (data.length > 0)
      return this.#refuse('errInvalid', `${extended ? 'EXTENDED_HEADERS' : 'STRUCTURED_REPLY'} takes no data`);
    if (extended) this.#negotiated.useExtendedHeaders();
    else this.#negotiated.useStructuredReplies();
    this.#host.send(encodeOptionReply(this.#option, optionReply.ack));
  }

  #metaContext(data: Uint8Array): void {
    const select = this.#option === option.setMetaContext;
    if (select) this.#negotiated.forgetContexts();
    if (!this.#negotiated.chunked)
      return this.#refuse('errInvalid', 'metadata contexts need structured replies or extended headers first');
    const request = decodeContextRequest(data);
    if (request === undefined)
      return this.#refuse('errInvalid', 'malformed metadata contexts: lengths do not fit, or a query has no namespace');
    const volume = this.#choose(request.name);
    if (volume instanceof GatewayError) return this.#refuseExport(volume);
    const { device } = volume;
    const contexts = select ? selectedContexts(device, request.queries) : listedContexts(device, request.queries);
    if (select) this.#negotiated.selectContexts(device.name, contexts);
    const replies = contexts.map((context) => encodeContext(this.#option, context));
    replies.push(encodeOptionReply(this.#option, optionReply.ack));
    this.#sendAll(replies);
  }

  #infoOrGo(data: Uint8Array): void {
    const request = decodeInfoRequest(data);
    if (request === undefined) {
      this.#refuse('errInvalid', 'malformed INFO or GO: name and information types do not fit the length');
      return this.#nextOption();
    }
    const volume = this.#choose(request.name);
    if (volume instanceof GatewayError) {
      this.#refuseExport(volume);
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
        this.#refuseExport(error);
        this.#nextOption();
      },
    );
  }

  #sendInfo(volume: ServedVolume, request: InfoRequest): void {
    const replies = encodeInfo(this.#option, volume, this.#negotiated, request.wanted);
    replies.push(encodeOptionReply(this.#option, optionReply.ack));
    this.#sendAll(replies);
  }

  /** Has no error reply: what cannot be served is disconnected. */
  #exportName(data: Uint8Array): void {
    if (this.#negotiated.extended) throw new ProtocolError('EXPORT_NAME is not allowed with extended headers');
    const name = data.length <= STRING_BYTES_MAX ? decodeName(data) : undefined;
    const volume = this.#choose(name);
    if (volume instanceof GatewayError) return this.#closeFor(volume);
    this.#attach(
      volume,
      () => {
        const noZeroes = (this.#clientFlags & handshakeFlag.noZeroes) !== 0;
        const zeroes = new Uint8Array(noZeroes ? 0 : wireBytes.exportNameZeroes);
        this.#sendAll([encodeExport(volume, this.#negotiated), zeroes]);
      },
      (error) => this.#closeFor(error),
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
        this.#host.transmit(volume, this.#negotiated);
      },
      (error: unknown) => {
        if (!(error instanceof GatewayError)) throw error;
        if (this.#state !== 'closed') refuse(error);
      },
    );
  }

  /** The connection is gone, or is told to go. */
  close(): void {
    this.#state = 'closed';
  }

  #refuseExport(error: GatewayError): void {
    this.#host.rejected(error);
    this.#refuse(nbdAnswers[error.code].option, error.message);
  }

  #closeFor(error: GatewayError): void {
    this.#state = 'closed';
    this.#host.rejected(error);
    this.#host.end(error.message);
  }

  #visible(): readonly ServedVolume[] {
    return this.#exports().filter((volume) => this.#host.refusal(volume) === undefined);
  }

  #exports(): readonly ServedVolume[] {
    return this.#host.directory.list().filter((volume) => volume.nbd.enabled);
  }

  /** The volume that a client names, or why it cannot have it. */
  #choose(name: string | undefined): ServedVolume | GatewayError {
    const volume = this.#find(name);
    return volume === undefined ? this.#unknownExport(name) : (this.#host.refusal(volume) ?? volume);
  }

  /** The empty name is the default export: the only volume there is, visible or not. */
  #find(name: string | undefined): ServedVolume | undefined {
    if (name === undefined) return undefined;
    if (name === '') {
      const [first, ...others] = this.#exports();
      return others.length === 0 ? first : undefined;
    }
    const volume = this.#host.directory.find(name);
    return volume?.nbd.enabled === true ? volume : undefined;
  }

  #unknownExport(name: string | undefined): GatewayError {
    const names = this.#visible().map((volume) => volume.device.name);
    const there = names.length === 0 ? 'no volume is exported over NBD' : `there is: ${names.join(', ')}`;
    const sayable = name !== undefined && name.length <= limits.volumeNameCharsMax;
    const wrong =
      name === ''
        ? 'there is no default export, name the volume'
        : `no volume ${sayable ? JSON.stringify(name) : 'with that name'}`;
    return new GatewayError('not-found', `${wrong}; ${there}`);
  }

  #refuse(error: OptionError, message: string): void {
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
