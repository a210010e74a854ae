/**
 * Virtual time: everything that the simulated world does later is an event here, and events are run one at a time, each
 * with all microtasks that it causes, before the next. Equal times run in the order in which they were asked for, so one
 * seed gives one history; `digest` sums that history up.
 */
import type { Clock, Timer } from '../../src/ports/clock.js';

interface Event {
  readonly atMs: number;
  readonly order: number;
  /** undefined: cancelled. */
  run: (() => void) | undefined;
}

/** Where simulated wall clocks begin, milliseconds since 1970. */
const EPOCH_MS = 1_800_000_000_000;

export class Scheduler {
  nowMs = 0;
  events = 0;
  private readonly heap: Event[] = [];
  private ordered = 0;
  private hash = 0x811c_9dc5;
  private otherHash = 0x1000_193;
  private standstill: Promise<void> | undefined;

  at(delayMs: number, run: () => void): Timer {
    // A positive delay moves time on, however short it is.
    const delay = delayMs > 0 ? Math.max(delayMs, 0.001) : 0;
    const event: Event = { atMs: this.nowMs + delay, order: this.ordered++, run };
    this.push(event);
    return {
      cancel: () => {
        event.run = undefined;
      },
    };
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.at(delayMs, resolve));
  }

  /** Adds something that happened to the digest. */
  note(what: string, value = 0): void {
    let { hash, otherHash } = this;
    for (let i = 0; i < what.length; i++) hash = Math.imul(hash ^ what.charCodeAt(i), 0x0100_0193);
    otherHash = Math.imul(otherHash ^ (value | 0), 0x85eb_ca6b) ^ (hash >>> 13);
    hash = Math.imul(hash ^ otherHash, 0x0100_0193);
    this.hash = hash;
    this.otherHash = otherHash;
  }

  get digest(): string {
    return `${(this.hash >>> 0).toString(16)}-${(this.otherHash >>> 0).toString(16)}-${this.events}`;
  }

  /** Runs events until the promise is settled; throws when nothing is left that could settle it, or after virtualMsMax. */
  async drive<Result>(work: Promise<Result>, virtualMsMax = Infinity): Promise<Result> {
    let settled = false;
    const ended = (): void => {
      settled = true;
    };
    work.then(ended, ended);
    const untilMs = this.nowMs + virtualMsMax;
    await this.settle();
    while (!settled) {
      const event = this.pop();
      if (event === undefined)
        throw new Error(`nothing is left to happen at ${this.nowMs} ms, and the work is not done`);
      if (event.run === undefined) continue;
      if (event.atMs > untilMs) throw new Error(`the work is not done after ${virtualMsMax} ms of virtual time`);
      this.nowMs = Math.max(this.nowMs, event.atMs);
      this.events++;
      event.run();
      await this.settle();
    }
    return work;
  }

  private async settle(): Promise<void> {
    await microtasks();
    while (this.standstill !== undefined) {
      await this.standstill;
      await microtasks();
    }
  }

  /** Does something of another world while nothing happens in this one. */
  async aside<Result>(work: () => Promise<Result>): Promise<Result> {
    const running = work();
    this.standstill = running.then(
      () => undefined,
      () => undefined,
    );
    try {
      return await running;
    } finally {
      this.standstill = undefined;
    }
  }

  private push(event: Event): void {
    const { heap } = this;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
  }

  private pop(): Event | undefined {
    const { heap } = this;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function before(left: Event, right: Event): boolean {
  return left.atMs < right.atMs || (left.atMs === right.atMs && left.order < right.order);
}

/** Everything that is ready runs before this resolves. */
export function microtasks(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/**
 * One life of a process. Once it is over, none of its promises is ever settled again and none of its timers runs: old
 * code that still waits somewhere waits for ever, as it does after a SIGKILL.
 */
export class Life {
  alive = true;
  private paused = false;
  private readonly backlog: (() => void)[] = [];
  readonly scheduler: Scheduler;
  readonly clock: Clock;
  private readonly deaths: (() => void)[] = [];

  /** `skewMs`: how far this machine's wall clock is off. */
  constructor(scheduler: Scheduler, skewMs: () => number = () => 0) {
    this.scheduler = scheduler;
    this.clock = {
      nowMs: () => scheduler.nowMs,
      wallMs: () => Math.floor(EPOCH_MS + scheduler.nowMs + skewMs()),
      after: (delayMs, callback) => this.later(delayMs, callback),
      sleep: (delayMs, signal) =>
        new Promise((resolve, reject) => {
          if (signal?.aborted === true) return reject(signal.reason as Error);
          const aborted = (): void => {
            timer.cancel();
            reject(signal?.reason as Error);
          };
          const timer = this.later(delayMs, () => {
            signal?.removeEventListener('abort', aborted);
            resolve();
          });
          signal?.addEventListener('abort', aborted);
        }),
    };
  }

  later(delayMs: number, run: () => void): Timer {
    return this.scheduler.at(delayMs, () => {
      if (!this.alive) return;
      if (this.paused) this.backlog.push(run);
      else run();
    });
  }

  /** SIGSTOP: whatever comes due waits. */
  pause(): void {
    this.paused = true;
  }

  /** SIGCONT. */
  resume(): void {
    this.paused = false;
    for (const run of this.backlog.splice(0)) this.later(0, run);
  }

  onDeath(run: () => void): void {
    this.deaths.push(run);
  }

  /** Nothing of this life has an effect any more. */
  end(): void {
    if (!this.alive) return;
    this.alive = false;
    for (const run of this.deaths) run();
  }
}
