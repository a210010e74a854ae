/**
 * One protocol's search: cases are made from nothing, or from those that showed something new, and the kept ones are played
 * before all others.
 */
import type { SeededRandom } from '../fake/random.js';
import { corpusFileOf, keepCase, readCorpus } from './corpus.js';
import { makeCase as makeIscsiCase, mutateCase as mutateIscsiCase } from './iscsi-case.js';
import { runIscsiCase } from './iscsi-run.js';
import { makeCase as makeNbdCase, mutateCase as mutateNbdCase } from './nbd-case.js';
import { runNbdCase } from './nbd-run.js';

export interface Fuzzer<Case> {
  readonly name: string;
  make(random: SeededRandom): Case;
  mutate(from: Case, random: SeededRandom): Case;
  /** What it showed, in words; throws what was wrong. */
  run(steps: Case): Promise<readonly string[]>;
}

const iscsi = { name: 'iscsi', make: makeIscsiCase, mutate: mutateIscsiCase, run: runIscsiCase };
const nbd = { name: 'nbd', make: makeNbdCase, mutate: mutateNbdCase, run: runNbdCase };

export const protocols = ['nbd', 'iscsi'] as const;
export type Protocol = (typeof protocols)[number];

export interface CampaignOptions {
  /** Instead of the protocol's own corpus. */
  readonly file?: string | undefined;
  /** What shows something new is added to the corpus. */
  readonly keep?: boolean;
  /** The kept cases are played only as what others are made of. */
  readonly skipKnown?: boolean;
}

/** A case that failed, as its corpus would keep it. */
export class CaseError extends Error {}

export class Campaign {
  readonly name: string;
  /** Cases that were kept, and are played first. */
  readonly known: number;
  cases = 0;
  readonly seen = new Set<string>();

  private constructor(
    private readonly fuzzer: Fuzzer<unknown>,
    private readonly corpus: unknown[],
    { skipKnown = false }: CampaignOptions,
    private readonly keepIn: string | undefined,
  ) {
    this.name = fuzzer.name;
    this.known = skipKnown ? 0 : corpus.length;
  }

  static async start(protocol: Protocol, options: CampaignOptions = {}): Promise<Campaign> {
    const file = options.file ?? corpusFileOf(protocol);
    const fuzzer = (protocol === 'nbd' ? nbd : iscsi) as Fuzzer<unknown>;
    return new Campaign(fuzzer, await readCorpus(file), options, options.keep === true ? file : undefined);
  }

  /** One case. @throws CaseError */
  async next(random: SeededRandom): Promise<void> {
    const isKept = this.cases < this.known;
    const steps = isKept ? this.corpus[this.cases] : this.choose(random);
    this.cases++;
    const words = await this.fuzzer.run(steps).catch((cause: unknown) => {
      throw new CaseError(`${String((cause as Error).stack)}\n${JSON.stringify(steps)}`, { cause });
    });
    const isNew = words.some((word) => !this.seen.has(word));
    for (const word of words) this.seen.add(word);
    if (!isNew || isKept) return;
    this.corpus.push(steps);
    if (this.keepIn !== undefined) await keepCase(this.keepIn, steps);
  }

  private choose(random: SeededRandom): unknown {
    const from = random.fraction() < 0.6 ? this.corpus[random.below(this.corpus.length)] : undefined;
    return from === undefined ? this.fuzzer.make(random) : this.fuzzer.mutate(from, random);
  }
}
