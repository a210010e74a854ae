/** Text requests of the full-feature phase, and the keys that may be used in it (RFC 7143, sections 11.10, 13). */
import { ProtocolError } from '../../base/errors.js';
import type { Stream } from '../../ports/stream.js';
import { readU32 } from '../../scsi/big-endian.js';
import { negotiate, refuseKey, REJECT } from './parameter.js';
import type { Parameters } from './parameter.js';
import type { Responder } from './responder.js';
import { sendTargets } from './send-targets.js';
import type { TargetNaming } from './send-targets.js';
import type { Session } from './session.js';
import type { Pair } from './text.js';
import { TextExchange } from './text-exchange.js';
import { field, FINAL, NO_TAG, rejectReason, TEXT_CONTINUE } from './wire.js';

export interface TextServiceOptions {
  readonly session: Session;
  readonly naming: TargetNaming;
  readonly parameters: Parameters;
  readonly stream: Stream;
  readonly responder: Responder;
}

export class TextService {
  readonly #options: TextServiceOptions;
  readonly #exchange = new TextExchange((pair) => this.#answerKey(pair));
  /** Declared in the exchange under way: takes effect at its end (6.2). */
  #declared: Parameters | undefined;

  constructor(options: TextServiceOptions) {
    this.#options = options;
  }

  /** A request that breaks the rules is rejected, and what it negotiated is forgotten (7.11). */
  answer(header: Uint8Array, at: number, data: Uint8Array): void {
    const { parameters, responder } = this.#options;
    const flags = header[at + field.flags] ?? 0;
    const transferTag = readU32(header, at + field.targetTransferTag);
    const request = {
      transferTag,
      final: (flags & FINAL) !== 0,
      continued: (flags & TEXT_CONTINUE) !== 0,
      data,
    };
    if (transferTag === NO_TAG) this.#declared = undefined;
    try {
      const reply = this.#exchange.request(request, parameters.sendSegmentBytesMax);
      responder.text(readU32(header, at + field.initiatorTaskTag), reply);
      if (reply.transferTag !== NO_TAG || this.#declared === undefined) return;
      parameters.sendSegmentBytesMax = this.#declared.sendSegmentBytesMax;
      this.#declared = undefined;
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#declared = undefined;
      responder.reject(rejectReason.protocolError, header, at);
    }
  }

  #answerKey({ key, value }: Pair): readonly Pair[] {
    const { naming, stream, parameters, session } = this.#options;
    if (key === 'SendTargets') {
      const connected = session.served?.volume;
      return sendTargets(
        naming,
        { initiatorName: session.identity.initiatorName, peer: stream.peer, connected },
        value,
      );
    }
    if (key === 'InitiatorAlias') return [];
    if (key !== 'MaxRecvDataSegmentLength') return [{ key, value: refuseKey(key) }];
    const declared = { ...(this.#declared ?? parameters) };
    const answer = negotiate(key, value, declared, {
      discovery: session.served === undefined,
      digests: 'offered',
      leading: false,
    });
    if (answer !== REJECT) this.#declared = declared;
    return [{ key, value: answer }];
  }
}
