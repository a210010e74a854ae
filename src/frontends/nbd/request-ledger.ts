/**
 * The requests of one connection that have no reply yet: their pooled slots, and what is counted when they end.
 *
 * The clock is looked at twice per wake-up, not per request: requests that arrived and were answered within one wake-up
 * lasted from its beginning to its end, where their replies leave. Their slots are in use until then.
 */
import type { IoStats } from '../../base/io-stats.js';
import type { Clock } from '../../ports/clock.js';
import { RequestSlot } from './request-slot.js';
import type { SlotOwner } from './request-slot.js';
import { errno } from './wire.js';

export class RequestLedger {
  readonly #owner: SlotOwner;
  readonly #stats: IoStats;
  readonly #clock: Clock;
  readonly #free: RequestSlot[] = [];
  /** Answered in this wake-up. */
  readonly #answered: RequestSlot[] = [];
  #wakeUpMs = 0;
  #inWakeUp = false;
  #used = 0;
  #begun = 0;

  constructor(owner: SlotOwner, stats: IoStats, clock: Clock) {
    this.#owner = owner;
    this.#stats = stats;
    this.#clock = clock;
  }

  get used(): number {
    return this.#used;
  }

  /** Requests since the connection began. */
  get begun(): number {
    return this.#begun;
  }

  get inWakeUp(): boolean {
    return this.#inWakeUp;
  }

  beginWakeUp(): void {
    this.#inWakeUp = true;
    this.#wakeUpMs = this.#clock.nowMs();
  }

  /** Returns whether any request was answered in the wake-up. */
  endWakeUp(): boolean {
    this.#inWakeUp = false;
    const answered = this.#answered;
    if (answered.length === 0) return false;
    const nowMs = this.#clock.nowMs();
    for (const slot of answered) this.#count(slot, nowMs);
    answered.length = 0;
    return true;
  }

  /** A request that arrived in this wake-up. */
  take(): RequestSlot {
    this.#used++;
    this.#begun++;
    this.#stats.inflight++;
    const slot = this.#free.pop() ?? new RequestSlot(this.#owner);
    slot.startedMs = this.#wakeUpMs;
    return slot;
  }

  /** Its reply is on its way. */
  end(slot: RequestSlot): void {
    if (this.#inWakeUp) this.#answered.push(slot);
    else this.#count(slot, this.#clock.nowMs());
  }

  /** It will have no reply: its connection, or its payload, is gone. */
  drop(slot: RequestSlot): void {
    this.#used--;
    this.#stats.inflight--;
    slot.error = errno.none;
    slot.buffer = undefined;
    this.#free.push(slot);
  }

  #count(slot: RequestSlot, nowMs: number): void {
    this.#stats.record(slot.op, slot.lengthBytes, (nowMs - slot.startedMs) * 1000, slot.error !== errno.none);
    this.drop(slot);
  }
}
