/** Node's sockets under the Stream port. The first suite fails when Node changes what socket.ts relies on. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { afterEach, describe, it } from 'node:test';
import { limits } from '../../../src/base/limits.js';
import { NetStreamFactory } from '../../../src/platform/socket-listener.js';
import type { Listener, Stream, StreamHandler } from '../../../src/ports/stream.js';
import { RecordedLog } from '../../fake/log.js';

/** Keeps what it is told; a test replaces `onReceived` to do something else than to use everything up. */
class Recorder implements StreamHandler {
  readonly buffers = new Set<ArrayBufferLike>();
  readonly pieces: Buffer[] = [];
  endedCalls = 0;
  onReceived = (_bytes: Uint8Array, start: number, end: number): number => end - start;
  onEnded = (): void => undefined;
  readonly closing: Promise<Error | undefined>;
  #close: (error: Error | undefined) => void = () => undefined;

  constructor() {
    this.closing = new Promise((resolve) => (this.#close = resolve));
  }

  get text(): string {
    return Buffer.concat(this.pieces).toString();
  }

  received(bytes: Uint8Array, start: number, end: number): number {
    const used = this.onReceived(bytes, start, end);
    this.buffers.add(bytes.buffer);
    this.pieces.push(Buffer.from(bytes.slice(start, start + used)));
    return used;
  }

  ended(): void {
    this.endedCalls++;
    this.onEnded();
  }

  closed(error: Error | undefined): void {
    this.#close(error);
  }
}

interface Pair {
  readonly client: Socket;
  readonly stream: Stream;
  readonly handler: Recorder;
}

let listener: Listener;
let accepted: ((pair: Omit<Pair, 'client'>) => void) | undefined;
const clients: Socket[] = [];

async function startListening(): Promise<void> {
  const factory = new NetStreamFactory({ log: new RecordedLog() });
  listener = await factory.listen({
    address: { kind: 'tcp', host: '127.0.0.1', port: 0 },
    setting: 'test.listen',
    accept(stream) {
      const handler = new Recorder();
      accepted?.({ stream, handler });
      return handler;
    },
  });
}

async function connected(): Promise<Pair> {
  assert(listener.address.kind === 'tcp');
  const server = new Promise<Omit<Pair, 'client'>>((resolve) => (accepted = resolve));
  const client = connect({ host: '127.0.0.1', port: listener.address.port, allowHalfOpen: true });
  client.on('error', () => undefined);
  clients.push(client);
  return { client, ...(await server) };
}

/** Looks again after every turn of the event loop, not after a time. */
async function until(condition: () => boolean): Promise<void> {
  const endMs = performance.now() + 10_000;
  while (!condition()) {
    assert(performance.now() < endMs, `not within 10 s: ${String(condition)}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function turns(count = 20): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await listener.close();
});

const noLend = (): void => assert.fail('released is called only for a lent buffer');

describe('a socket that reads into a reused buffer', { timeout: 20_000 }, () => {
  it('hands every piece over in one and the same buffer, on all connections', async () => {
    await startListening();
    const first = await connected();
    const second = await connected();
    for (const [round, { client, handler }] of [first, second, first, second].entries()) {
      client.write(`round ${round};`);
      await until(() => handler.text.includes(`round ${round};`));
    }
    assert.equal(first.handler.text, 'round 0;round 2;');
    assert.equal(second.handler.text, 'round 1;round 3;');
    const buffers = new Set([...first.handler.buffers, ...second.handler.buffers]);
    assert.equal(buffers.size, 1, 'one buffer for everything');
    assert.equal([...buffers][0]?.byteLength, limits.receiveBufferBytes);
  });

  it('knows both ends, and counts both directions', async () => {
    await startListening();
    const { client, stream, handler } = await connected();
    client.write('12345');
    await until(() => handler.text.length === 5);
    assert.equal(stream.write(Buffer.from('xxabcx'), 2, 5, noLend), true);
    const [answer] = (await once(client, 'data')) as [Buffer];
    assert.equal(answer.toString(), 'abc');
    assert.equal(stream.receivedBytes, 5);
    assert.equal(stream.writtenBytes, 3);
    assert(stream.peer.kind === 'tcp' && listener.address.kind === 'tcp');
    assert.equal(stream.peer.address, '127.0.0.1');
    assert.equal(stream.peer.port, client.localPort);
    assert.equal(stream.peer.localAddress, '127.0.0.1');
    assert.equal(stream.peer.localPort, listener.address.port);
  });
});

describe('a socket: back-pressure', { timeout: 20_000 }, () => {
  it('what a handler leaves over comes again after resume, before anything newer, and reading stands still', async () => {
    await startListening();
    const { client, stream, handler } = await connected();
    handler.onReceived = () => 3;
    client.write('abcdefgh');
    await until(() => handler.text === 'abc');
    client.write('ijk');
    await turns();
    assert.equal(handler.text, 'abc');
    stream.resume();
    await until(() => handler.text === 'abcdef');
    await turns();
    assert.equal(handler.text, 'abcdef');
    handler.onReceived = (_bytes, start, end) => end - start;
    stream.resume();
    await until(() => handler.text === 'abcdefghijk');
  });

  it('resume from inside received takes effect afterwards, never inside', async () => {
    await startListening();
    const { client, stream, handler } = await connected();
    let depth = 0;
    handler.onReceived = () => {
      assert.equal(depth++, 0);
      stream.resume();
      depth--;
      return 1;
    };
    client.write('abcdefgh');
    await until(() => handler.text === 'abcdefgh');
    assert.equal(handler.pieces.length, 8);
  });

  it('pause stops reading, from inside and from outside, and resume goes on', async () => {
    await startListening();
    const { client, stream, handler } = await connected();
    handler.onReceived = (_bytes, start, end) => {
      stream.pause();
      return end - start;
    };
    client.write('a');
    await until(() => handler.text === 'a');
    client.write('b');
    await turns();
    assert.equal(handler.text, 'a');
    handler.onReceived = (_bytes, start, end) => end - start;
    stream.resume();
    await until(() => handler.text === 'ab');
    stream.pause();
    client.write('c');
    await turns();
    assert.equal(handler.text, 'ab');
    stream.resume();
    await until(() => handler.text === 'abc');
  });

  it('a peer that does not read makes pendingBytes grow; lent buffers come back in order once it reads', async () => {
    await startListening();
    const { client, stream } = await connected();
    client.pause();
    const released: number[] = [];
    const lent: number[] = [];
    const buffers = Array.from({ length: 64 }, (_, at) => Buffer.alloc(1024 * 1024, at));
    for (const [at, buffer] of buffers.entries()) {
      if (!stream.write(buffer, 0, buffer.length, () => released.push(at))) lent.push(at);
    }
    assert(lent.length > 16, 'the kernel does not take 64 MiB for a peer that does not read');
    assert(stream.pendingBytes > 0);
    assert.deepEqual(released, []);
    let receivedBytes = 0;
    let wrong = 0;
    client.on('data', (chunk: Buffer) => {
      for (const byte of chunk) if (byte !== Math.floor(receivedBytes++ / (1024 * 1024))) wrong++;
    });
    client.resume();
    await until(() => receivedBytes === 64 * 1024 * 1024);
    await until(() => released.length === lent.length);
    assert.deepEqual(released, lent);
    assert.equal(wrong, 0);
    assert.equal(stream.pendingBytes, 0);
  });
});

describe('a socket whose peer asks again at once', { timeout: 20_000 }, () => {
  const exchanges = 2000;
  const byte = Buffer.of(1);

  /** Answers each byte, and has the client send the next one before that returns; `then` with the last, which is `count`. */
  function exchange({ client, stream, handler }: Pair, count: number, then: () => void): void {
    client.on('data', () => undefined);
    handler.onReceived = (_bytes, start, end) => {
      stream.write(byte, 0, 1, () => undefined);
      if (stream.receivedBytes === count) then();
      else client.write(byte);
      return end - start;
    };
    client.write(byte);
  }

  it('is answered to the last, and the others are looked at meanwhile', async () => {
    await startListening();
    const busy = await connected();
    const other = await connected();
    let asked = 0;
    let heard = 0;
    other.handler.onReceived = (_bytes, start, end) => {
      heard = busy.stream.receivedBytes;
      return end - start;
    };
    await new Promise<void>((resolve) => {
      exchange(busy, exchanges / 2, () => {
        asked = busy.stream.receivedBytes;
        other.client.write('now');
        exchange(busy, exchanges, resolve);
      });
    });
    assert.equal(busy.stream.receivedBytes, exchanges);
    assert(heard > 0 && heard - asked <= 3 * limits.arrivalsAwakeMax, `asked at exchange ${asked}, heard at ${heard}`);
  });

  it('does not keep waiting what was left to the end of a turn', async () => {
    await startListening();
    const pair = await connected();
    let left = 0;
    let late = 0;
    await new Promise<void>((resolve) => {
      exchange(pair, exchanges, resolve);
      const { onReceived } = pair.handler;
      pair.handler.onReceived = (bytes, start, end) => {
        late += left;
        left++;
        queueMicrotask(() => left--);
        return onReceived(bytes, start, end);
      };
    });
    assert.equal(late, 0);
  });

  it('is closed with its error where it breaks', async () => {
    await startListening();
    const pair = await connected();
    exchange(pair, 100, () => pair.client.resetAndDestroy());
    assert.match(String(await pair.handler.closing), /ECONNRESET/);
    assert.equal(pair.handler.endedCalls, 0);
  });

  it('may end the connection, which is heard', async () => {
    await startListening();
    const pair = await connected();
    exchange(pair, 100, () => pair.client.end());
    await until(() => pair.handler.endedCalls === 1);
    assert.equal(pair.stream.receivedBytes, 100);
  });
});

describe('a socket: the end', { timeout: 20_000 }, () => {
  for (const how of ['end', 'resetAndDestroy'] as const)
    it(`shows that the peer has left (${how}) while what it sent lies unread`, async () => {
      await startListening();
      const { client, stream, handler } = await connected();
      handler.onReceived = () => 0;
      client.write('a request that cannot go on now');
      await until(() => stream.receivedBytes > 0);
      assert.equal(stream.peerHasLeft(), false);
      client[how]();
      await until(() => stream.peerHasLeft());
      assert.equal(handler.endedCalls, 0);
    });

  it('a peer that closes its side is reported after its last bytes; the stream can still be written', async () => {
    await startListening();
    const { client, stream, handler } = await connected();
    handler.onReceived = () => 1;
    client.end('ab');
    await until(() => handler.text === 'a');
    await turns();
    assert.equal(handler.endedCalls, 0);
    stream.resume();
    await until(() => handler.endedCalls === 1);
    assert.equal(handler.text, 'ab');
    stream.write(Buffer.from('bye'), 0, 3, noLend);
    stream.end();
    const [answer] = (await once(client, 'data')) as [Buffer];
    assert.equal(answer.toString(), 'bye');
    assert.equal(await handler.closing, undefined);
  });

  it('end delivers what was written although the peer is still sending, and takes no more of that', async () => {
    await startListening();
    const { client, stream, handler } = await connected();
    client.write('first');
    await until(() => handler.text === 'first');
    client.write(Buffer.alloc(1024 * 1024, 'x'));
    const reply = Buffer.alloc(4 * 1024 * 1024, 'r');
    stream.write(reply, 0, reply.length, () => undefined);
    stream.end();
    stream.end();
    assert.equal(stream.write(Buffer.from('late'), 0, 4, noLend), true);
    let receivedBytes = 0;
    client.on('data', (chunk: Buffer) => (receivedBytes += chunk.length));
    await once(client, 'end');
    assert.equal(receivedBytes, reply.length);
    client.end();
    assert.equal(await handler.closing, undefined);
    assert.equal(handler.text, 'first');
  });

  it('destroy closes at once; lent buffers come back; nothing happens to a destroyed stream', async () => {
    await startListening();
    const { client, stream, handler } = await connected();
    client.pause();
    let lent = 0;
    let released = 0;
    const buffer = Buffer.alloc(1024 * 1024);
    while (lent < 3) if (!stream.write(buffer, 0, buffer.length, () => released++)) lent++;
    stream.destroy();
    assert(stream.destroyed);
    await handler.closing;
    assert.equal(released, 3);
    assert.equal(stream.write(buffer, 0, 1, noLend), true);
    stream.resume();
    stream.pause();
    stream.end();
    stream.destroy();
    await turns();
  });

  it('a connection that breaks is closed with its error', async () => {
    await startListening();
    const { client, stream, handler } = await connected();
    client.resetAndDestroy();
    const error = await handler.closing;
    assert.match(String(error), /ECONNRESET/);
    assert(stream.destroyed);
  });

  it('a listener that closes leaves its streams alone', async () => {
    await startListening();
    const { client, stream, handler } = await connected();
    await listener.close();
    client.write('still here');
    await until(() => handler.text === 'still here');
    stream.destroy();
    await handler.closing;
  });
});
