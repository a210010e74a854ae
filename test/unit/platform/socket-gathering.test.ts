/** What a connection receives together, of sends that arrive while the answers to earlier ones are held back (gathering.ts). */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { afterEach, describe, it, mock } from 'node:test';
import { limits } from '../../../src/base/limits.js';
import { KIB } from '../../../src/base/units.js';
import { loadAddon } from '../../../src/platform/addon.js';
import { NetStreamFactory } from '../../../src/platform/socket-listener.js';
import type { Listener, Stream, StreamHandler } from '../../../src/ports/stream.js';
import { RecordedLog } from '../../fake/log.js';
import { SeededRandom } from '../../fake/random.js';

const addon = loadAddon();
const receiveSoon = addon.receiveSoon.bind(addon);

let listener: Listener;
let client: Socket;

afterEach(async () => {
  mock.restoreAll();
  client.destroy();
  await listener.close();
});

/** A connection of which the next wake-up is a trial: whatever arrives in it is received together. */
class Tried implements StreamHandler {
  stream: Stream | undefined;
  readonly pieces: Buffer[] = [];
  endedCalls = 0;
  /** How many of the bytes are used up. */
  use = (bytes: Buffer): number => bytes.length;
  onEnded = (): void => undefined;
  readonly closing: Promise<Error | undefined>;
  #close: (error: Error | undefined) => void = () => undefined;
  #asked = 1;
  readonly #ready: Promise<void>;
  #isReady: () => void = () => undefined;

  constructor() {
    this.closing = new Promise((resolve) => (this.#close = resolve));
    this.#ready = new Promise((resolve) => (this.#isReady = resolve));
  }

  static async connected(): Promise<Tried> {
    const tried = new Tried();
    const factory = new NetStreamFactory({ log: new RecordedLog() });
    listener = await factory.listen({
      address: { kind: 'tcp', host: '127.0.0.1', port: 0 },
      setting: 'test.listen',
      accept(stream) {
        tried.stream = stream;
        return tried;
      },
    });
    assert(listener.address.kind === 'tcp');
    client = connect({ host: '127.0.0.1', port: listener.address.port, allowHalfOpen: true });
    client.on('error', () => undefined);
    await once(client, 'connect');
    client.write('.');
    await tried.#ready;
    return tried;
  }

  received(bytes: Uint8Array, start: number, end: number): number {
    if (this.#asked < limits.gatherTrialEvery - 1) {
      assert.equal(end - start, 1);
      this.#asked++;
      client.write('.');
      return 1;
    }
    const piece = Buffer.from(bytes.slice(start, end));
    if (piece.toString() === '.') {
      this.#isReady();
      return 1;
    }
    const used = this.use(piece);
    this.pieces.push(piece.subarray(0, used));
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

/** The peer does each of these while the answer to what arrived before is held back, which sees what comes of it. */
function whileHeld(deeds: readonly (() => void)[]): { readonly left: () => number } {
  const left = [...deeds];
  mock.method(addon, 'receiveSoon', (fd: number, bytes: Uint8Array, start: number, awakeUs: number): number => {
    const deed = start > 0 ? left.shift() : undefined;
    deed?.();
    const endMs = performance.now() + 60_000;
    for (;;) {
      const outcome = receiveSoon(fd, bytes, start, awakeUs);
      if (outcome !== 0 || deed === undefined) return outcome;
      assert(performance.now() < endMs, 'what the peer does shows');
    }
  });
  return { left: () => left.length };
}

async function until(condition: () => boolean): Promise<void> {
  const endMs = performance.now() + 60_000;
  while (!condition()) {
    assert(performance.now() < endMs, `not within 60 s: ${String(condition)}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('a socket whose peer sends on while answers are held back', { timeout: 120_000 }, () => {
  it('hands over its sends together and in order', async () => {
    const tried = await Tried.connected();
    const sends = ['b', 'c', 'd', 'e', 'f', 'g'].map((letter) => () => void client.write(letter));
    whileHeld(sends);
    client.write('a');
    await until(() => tried.pieces.length > 0);
    assert.deepEqual(tried.pieces.map(String), ['abcdefg']);
  });

  it('neither loses nor doubles what the handler leaves over, nor what is more than is gathered', async () => {
    const tried = await Tried.connected();
    const random = new SeededRandom(1);
    // The first ends exactly where no more is gathered, the others where they like.
    const sizes = [limits.gatheredBytesMax - 2, 1, 28, 4124, limits.receiveBufferBytes, 1, 300 * KIB, 4096];
    const bytes = Buffer.from(
      Array.from({ length: 1 + sizes.reduce((sum, size) => sum + size) }, () => random.below(256)),
    );
    let at = 1;
    const sends = sizes.map((size) => () => void client.write(bytes.subarray(at, (at += size))));
    const held = whileHeld(sends);
    tried.use = (piece) => {
      tried.stream?.resume();
      return random.below(piece.length + 1);
    };
    client.write(bytes.subarray(0, 1));
    await until(() => tried.pieces.length > 0);
    // Sends that nobody waited for.
    for (const send of sends.slice(sizes.length - held.left())) send();
    await until(() => tried.pieces.reduce((sum, piece) => sum + piece.length, 0) >= bytes.length);
    assert(Buffer.concat(tried.pieces).equals(bytes));
  });

  it('that breaks: closes with the error, behind what arrived before', async () => {
    const tried = await Tried.connected();
    tried.onEnded = () => tried.stream?.destroy();
    whileHeld([() => void client.write('b'), () => void client.resetAndDestroy()]);
    client.write('a');
    assert.match(String(await tried.closing), /ECONNRESET/);
    assert.deepEqual(tried.pieces.map(String), ['ab']);
    assert.equal(tried.endedCalls, 0);
  });

  it('that ends: says so once, behind what arrived before', async () => {
    const tried = await Tried.connected();
    whileHeld([() => void client.end('b')]);
    client.write('a');
    await until(() => tried.endedCalls > 0);
    assert.deepEqual(tried.pieces.map(String), ['ab']);
    tried.stream?.destroy();
    await tried.closing;
    assert.equal(tried.endedCalls, 1);
  });
});
