/**
 * A gateway that always has something to send, with `upload: auto`, over a simulated bottleneck in virtual time.
 *
 * What stands between it and the bottleneck decides what its connections feel:
 * - 'nothing': the kernel's round-trip time has the queue in it;
 * - 'pushes back': something near takes from a connection what the line takes, so its buffer fills;
 * - 'swallows': something near takes everything at once and keeps it; only answers, one for each object, tell of a queue.
 */
import { promisify } from 'node:util';
import { BandwidthBudget } from '../../src/bandwidth/budget.js';
import { Bottleneck } from './bottleneck.js';
import { ManualClock } from './clock.js';
import { SeededRandom } from './random.js';

const turn = promisify(setImmediate);
const stepMs = 5;
const pieceBytes = 16 * 1024;
const uploads = 4;
const sampleMs = 100;
/** What one's own kernel holds for something that pushes back, and how much of the line's time that keeps itself. */
const kernelBytesMax = 512 * 1024;
const middleQueueMs = 100;

export interface Way {
  readonly bytesPerSecond: number;
  readonly roundTripMs: number;
  /** A store's own time for an answer: at least, and how much more at random. */
  readonly storeMs: readonly [least: number, more: number];
  readonly middle: 'nothing' | 'pushes back' | 'swallows';
  readonly objectBytes: number;
}

interface Waiting {
  readonly bytes: number;
  readonly entered: (arrivesMs: number) => void;
}

export class AutoSender {
  readonly clock = new ManualClock();
  readonly line: Bottleneck;
  readonly budget: BandwidthBudget;
  readonly #random = new SeededRandom(3);
  /** In one's own kernel. */
  readonly #kernel: Waiting[] = [];
  #kernelBytes = 0;
  #enteredBytes = 0;
  #sampledMs = 0;

  constructor(readonly way: Way) {
    const { bytesPerSecond, roundTripMs } = way;
    const { clock } = this;
    this.line = new Bottleneck({ clock, bytesPerSecond, roundTripMs, queueBytesMax: bytesPerSecond * 0.25 });
    this.budget = new BandwidthBudget({ clock, limit: 'auto', answers: true, onRate: () => undefined });
    for (let upload = 0; upload < uploads; upload++) void this.#uploads();
  }

  async #uploads(): Promise<void> {
    const { objectBytes, storeMs } = this.way;
    for (;;) {
      await this.budget.admission.take(objectBytes);
      const body = this.budget.begin();
      let arrival = Promise.resolve(0);
      for (let at = 0; at < objectBytes; at += pieceBytes) {
        await body.pass(pieceBytes);
        while (this.#kernelBytes >= kernelBytesMax) await this.clock.sleep(stepMs);
        arrival = this.#give(pieceBytes);
      }
      const arrivesMs = await arrival;
      const [least, more] = storeMs;
      await this.clock.sleep(arrivesMs - this.clock.nowMs() + least + this.#random.fraction() * more);
      body.answered();
    }
  }

  /** When it will have arrived. */
  #give(bytes: number): Promise<number> {
    return new Promise((entered) => {
      this.#kernel.push({ bytes, entered });
      this.#kernelBytes += bytes;
      this.#flow();
    });
  }

  #flow(): void {
    while (this.way.middle !== 'pushes back' || this.line.delayMs < middleQueueMs) {
      const next = this.#kernel.shift();
      if (next === undefined) return;
      this.#kernelBytes -= next.bytes;
      this.#enteredBytes += next.bytes;
      next.entered(this.line.enter(next.bytes));
    }
  }

  #sample(): void {
    if (this.clock.nowMs() - this.#sampledMs < sampleMs) return;
    this.#sampledMs = this.clock.nowMs();
    const { middle, roundTripMs } = this.way;
    this.budget.sample('round-trip', middle === 'nothing' ? this.line.delayMs + roundTripMs : 0.2);
    this.budget.sample('outstanding', (this.#kernelBytes * 1000) / this.budget.bytesPerSecond);
  }

  /** Moves on and says what share of the line each side had, and the mean and the greatest queueing delay. */
  async run(seconds: number) {
    this.line.resetStatistics();
    const before = this.#enteredBytes;
    for (let at = 0; at < seconds * 1000; at += stepMs) {
      this.line.step(stepMs);
      this.#flow();
      this.#sample();
      this.clock.advance(stepMs);
      // Once all that goes on without time has gone on.
      await turn();
    }
    const capacity = this.way.bytesPerSecond * seconds;
    return {
      own: (this.#enteredBytes - before) / capacity,
      others: this.line.othersBytes / capacity,
      delayMs: this.line.delaySum / this.line.delayCount,
      delayMsMax: this.line.delayMsMax,
    };
  }
}
