/**
 * `auto` at a simulated bottleneck, in virtual time: alone, beside traffic that fills queues, beside steady traffic; with
 * large objects and small ones; and with whatever may stand between the gateway and the bottleneck.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AUTO_BYTES_PER_SECOND_MIN } from '../../../src/bandwidth/auto-rate.js';
import { AutoSender } from '../../fake/auto-sender.js';
import type { Way } from '../../fake/auto-sender.js';

const large = 8 * 1024 * 1024;
const small = 256 * 1024;

const broadband: Way = {
  bytesPerSecond: 5e6,
  roundTripMs: 30,
  storeMs: [15, 60],
  middle: 'nothing',
  objectBytes: large,
};

const show = (share: object): string => JSON.stringify(share);

/**
 * What is asked with each middle and size. An answer for each object tells less often than the connection itself: the rate
 * leaves more room, and is slower to come back.
 */
const ways = (
  [
    ['nothing', large, { alone: 0.8, queueMs: 100, returnSeconds: 15 }],
    ['nothing', small, { alone: 0.8, queueMs: 100, returnSeconds: 15 }],
    ['pushes back', large, { alone: 0.8, queueMs: 110, returnSeconds: 45 }],
    ['pushes back', small, { alone: 0.8, queueMs: 110, returnSeconds: 45 }],
    ['swallows', large, { alone: 0.7, queueMs: 300, returnSeconds: 60 }],
    ['swallows', small, { alone: 0.8, queueMs: 100, returnSeconds: 45 }],
  ] as const
).map(([middle, objectBytes, wanted]) => ({
  name: `${objectBytes / 1024} KiB objects, ${middle === 'nothing' ? 'nothing between' : `a middle that ${middle}`}`,
  way: { ...broadband, middle, objectBytes },
  wanted,
}));

describe('automatic bandwidth', () => {
  for (const [name, way] of [
    ['20 Mbit/s up', { ...broadband, bytesPerSecond: 2.5e6 }],
    ['40 Mbit/s up', broadband],
    ['400 Mbit/s, near', { ...broadband, bytesPerSecond: 50e6, roundTripMs: 2 }],
    ['40 Mbit/s, far', { ...broadband, roundTripMs: 180 }],
    ['20 Mbit/s behind what swallows', { ...broadband, bytesPerSecond: 2.5e6, middle: 'swallows' }],
    ['400 Mbit/s behind what swallows', { ...broadband, bytesPerSecond: 50e6, middle: 'swallows' }],
    [
      'a store of great unrest, and small objects',
      { ...broadband, storeMs: [15, 240], middle: 'swallows', objectBytes: small },
    ],
    ['a store of great unrest, and large ones', { ...broadband, storeMs: [15, 240], middle: 'swallows' }],
  ] as const) {
    it(`fills a line that is idle, without a lasting queue: ${name}`, async (t) => {
      const sending = new AutoSender(way);
      await sending.run(60);
      const share = await sending.run(60);
      t.diagnostic(show(share));
      assert.ok(share.own >= (way.middle === 'nothing' ? 0.8 : 0.6), show(share));
      assert.ok(share.delayMs <= 100, show(share));
    });
  }

  for (const { name, way, wanted } of ways) {
    it(`gets out of the way of traffic that fills the queue, and comes back when that ends: ${name}`, async (t) => {
      const sending = new AutoSender(way);
      await sending.run(60);
      const alone = await sending.run(60);
      sending.line.startTcp();
      const yielding = await sending.run(30);
      const beside = await sending.run(60);
      sending.line.stopTcp();
      await sending.run(wanted.returnSeconds);
      const after = await sending.run(60);
      for (const [when, share] of Object.entries({ alone, yielding, beside, after }))
        t.diagnostic(`${when} ${show(share)}`);
      assert.ok(alone.own >= wanted.alone, show(alone));
      assert.ok(alone.delayMs <= wanted.queueMs, show(alone));
      assert.ok(beside.others >= 0.85, show(beside));
      assert.ok(sending.budget.bytesPerSecond >= AUTO_BYTES_PER_SECOND_MIN, 'but never stops');
      assert.ok(after.own >= wanted.alone, show(after));
      assert.ok(after.delayMs <= wanted.queueMs, show(after));
    });
  }

  for (const { name, way, wanted } of ways) {
    it(`takes what steady traffic leaves: ${name}`, async (t) => {
      const sending = new AutoSender(way);
      await sending.run(40);
      sending.line.steadyBytesPerSecond = 3e6;
      await sending.run(60);
      const share = await sending.run(60);
      t.diagnostic(show(share));
      assert.ok(share.others > 0.59, show(share));
      assert.ok(share.own >= 0.2, show(share));
      assert.ok(share.delayMs <= wanted.queueMs, show(share));
    });
  }
});
