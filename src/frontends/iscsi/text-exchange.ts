/**
 * Text requests of the full-feature phase and their answers, each in several PDUs where it is long (RFC 7143, sections
 * 6.2, 11.10, 11.11). One exchange is under way at a time; a new one forgets an older one.
 *
 *   initiator                                target
 *   F=0 C=1 tag NO_TAG   "Send"              F=0 C=0 tag T   (go on)
 *   F=1 C=0 tag T        "Targets=All"       F=0 C=1 tag T   (more to come)
 *   F=1 C=0 tag T        (nothing)           F=1 C=0 tag NO_TAG
 *
 * The answer says F=1 only to a request that did, so that a negotiation goes on as long as the initiator wants.
 */
import { ProtocolError } from '../../base/errors.js';
import { limits } from '../../base/limits.js';
import { formatText, parseText } from './text.js';
import type { Pair } from './text.js';
import { NO_TAG } from './wire.js';

export interface TextRequest {
  readonly transferTag: number;
  /** F: the initiator has nothing more to negotiate. */
  readonly final: boolean;
  /** C: its text ends amid an item, or at least goes on. */
  readonly continued: boolean;
  readonly data: Uint8Array;
}

export interface TextReply {
  readonly data: Uint8Array;
  /** NO_TAG: the exchange is over. */
  readonly transferTag: number;
  /** More of this text follows, when it is asked for. */
  readonly continued: boolean;
}

const NOTHING = new Uint8Array(0);

export class TextExchange {
  readonly #answer: (pair: Pair) => readonly Pair[];
  #open = false;
  #collected: Uint8Array[] = [];
  #collectedBytes = 0;
  #unsent: Uint8Array = NOTHING;
  #transferTag = 0;
  readonly #seen = new Set<string>();

  constructor(answer: (pair: Pair) => readonly Pair[]) {
    this.#answer = answer;
  }

  /**
   * `segmentBytesMax`: what the initiator takes at once. The exchange is forgotten where a request breaks its rules.
   * @throws ProtocolError
   */
  request(request: TextRequest, segmentBytesMax: number): TextReply {
    try {
      return this.#request(request, segmentBytesMax);
    } catch (error) {
      this.#forget();
      throw error;
    }
  }

  #request({ transferTag, final, continued, data }: TextRequest, segmentBytesMax: number): TextReply {
    if (transferTag === NO_TAG) {
      this.#forget();
    } else if (!this.#open || transferTag !== this.#transferTag) {
      throw new ProtocolError('a text request continues what was not begun (RFC 7143 11.10.4)');
    }
    this.#open = true;
    if (final && continued) throw new ProtocolError('a text request is final and continued (RFC 7143 11.10.2)');
    if (this.#unsent.length > 0) {
      if (data.length > 0) throw new ProtocolError('a text request interrupts its answer (RFC 7143 6.2)');
      return this.#next(final, segmentBytesMax);
    }
    this.#collectedBytes += data.length;
    if (this.#collectedBytes > limits.iscsiTextBytesMax) throw new ProtocolError('a text request is too long');
    this.#collected.push(data.slice());
    if (continued) return { data: NOTHING, transferTag: this.#transferTag, continued: false };
    const pairs = parseText(Buffer.concat(this.#collected));
    this.#collected = [];
    this.#unsent = formatText(pairs.flatMap((pair) => this.#once(pair)));
    return this.#next(final, segmentBytesMax);
  }

  #once(pair: Pair): readonly Pair[] {
    if (this.#seen.has(pair.key)) throw new ProtocolError(`${pair.key} was negotiated twice (RFC 7143 6.2)`);
    this.#seen.add(pair.key);
    return this.#answer(pair);
  }

  #next(final: boolean, segmentBytesMax: number): TextReply {
    const data = this.#unsent.subarray(0, segmentBytesMax);
    this.#unsent = this.#unsent.subarray(data.length);
    const continued = this.#unsent.length > 0;
    if (final && !continued) {
      this.#forget();
      return { data, transferTag: NO_TAG, continued };
    }
    return { data, transferTag: this.#transferTag, continued };
  }

  #forget(): void {
    this.#open = false;
    this.#collected = [];
    this.#collectedBytes = 0;
    this.#unsent = NOTHING;
    this.#seen.clear();
    this.#transferTag = (this.#transferTag + 1) % NO_TAG;
  }
}
