import { afterEach, beforeEach, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { EventStreams } from '../../../src/api/event-stream.js';
import type { EventReader } from '../../../src/api/event-stream.js';
import { limits } from '../../../src/base/limits.js';
import { RateHistory } from '../../../src/metrics/rate-history.js';
import { ManualClock } from '../../fake/clock.js';
import { FakeGateway } from '../../fake/gateway-view.js';

/** What of a response a stream uses. */
class FakeResponse extends EventEmitter implements EventReader {
  text = '';
  status = 0;
  writableLength = 0;
  destroyed = false;
  writeHead(status: number): void {
    this.status = status;
  }
  write(text: string): void {
    this.text += text;
  }
  end(): void {
    this.emit('close');
  }
  destroy(): void {
    this.destroyed = true;
    this.emit('close');
  }
  /** Of the events since the last call. */
  take(): string[] {
    const found = [...this.text.matchAll(/^event: (.*)$/gm)].map(([, name = '']) => name);
    this.text = '';
    return found;
  }
}

describe('the events', () => {
  let gateway: FakeGateway;
  let clock: ManualClock;
  let rates: RateHistory;
  let streams: EventStreams;
  beforeEach(() => {
    gateway = new FakeGateway();
    clock = new ManualClock();
    rates = new RateHistory({ clock, volumes: () => gateway.volumes() });
    rates.start();
    streams = new EventStreams({ gateway, rates, clock });
  });
  afterEach(() => rates.close());
  const open = (): FakeResponse => {
    const response = new FakeResponse();
    streams.open(response);
    return response;
  };

  it('begin with all there is, and go on with what changes, once a second', () => {
    gateway.running = [gateway.operation('op-1')];
    const stream = open();
    assert.match(stream.text, /^retry: \d+\n\nevent: volume\ndata: \{/);
    assert.deepEqual(stream.take(), ['volume', 'operation', 'gateway']);
    clock.advance(limits.eventIntervalMs);
    assert.deepEqual(stream.take(), []);
    gateway.state = 'stalled';
    clock.advance(limits.eventIntervalMs - 1);
    assert.deepEqual(stream.take(), []);
    clock.advance(1);
    assert.match(stream.text, /"state":"stalled","reason":"because"/);
    assert.deepEqual(stream.take(), ['volume']);
    gateway.running = [{ ...gateway.operation('op-1'), state: 'done' }];
    gateway.isThere = false;
    clock.advance(limits.eventIntervalMs);
    assert.match(stream.text, /event: volume-removed\ndata: \{"name":"disk0"\}\n\n/);
    assert.deepEqual(stream.take(), ['operation', 'volume-removed']);
  });

  it('give one that comes later everything, and the others only what is new', () => {
    const first = open();
    first.take();
    gateway.isReady = false;
    const second = open();
    assert.deepEqual(first.take(), ['gateway']);
    assert.deepEqual(second.take(), ['volume', 'gateway']);
  });

  it('have the rates when there are new ones', () => {
    const stream = open();
    stream.take();
    clock.advance(limits.rateIntervalMs);
    assert.deepEqual(stream.take(), ['rates']);
  });

  it('say that they are there when there is no news', () => {
    rates.close();
    const stream = open();
    stream.take();
    clock.advance(limits.eventSilenceMs);
    assert.equal(stream.text, ': still here\n\n');
  });

  it('cost nothing while nobody listens', () => {
    const stream = open();
    stream.end();
    rates.close();
    let looked = 0;
    gateway.volumes = () => {
      looked += 1;
      return [];
    };
    clock.advance(60_000);
    assert.equal(looked, 0);
  });

  it('leave a reader that does not read', () => {
    const [slow, quick] = [open(), open()];
    slow.writableLength = limits.apiEventBytesMax + 1;
    quick.take();
    gateway.state = 'failed';
    clock.advance(limits.eventIntervalMs);
    assert.equal(slow.destroyed, true);
    assert.deepEqual(quick.take(), ['volume']);
  });

  it('refuse more readers than there can be, and take another once one is gone', () => {
    const all = Array.from({ length: limits.apiEventStreamsMax }, open);
    assert.throws(open, { code: 'session-limit' });
    all[0]?.end();
    assert.equal(open().status, 200);
    streams.close();
    assert.equal(open().status, 200);
  });
});
