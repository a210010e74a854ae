import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { ReceiptLine } from '../../../src/gateway/receipt-line.js';
import type { ReceiptOutlet } from '../../../src/ports/receipt-outlet.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedLog } from '../../fake/log.js';
import { ticks } from '../../fake/replication-rig.js';

class Place implements ReceiptOutlet {
  broken = false;
  readonly published: string[] = [];
  readBack(): Promise<string | undefined> {
    if (this.broken) return Promise.reject(new GatewayError('receipt-outlet-failed', 'it is gone'));
    return Promise.resolve(this.published.at(-1));
  }
  publish(text: string): Promise<void> {
    if (this.broken) return Promise.reject(new GatewayError('receipt-outlet-failed', 'it is gone'));
    this.published.push(text);
    return Promise.resolve();
  }
}

const lineTo = (outlet: Place | undefined) => {
  const clock = new ManualClock();
  const log = new RecordedLog();
  return { line: new ReceiptLine({ outlet, clock, log }), clock, log };
};

describe('the line of receipts', () => {
  it('publishes the newest again and again until it is there', async () => {
    const place = new Place();
    const { line, clock } = lineTo(place);
    place.broken = true;
    for (const result of ['one', 'two']) line.received({ type: 'receipt', id: 0, result });
    await ticks(2);
    line.received({ type: 'receipt', id: 0, result: 'three' });
    assert.deepEqual(await line.known(), [], 'a place that does not answer holds nobody up');
    place.broken = false;
    clock.advance(60_000);
    await ticks(2);
    assert.deepEqual(place.published, ['three']);
    assert.deepEqual(await line.known(), ['three']);
    line.received({ type: 'receipt', id: 0, result: 'four' });
    await ticks(2);
    assert.deepEqual(place.published, ['three', 'four']);
    line.close();
  });

  it('answers who asks, each one once, and refuses when there is nobody to ask any more', async () => {
    const { line } = lineTo(undefined);
    const ids: number[] = [];
    const ask = () =>
      line.ask((message) => {
        if (message.type === 'receipt') ids.push(message.id);
      });
    const asked = [ask(), ask(), ask()];
    assert.equal(new Set(ids).size, 3);
    line.received({ type: 'receipt', id: ids[1] ?? 0, result: 'text' });
    line.received({ type: 'receipt', id: ids[0] ?? 0, result: { code: 'not-found', message: 'none' } });
    assert.equal(await asked[1], 'text');
    await assert.rejects(asked[0] ?? Promise.resolve(), { code: 'not-found' });
    line.refuse(new GatewayError('fenced', 'over'));
    await assert.rejects(asked[2] ?? Promise.resolve(), { code: 'fenced' });
    line.close();
  });

  it('does not wait for ever for a replicator that begins anew', async () => {
    const { line, clock } = lineTo(undefined);
    const asked = line.ask(() => undefined);
    clock.advance(10_000);
    await assert.rejects(asked, { code: 'store-unreachable' });
    line.close();
  });

  it('stops trying when it is closed', async () => {
    const place = new Place();
    const { line, clock } = lineTo(place);
    place.broken = true;
    line.received({ type: 'receipt', id: 0, result: 'one' });
    await ticks(2);
    line.close();
    place.broken = false;
    clock.advance(3_600_000);
    await ticks(2);
    assert.deepEqual(place.published, []);
  });
});
