/**
 * Text requests of the full-feature phase and their answers, each in several PDUs where it is long (RFC 7143, sections
 * 11.10, 11.11). One exchange is under way at a time; a new one forgets an older one.
 */
import { ProtocolError } from '../../base/errors.js';
import { limits } from '../../base/limits.js';
import { formatText, parseText } from './text.js';
import type { Pair } from './text.js';
import { NO_TAG } from './wire.js';

export interface TextReply {
  readonly data: Uint8Array;
  /** NO_TAG: the exchange is over. */
  readonly transferTag: number;
}

const NOTHING = new Uint8Array(0);

export class TextExchange {
  readonly #answer: (pair: Pair) => readonly Pair[];
  #collected: Uint8Array[] = [];
  #collectedBytes = 0;
  #unsent: Uint8Array = NOTHING;
  #transferTag = 0;

  constructor(answer: (pair: Pair) => readonly Pair[]) {
    this.#answer = answer;
  }

  /** `segmentBytesMax`: what the initiator takes at once. @throws ProtocolError */
  request(transferTag: number, final: boolean, data: Uint8Array, segmentBytesMax: number): TextReply {
    if (transferTag === NO_TAG) {
      this.#forget();
    } else if (transferTag !== this.#transferTag) {
      throw new ProtocolError('a text request continues what was not begun (RFC 7143 11.10.4)');
    }
    if (this.#unsent.length > 0) return this.#next(segmentBytesMax);
    this.#collectedBytes += data.length;
    if (this.#collectedBytes > limits.iscsiTextBytesMax) throw new ProtocolError('a text request is too long');
    this.#collected.push(data.slice());
    if (!final) return { data: NOTHING, transferTag: this.#transferTag };
    const pairs = parseText(Buffer.concat(this.#collected));
    this.#forget();
    this.#unsent = formatText(pairs.flatMap((pair) => this.#answer(pair)));
    return this.#next(segmentBytesMax);
  }

  #next(segmentBytesMax: number): TextReply {
    const data = this.#unsent.subarray(0, segmentBytesMax);
    this.#unsent = this.#unsent.subarray(data.length);
    return { data, transferTag: this.#unsent.length > 0 ? this.#transferTag : NO_TAG };
  }

  #forget(): void {
    this.#collected = [];
    this.#collectedBytes = 0;
    this.#unsent = NOTHING;
    this.#transferTag = (this.#transferTag + 1) % NO_TAG;
  }
}
