/**
 * CHAP as a target (RFC 7143, section 12.1.3; RFC 1994): the initiator proves its secret, and may ask for ours.
 *
 *   initiator                           target
 *   CHAP_A=7,5                          CHAP_A=7 CHAP_I=… CHAP_C=…
 *   CHAP_N=… CHAP_R=… [CHAP_I CHAP_C]   [CHAP_N=… CHAP_R=…]
 *
 * A response is hash(identifier || secret || challenge). A challenge that comes back as the initiator's own is refused
 * (reflection), and so is mutual authentication with equal secrets. Everything that is wrong is one outcome, and secrets
 * and names are compared in constant time.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Random } from '../../ports/random.js';
import type { ChapSecrets } from '../../ports/volume-directory.js';
import { equalBytes } from '../../base/bytes.js';
import { formatBinary, parseBinary, parseNumber } from './text.js';
import type { Pair } from './text.js';

interface Algorithm {
  /** IANA, PPP authentication algorithms. */
  readonly number: number;
  readonly hash: string;
  readonly bytes: number;
}

/** Best first. MD5 has to stay: some initiators know nothing else. */
export const algorithms: readonly Algorithm[] = [
  { number: 8, hash: 'sha3-256', bytes: 32 },
  { number: 7, hash: 'sha256', bytes: 32 },
  { number: 6, hash: 'sha1', bytes: 20 },
  { number: 5, hash: 'md5', bytes: 16 },
];

const CHALLENGE_BYTES_MIN = 1;
const CHALLENGE_BYTES_MAX = 1024;

export function chapResponse(hash: string, identifier: number, secret: Uint8Array, challenge: Uint8Array): Uint8Array {
  return createHash(hash).update(Uint8Array.of(identifier)).update(secret).update(challenge).digest();
}

export type ChapStep =
  | { readonly kind: 'continue'; readonly pairs: readonly Pair[] }
  | { readonly kind: 'done'; readonly pairs: readonly Pair[] }
  | { readonly kind: 'failed'; readonly reason: string };

export class ChapTarget {
  readonly #secrets: ChapSecrets;
  readonly #random: Random;
  #algorithm: Algorithm | undefined;
  #identifier = 0;
  #challenge = new Uint8Array(0);

  constructor(options: { readonly secrets: ChapSecrets; readonly random: Random }) {
    this.#secrets = options.secrets;
    this.#random = options.random;
  }

  /** One exchange: the CHAP_ keys of one login request. */
  receive(keys: ReadonlyMap<string, string>): ChapStep {
    if (this.#algorithm === undefined) return this.#choose(keys.get('CHAP_A'));
    return this.#verify(this.#algorithm, keys);
  }

  #choose(offered: string | undefined): ChapStep {
    if (offered === undefined) return { kind: 'continue', pairs: [] };
    const numbers = offered.split(',').map(parseNumber);
    const algorithm = algorithms.find((each) => numbers.includes(each.number));
    if (algorithm === undefined) return { kind: 'failed', reason: `no CHAP algorithm of ${offered} is known` };
    this.#algorithm = algorithm;
    this.#identifier = this.#random.bytes(1)[0] ?? 0;
    this.#challenge = Uint8Array.from(this.#random.bytes(algorithm.bytes));
    return {
      kind: 'continue',
      pairs: [
        { key: 'CHAP_A', value: String(algorithm.number) },
        { key: 'CHAP_I', value: String(this.#identifier) },
        { key: 'CHAP_C', value: formatBinary(this.#challenge) },
      ],
    };
  }

  #verify(algorithm: Algorithm, keys: ReadonlyMap<string, string>): ChapStep {
    const response = parseBinary(keys.get('CHAP_R') ?? '', algorithm.bytes);
    const expected = chapResponse(algorithm.hash, this.#identifier, this.#secrets.secret, this.#challenge);
    const isRight = response?.length === expected.length && timingSafeEqual(response, expected);
    const isNamed = equalInSecret(keys.get('CHAP_N') ?? '', this.#secrets.user);
    if (!isRight || !isNamed) return { kind: 'failed', reason: 'the CHAP name or response is wrong' };
    const asked = keys.get('CHAP_C');
    if (asked === undefined) return { kind: 'done', pairs: [] };
    return this.#prove(algorithm, asked, keys.get('CHAP_I') ?? '');
  }

  /** The initiator wants to know whether it talks to the right target. */
  #prove(algorithm: Algorithm, asked: string, identifierText: string): ChapStep {
    const { secret, mutualSecret, mutualUser } = this.#secrets;
    if (mutualSecret === undefined || mutualUser === undefined) {
      return { kind: 'failed', reason: 'the initiator asks for mutual CHAP, which is not set up' };
    }
    const challenge = parseBinary(asked, CHALLENGE_BYTES_MAX);
    const identifier = parseNumber(identifierText);
    if (
      challenge === undefined ||
      challenge.length < CHALLENGE_BYTES_MIN ||
      identifier === undefined ||
      identifier > 255
    ) {
      return { kind: 'failed', reason: 'the CHAP challenge is malformed' };
    }
    if (equalBytes(challenge, this.#challenge)) return { kind: 'failed', reason: 'our CHAP challenge was reflected' };
    if (equalBytes(secret, mutualSecret)) return { kind: 'failed', reason: 'both CHAP secrets are the same' };
    const response = chapResponse(algorithm.hash, identifier, mutualSecret, challenge);
    return {
      kind: 'done',
      pairs: [
        { key: 'CHAP_N', value: mutualUser },
        { key: 'CHAP_R', value: formatBinary(response) },
      ],
    };
  }
}

/** Hashed first, so that neither content nor length shows in the time. */
function equalInSecret(left: string, right: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text, 'utf8').digest();
  return timingSafeEqual(digest(left), digest(right));
}
