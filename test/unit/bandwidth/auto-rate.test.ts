/** `auto` at a simulated bottleneck, in virtual time: alone, beside traffic that fills queues, beside steady traffic. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AUTO_BYTES_PER_SECOND_MIN } from '../../../src/bandwidth/auto-rate.js';
import { BandwidthBudget } from '../../../src/bandwidth/budget.js';
import { Bottleneck } from '../../fake/bottleneck.js';
import { ManualClock } from '../../fake/clock.js';
import { SeededRandom } from '../../fake/random.js';

const stepMs = 5;
const objectBytes = 8 * 1024 * 1024;
const pieceBytes = 16 * 1024;

interface Way {
  readonly bytesPerSecond: number;
  readonly roundTripMs: number;
  /** A store's own time for an answer: at least, and how much more at random. */
  readonly storeMs: readonly [least: number, more: number];
  /** Without: only answers tell, as behind a proxy. */
  readonly seesRoundTrips: boolean;
}

const broadband: Way = { bytesPerSecond: 5e6, roundTripMs: 30, storeMs: [15, 60], seesRoundTrips: true };

/** A gateway that always has something to send, over a bottleneck. */
class Sending {
  readonly clock = new ManualClock();
  readonly line: Bottleneck;
  readonly budget: BandwidthBudget;
  readonly #random = new SeededRandom(3);
  sentBytes = 0;
  #sampledMs = 0;

  constructor(readonly way: Way) {
    const { bytesPerSecond, roundTripMs } = way;
    const { clock } = this;
    this.line = new Bottleneck({ clock, bytesPerSecond, roundTripMs, queueBytesMax: bytesPerSecond * 0.25 });
    this.budget = new BandwidthBudget({ clock, limit: 'auto', onRate: () => undefined });
    for (let upload = 0; upload < 4; upload++) void this.#uploads();
  }

  async #uploads(): Promise<void> {
    for (;;) {
      await this.budget.admission.take(objectBytes);
      const name = this.budget.begin();
      let arrivesMs = 0;
      for (let at = 0; at < objectBytes; at += pieceBytes) {
        await this.budget.pass(name, pieceBytes);
        arrivesMs = this.line.enter(pieceBytes);
        this.sentBytes += pieceBytes;
        this.#sampleRoundTrip();
      }
      const sentMs = this.clock.nowMs();
      const [least, more] = this.way.storeMs;
      await this.clock.sleep(arrivesMs - sentMs + least + this.#random.fraction() * more);
      this.budget.sample('answer', this.clock.nowMs() - sentMs);
    }
  }

  /** As the kernel knows it: smoothed over what was sent before, so here simply the present one. */
  #sampleRoundTrip(): void {
    if (!this.way.seesRoundTrips || this.clock.nowMs() - this.#sampledMs < 100) return;
    this.#sampledMs = this.clock.nowMs();
    this.budget.sample('round-trip', this.line.delayMs + this.way.roundTripMs);
  }

  /** Moves on and says what share of the line each side had, and the mean and the greatest queueing delay. */
  async run(seconds: number) {
    this.line.resetStatistics();
    const before = this.sentBytes;
    for (let at = 0; at < seconds * 1000; at += stepMs) {
      this.line.step(stepMs);
      this.clock.advance(stepMs);
      for (let turn = 0; turn < 40; turn++) await Promise.resolve();
    }
    const capacity = this.way.bytesPerSecond * seconds;
    return {
      own: (this.sentBytes - before) / capacity,
      others: this.line.othersBytes / capacity,
      delayMs: this.line.delaySum / this.line.delayCount,
      delayMsMax: this.line.delayMsMax,
    };
  }
}

const show = (share: object): string => JSON.stringify(share);

describe('automatic bandwidth', () => {
  for (const [name, way] of [
    ['20 Mbit/s up', { ...broadband, bytesPerSecond: 2.5e6 }],
    ['40 Mbit/s up', broadband],
    ['400 Mbit/s, near', { ...broadband, bytesPerSecond: 50e6, roundTripMs: 2 }],
    ['40 Mbit/s, far', { ...broadband, roundTripMs: 180 }],
    ['40 Mbit/s, behind a proxy that hides round trips', { ...broadband, seesRoundTrips: false }],
  ] as const) {
    it(`fills a line that is idle, without a lasting queue: ${name}`, async (t) => {
      const sending = new Sending(way);
      await sending.run(40);
      const share = await sending.run(60);
      t.diagnostic(show(share));
      assert.ok(share.own >= (way.seesRoundTrips ? 0.8 : 0.65), show(share));
      assert.ok(share.delayMs <= (way.seesRoundTrips ? 100 : 150), show(share));
    });
  }

  it('gets out of the way of traffic that fills the queue, and comes back when that ends', async (t) => {
    const sending = new Sending(broadband);
    await sending.run(60);
    sending.line.startTcp();
    const yielding = await sending.run(20);
    const beside = await sending.run(60);
    sending.line.stopTcp();
    const returning = await sending.run(15);
    const after = await sending.run(30);
    for (const [when, share] of Object.entries({ yielding, beside, returning, after }))
      t.diagnostic(`${when} ${show(share)}`);
    assert.ok(beside.others >= 0.85, show(beside));
    assert.ok(beside.own * broadband.bytesPerSecond >= AUTO_BYTES_PER_SECOND_MIN * 0.9, 'but never stops');
    assert.ok(returning.own >= 0.5, show(returning));
    assert.ok(after.own >= 0.8, show(after));
    assert.ok(after.delayMs <= 100, show(after));
  });

  it('takes what steady traffic leaves, and does not delay it', async (t) => {
    const sending = new Sending(broadband);
    await sending.run(30);
    sending.line.steadyBytesPerSecond = 3e6;
    await sending.run(30);
    const share = await sending.run(60);
    t.diagnostic(show(share));
    assert.ok(share.others > 0.59, show(share));
    assert.ok(share.own >= 0.25, show(share));
    assert.ok(share.delayMs <= 100, show(share));
  });
});
