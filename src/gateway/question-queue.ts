/** Questions to somebody in another thread: so many at a time, the others in the order in which they came. */
import { GatewayError } from '../base/errors.js';

interface Waiting<Question, Answer> {
  readonly question: Question;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

export class QuestionQueue<Question, Answer> {
  readonly #askedMax: number;
  readonly #ask: (id: number, question: Question) => void;
  readonly #abandon: (id: number) => void;
  /** In the order in which they came. */
  readonly #waiting = new Map<number, Waiting<Question, Answer>>();
  /** Those of them that were asked. */
  readonly #asked = new Set<number>();

  constructor(options: {
    readonly askedMax: number;
    readonly ask: (id: number, question: Question) => void;
    /** Nobody waits any more for what was asked. */
    readonly abandon: (id: number) => void;
  }) {
    this.#askedMax = options.askedMax;
    this.#ask = options.ask;
    this.#abandon = options.abandon;
  }

  /** `id`: of no other question, in no queue to the same one. Rejects with volume-closed when `signal` aborts. */
  ask(id: number, question: Question, signal: AbortSignal | undefined): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { question, resolve, reject });
      signal?.addEventListener('abort', () => this.#giveUp(id), { once: true });
      this.#askNext();
    });
  }

  /** What is not waited for any more is let pass. */
  answered(id: number, answer: Answer | GatewayError): void {
    const waiting = this.#waiting.get(id);
    this.#settled(id);
    if (answer instanceof GatewayError) waiting?.reject(answer);
    else waiting?.resolve(answer);
  }

  giveUpAll(): void {
    for (const id of this.#waiting.keys()) this.#giveUp(id);
  }

  #askNext(): void {
    for (const [id, { question }] of this.#waiting) {
      if (this.#asked.size >= this.#askedMax) return;
      if (this.#asked.has(id)) continue;
      this.#asked.add(id);
      this.#ask(id, question);
    }
  }

  #settled(id: number): void {
    this.#waiting.delete(id);
    if (this.#asked.delete(id)) this.#askNext();
  }

  #giveUp(id: number): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    if (this.#asked.has(id)) this.#abandon(id);
    this.#settled(id);
    waiting.reject(new GatewayError('volume-closed', 'nobody waits for it any more'));
  }
}
