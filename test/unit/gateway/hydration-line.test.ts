/** The way between a restored volume and what fills it, message by message, as if there was a thread between them. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { HydrationLine } from '../../../src/gateway/hydration-line.js';
import type { FrozenRun, FrozenVolume, HydratingVolume, HydrationProgress } from '../../../src/ports/hydration.js';
import type { FromHydrator, ToHydrator } from '../../../src/remote/hydration-messages.js';
import { packRuns, unpackRuns } from '../../../src/remote/run-parcel.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedLog } from '../../fake/log.js';

const BLOCK = 4096;
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

class FakeVolume implements HydratingVolume {
  active = true;
  readonly blockCount = 256;
  progress: HydrationProgress = { segmentsThrough: 3, pins: ['p'] };
  readonly source = {
    uuid: 'u',
    store: { url: 's3://b' },
    recoveryPoint: { epoch: 1, number: 9, link: '', lsn: 77, wallMs: 1 },
    pinFloor: 4,
    sizeBytes: 256 * BLOCK,
  };
  connected: FrozenVolume | GatewayError | undefined;
  readonly filled: FrozenRun[] = [];
  failure: Error | undefined;
  connect(frozen: FrozenVolume | GatewayError): void {
    this.connected = frozen;
  }
  owed(_first: number, count: number): Promise<Uint8Array> {
    return Promise.resolve(new Uint8Array(count).fill(1));
  }
  fill(run: FrozenRun): Promise<void> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    this.filled.push(run);
    return Promise.resolve();
  }
  advance(progress: Partial<HydrationProgress>): Promise<void> {
    this.progress = { ...this.progress, ...progress };
    return Promise.resolve();
  }
  complete(): Promise<boolean> {
    this.active = false;
    return Promise.resolve(true);
  }
}

const run = (firstBlock: number, fill: number): FrozenRun => ({
  firstBlock,
  blockCount: 2,
  // Behind something else, as in a frame.
  payload: {
    bytes: new Uint8Array(4 * BLOCK).fill(fill, BLOCK, 3 * BLOCK),
    start: BLOCK,
    sums: Uint32Array.of(0, 5, 6),
    sumsStart: 1,
  },
});
const zero: FrozenRun = { firstBlock: 9, blockCount: 40, payload: undefined };

function stage() {
  const volume = new FakeVolume();
  const clock = new ManualClock();
  const log = new RecordedLog();
  const sent: ToHydrator[] = [];
  let receive: (message: FromHydrator, downloadedBytes: number) => void = () => undefined;
  const refusals: GatewayError[] = [];
  const line = new HydrationLine({
    volume,
    clock,
    log,
    port: {
      reader: 'here',
      connect: (_source, hear) => {
        const refusal = refusals.shift();
        if (refusal !== undefined) return Promise.reject(refusal);
        receive = hear;
        return Promise.resolve({ send: (message) => sent.push(structuredClone(message)), masters: [] });
      },
    },
  });
  return { volume, clock, log, sent, line, refusals, hear: (message: FromHydrator) => receive(message, 1234) };
}

describe('runs of blocks between threads', () => {
  it('arrive as they were, without what lay around them', () => {
    const parcel = packRuns([run(3, 7), zero, run(60, 8)]);
    assert.equal(parcel.bytes.length, 4 * BLOCK);
    const [first, second, third] = unpackRuns(structuredClone(parcel));
    assert.deepEqual(second, zero);
    for (const [found, fill, firstBlock] of [
      [first, 7, 3],
      [third, 8, 60],
    ] as const) {
      assert.ok(found?.payload !== undefined);
      assert.equal(found.firstBlock, firstBlock);
      const { bytes, start, sums, sumsStart } = found.payload;
      assert.ok(bytes.subarray(start, start + 2 * BLOCK).every((byte) => byte === fill));
      assert.deepEqual([...sums.subarray(sumsStart, sumsStart + 2)], [5, 6]);
    }
  });
});

describe('the way of a restored volume to its bucket', () => {
  it('starts with what the volume knows, and lets reads through in both directions', async () => {
    const { volume, line, sent, hear } = stage();
    await line.start();
    const { source, progress } = volume;
    assert.deepEqual(sent, [
      { type: 'start', config: { source, progress, blockCount: 256, masters: [], reader: 'here' } },
    ]);
    assert.equal(volume.connected, line);
    const read = line.fetch(3, 2, {});
    assert.deepEqual(sent.at(-1), { type: 'fetch', id: 1, first: 3, count: 2 });
    hear({ type: 'fetched', id: 1, result: packRuns([run(3, 7)]) });
    assert.equal((await read)[0]?.firstBlock, 3);
    const failing = assert.rejects(line.fetch(3, 2, {}), { code: 'object-missing', message: 'segments/1-7' });
    hear({ type: 'fetched', id: 2, result: { code: 'object-missing', message: 'segments/1-7' } });
    await failing;
    const abort = new AbortController();
    const given = assert.rejects(line.fetch(3, 2, { signal: abort.signal }), { code: 'volume-closed' });
    abort.abort();
    await given;
    assert.deepEqual(sent.at(-1), { type: 'abandon', id: 3 });
    hear({ type: 'connected', failure: { code: 'store-forbidden', message: 'no' } });
    assert.ok(volume.connected instanceof GatewayError && volume.connected.code === 'store-forbidden');
    hear({ type: 'connected', failure: undefined });
    assert.equal(volume.connected, line);
    assert.equal(line.downloadedBytes, 1234);
  });

  it('asks for a bounded number of reads at a time', async () => {
    const { line, sent, hear } = stage();
    await line.start();
    const reads = Array.from({ length: 20 }, (_, at) => line.fetch(at, 1, {}));
    const asked = (): number => sent.filter(({ type }) => type === 'fetch').length;
    assert.equal(asked(), 16);
    for (let id = 1; id <= 20; id++) hear({ type: 'fetched', id, result: packRuns([zero]) });
    assert.equal(asked(), 20);
    await Promise.all(reads);
  });

  it('asks a bounded number of questions to the map at a time, whatever reads wait', async () => {
    const { line, sent, hear } = stage();
    await line.start();
    const reads = Array.from({ length: 20 }, (_, at) => line.fetch(at, 1, {}));
    const asked = (): ToHydrator[] => sent.filter(({ type }) => type === 'map');
    const abort = new AbortController();
    const maps = [0, 1, 2, 3, 4, 5].map((at) => line.mapped(at, 7, at === 1 ? { signal: abort.signal } : {}));
    assert.deepEqual(asked().at(-1), { type: 'map', id: 24, first: 3, count: 7 });
    hear({ type: 'mapped', id: 21, result: Uint8Array.of(1, 0) });
    assert.deepEqual(await maps[0], Uint8Array.of(1, 0));
    assert.equal(asked().length, 5);
    const given = assert.rejects(maps[1]!, { code: 'volume-closed' });
    abort.abort();
    await given;
    assert.deepEqual(sent.at(-2), { type: 'abandon', id: 22 });
    assert.deepEqual(asked().at(-1), { type: 'map', id: 26, first: 5, count: 7 });
    const failing = assert.rejects(maps[2]!, { code: 'object-missing', message: 'shards/1-7' });
    hear({ type: 'mapped', id: 23, result: { code: 'object-missing', message: 'shards/1-7' } });
    await failing;
    // It was given up.
    hear({ type: 'mapped', id: 22, result: Uint8Array.of(1) });
    const ended = [...maps.slice(3), ...reads].map((each) => assert.rejects(each, { code: 'volume-closed' }));
    line.close();
    await Promise.all(ended);
    await assert.rejects(line.mapped(0, 1, {}), { code: 'volume-closed' });
  });

  it('answers what is asked of the volume, and says how far it is until everything is here', async () => {
    const { volume, line, sent, hear } = stage();
    await line.start();
    const answerTo = async (ask: Extract<FromHydrator, { type: 'ask' }>['ask']) => {
      hear({ type: 'ask', id: 7, ask });
      await settle();
      const answer = sent.at(-1);
      assert.ok(answer?.type === 'answer' && answer.id === 7 && answer.blockCount === 256);
      return answer.answer;
    };
    assert.deepEqual(await answerTo({ to: 'owed', first: 1, count: 2 }), { to: 'owed', owed: Uint8Array.of(1, 1) });
    assert.deepEqual(await answerTo({ to: 'fill', parcel: packRuns([run(3, 7), zero]) }), { to: 'fill' });
    assert.deepEqual(
      volume.filled.map(({ firstBlock }) => firstBlock),
      [3, 9],
    );
    volume.failure = new GatewayError('disk-full', 'no space');
    const failed = await answerTo({ to: 'fill', parcel: packRuns([zero]) });
    assert.deepEqual(failed, { to: 'failed', failure: { code: 'disk-full', message: 'no space' } });
    const advanced = await answerTo({ to: 'advance', progress: { segmentsThrough: 8 } });
    assert.deepEqual(advanced, { to: 'advance', progress: { segmentsThrough: 8, pins: ['p'] } });
    assert.deepEqual(line.status, { remainingBlocks: undefined, problem: undefined });
    hear({ type: 'status', status: { phase: 'filling', remainingBlocks: 12, problem: 'slow' } });
    assert.deepEqual(line.status, { remainingBlocks: 12, problem: 'slow' });
    assert.deepEqual(await answerTo({ to: 'complete' }), { to: 'complete', complete: true });
    assert.equal(line.status, undefined);
  });

  it('says how much is here until all is, or until the gateway stops', async () => {
    const { volume, clock, line, hear } = stage();
    await line.start();
    const said: number[][] = [];
    const stopping = new AbortController();
    const progress = (...bytes: number[]): void => void said.push(bytes);
    const filled = line.filled(progress, new AbortController().signal);
    const stopped = assert.rejects(
      line.filled(() => undefined, stopping.signal),
      { code: 'volume-closed' },
    );
    for (const remainingBlocks of [12, 3]) {
      hear({ type: 'status', status: { phase: 'filling', remainingBlocks, problem: undefined } });
      clock.advance(500);
      await settle();
    }
    assert.deepEqual(said, [
      [0, 0],
      [0, 12 * BLOCK],
      [9 * BLOCK, 12 * BLOCK],
    ]);
    stopping.abort();
    await stopped;
    volume.active = false;
    clock.advance(500);
    await filled;
  });

  it('says why the bucket cannot be opened, and tries again', async () => {
    const { volume, clock, log, line, sent, refusals } = stage();
    refusals.push(new GatewayError('key-missing', 'no key'), new GatewayError('key-missing', 'no key'));
    await line.start();
    assert.ok(volume.connected instanceof GatewayError && volume.connected.code === 'key-missing');
    assert.equal(line.status?.problem, 'no key');
    for (let again = 0; again < 2; again++) {
      clock.advance(10_000);
      await settle();
    }
    assert.equal(volume.connected, line);
    assert.equal(line.status.problem, undefined);
    assert.equal(log.lines.filter((text) => text.includes('no key')).length, 1, 'said once');
    line.close();
    assert.deepEqual(sent.at(-1), { type: 'stop' });
    await assert.rejects(line.fetch(0, 1, {}), { code: 'volume-closed' });
  });
});
