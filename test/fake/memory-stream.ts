/**
 * The Stream port without sockets, for tests of front ends that decide themselves when bytes arrive and when the peer
 * reads. As strict as the port's text: received bytes lie in one buffer that is overwritten after each call, lent
 * buffers are copied only when they are taken, and `received` is never called from inside itself.
 */
import { assert } from '../../src/base/assert.js';
import type {
  ListenAddress,
  Listener,
  ListenOptions,
  PeerSilence,
  Stream,
  StreamFactory,
  StreamHandler,
  StreamPeer,
} from '../../src/ports/stream.js';

interface Lent {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
  readonly released: () => void;
}

export const localPeer: StreamPeer = {
  kind: 'tcp',
  address: '127.0.0.1',
  port: 40_000,
  localAddress: '127.0.0.1',
  localPort: 10_809,
};

export class MemoryStream implements Stream {
  readonly peer: StreamPeer;
  receivedBytes = 0;
  writtenBytes = 0;
  destroyed = false;
  /** `end` was called, and what was written before has been taken. */
  finished = false;
  /** Calls of `write` that sent something. */
  writes = 0;
  /** The peer does not read: writes are lent until `take`. */
  stalled = false;
  /** What the peer's machine owes. */
  owes: PeerSilence | undefined;

  #handler: StreamHandler | undefined;
  #taken: Uint8Array[] = [];
  #lent: Lent[] = [];
  #remainder = new Uint8Array(0);
  #held = false;
  #paused = false;
  #delivering = false;
  #resumed = false;
  #ending = false;
  #peerEnded = false;
  #closedReported = false;

  constructor(peer: StreamPeer = localPeer) {
    this.peer = peer;
  }

  get pendingBytes(): number {
    return this.#lent.reduce((sum, part) => sum + part.end - part.start, 0);
  }

  /** Whether the front end reads on: it left nothing over and did not pause. */
  get reading(): boolean {
    return !this.#held && !this.#paused && this.#remainder.length === 0;
  }

  silence(): PeerSilence | undefined {
    return this.owes;
  }

  peerHasLeft(): boolean {
    return this.#peerEnded || this.destroyed;
  }

  start(handler: StreamHandler): void {
    this.#handler = handler;
    this.#advance();
  }

  // What the peer does.

  /** The peer sends these bytes, in one piece. */
  feed(bytes: Uint8Array): void {
    if (this.destroyed) return;
    this.receivedBytes += bytes.length;
    this.#remainder = joined([this.#remainder, bytes]);
    this.#advance();
  }

  /** The peer closes its side. */
  feedEnd(): void {
    this.#peerEnded = true;
    this.#advance();
  }

  /** The peer reads all that was sent, and goes on reading. */
  take(): void {
    this.stalled = false;
    // One at a time: what is written meanwhile queues up behind the rest.
    for (let part = this.#lent[0]; part !== undefined; part = this.#lent[0]) {
      this.#taken.push(part.bytes.slice(part.start, part.end));
      this.#lent.shift();
      part.released();
    }
    this.#finishIfDone();
  }

  /** What the peer has received so far and `output` has not returned yet. */
  output(): Uint8Array {
    const bytes = joined(this.#taken);
    this.#taken = [];
    return bytes;
  }

  // What the front end does.

  write(bytes: Uint8Array, start: number, end: number, released: () => void): boolean {
    assert(start >= 0 && start <= end && end <= bytes.length, 'a write lies within its buffer');
    if (this.destroyed || this.#ending) return true;
    this.writtenBytes += end - start;
    this.writes++;
    if (this.stalled || this.#lent.length > 0) {
      this.#lent.push({ bytes, start, end, released });
      return false;
    }
    this.#taken.push(bytes.slice(start, end));
    return true;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#held = false;
    this.#resumed = true;
    if (!this.#delivering) setImmediate(() => this.#advance());
  }

  end(): void {
    if (this.destroyed || this.#ending) return;
    this.#ending = true;
    this.#remainder = new Uint8Array(0);
    this.#finishIfDone();
  }

  destroy(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    setImmediate(() => {
      for (const part of this.#lent.splice(0)) part.released();
      this.#reportClosed();
    });
  }

  #finishIfDone(): void {
    if (!this.#ending || this.destroyed || this.#lent.length > 0) return;
    this.finished = true;
    this.destroy();
  }

  #reportClosed(): void {
    if (this.#closedReported) return;
    this.#closedReported = true;
    this.#handler?.closed(undefined);
  }

  #advance(): void {
    const handler = this.#handler;
    if (handler === undefined || this.#delivering) return;
    while (this.#remainder.length > 0) {
      if (this.#held || this.#paused || this.destroyed || this.#ending) return;
      const shared = this.#remainder.slice();
      this.#delivering = true;
      this.#resumed = false;
      const used = handler.received(shared, 0, shared.length);
      this.#delivering = false;
      assert(used >= 0 && used <= shared.length, 'a handler uses up at most what it was given');
      shared.fill(0xaa);
      if (this.#isGone()) return;
      this.#remainder = this.#remainder.slice(used);
      if (this.#remainder.length > 0 && this.#hasResumed()) {
        setImmediate(() => this.#advance());
        return;
      }
      if (this.#remainder.length > 0) this.#held = true;
    }
    if (this.#peerEnded && !this.destroyed && !this.#paused) {
      this.#peerEnded = false;
      handler.ended();
    }
  }

  #isGone(): boolean {
    return this.destroyed || this.#ending;
  }

  #hasResumed(): boolean {
    return this.#resumed;
  }
}

/** Listens on nothing: a test makes the connections itself. */
export class MemoryStreamFactory implements StreamFactory {
  readonly #open = new Set<ListenOptions>();

  listen(options: ListenOptions): Promise<Listener> {
    this.#open.add(options);
    assert(options.address.kind !== 'inherited', 'nothing is inherited here');
    const address: ListenAddress = options.address;
    return Promise.resolve({
      address,
      close: () => {
        this.#open.delete(options);
        return Promise.resolve();
      },
    });
  }

  /** A peer connects to the first listener; undefined where it was not accepted. */
  connect(peer: StreamPeer = localPeer): MemoryStream | undefined {
    const [options] = this.#open;
    if (options === undefined) return undefined;
    const stream = new MemoryStream(peer);
    const handler = options.accept(stream);
    if (handler === undefined) {
      stream.destroy();
      return undefined;
    }
    stream.start(handler);
    return stream;
  }
}

export function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Lets everything run that is ready: promises, and what was put off to the next turn of the event loop. */
export async function settled(turns = 4): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
}
