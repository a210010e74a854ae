/** One NBD server over streams and volumes in memory: what the tests of this folder begin with. */
import assert from 'node:assert/strict';
import { GatewayError } from '../../../../src/base/errors.js';
import type { TlsMode } from '../../../../src/frontends/nbd/admission.js';
import { NbdServer } from '../../../../src/frontends/nbd/server.js';
import type { SecuredPeer, Stream, StreamPeer, StreamSecurity } from '../../../../src/ports/stream.js';
import { ManualClock } from '../../../fake/clock.js';
import { RecordedLog } from '../../../fake/log.js';
import { MemoryDevice, MemoryDirectory, MemoryVolume } from '../../../fake/memory-device.js';
import type { MemoryDeviceOptions, MemoryVolumeOptions } from '../../../fake/memory-device.js';
import { joined, MemoryStreamFactory, settled } from '../../../fake/memory-stream.js';
import type { MemoryStream } from '../../../fake/memory-stream.js';
import { clientFlags, infoData, OPT, optionBytes, parseOptionReplies, parseReplies } from '../../../fake/nbd-client.js';
import { contextData } from '../../../fake/nbd-chunk.js';
import type { OptionReply, SimpleReply } from '../../../fake/nbd-client.js';

export const MIB = 1024 * 1024;

export class Bench {
  readonly clock = new ManualClock();
  readonly log = new RecordedLog();
  readonly streams = new MemoryStreamFactory();
  readonly directory: MemoryDirectory;
  readonly server: NbdServer;

  readonly security = new MemorySecurity();

  private constructor(volumes: readonly MemoryVolume[], tls: TlsMode) {
    this.directory = new MemoryDirectory(...volumes);
    this.server = new NbdServer({
      directory: this.directory,
      streams: this.streams,
      clock: this.clock,
      log: this.log,
      tls,
    });
    if (tls !== 'off') this.server.security = this.security;
  }

  /** A listening server; by default with one volume `demo` of 64 MiB. */
  static async start(volumes: readonly MemoryVolume[] = [volume()], tls: TlsMode = 'off'): Promise<Bench> {
    const bench = new Bench(volumes, tls);
    await bench.server.listen([{ kind: 'tcp', host: '127.0.0.1', port: 10_809 }]);
    return bench;
  }

  get volume(): MemoryVolume {
    const first = this.directory.volumes[0];
    assert(first !== undefined);
    return first;
  }

  get device(): MemoryDevice {
    return this.volume.device;
  }

  connect(peer?: StreamPeer): MemoryStream {
    const stream = this.streams.connect(peer);
    assert(stream !== undefined, 'the connection was accepted');
    return stream;
  }

  /** Connected, with flags exchanged and the greeting read. */
  connectForOptions(peer?: StreamPeer): MemoryStream {
    const stream = this.connect(peer);
    stream.feed(clientFlags(3));
    assert.equal(stream.output().length, 18);
    return stream;
  }

  /** As connectForOptions, and then over TLS as that user. */
  async connectSecured(user: string | undefined, peer?: StreamPeer): Promise<MemoryStream> {
    const stream = this.connectForOptions(peer);
    stream.feed(optionBytes(OPT.STARTTLS));
    assert.equal(optionReplies(stream).at(-1)?.type, 1, 'STARTTLS was acknowledged');
    await settled();
    this.security.finish(stream, user);
    return stream;
  }

  /** In the transmission phase, with everything before it read. */
  async attach(peer?: StreamPeer, name = 'demo'): Promise<MemoryStream> {
    return this.attachWith([], peer, name);
  }

  /** As attach, with these options before it, each of which must be acknowledged. */
  async attachWith(options: readonly Uint8Array[], peer?: StreamPeer, name = 'demo'): Promise<MemoryStream> {
    const stream = this.connectForOptions(peer);
    for (const option of options) {
      stream.feed(option);
      assert.equal(optionReplies(stream).at(-1)?.type, 1, 'the option was acknowledged');
    }
    stream.feed(optionBytes(OPT.GO, infoData(name)));
    await settled();
    assert.equal(optionReplies(stream).at(-1)?.type, 1, 'GO was acknowledged');
    return stream;
  }
}

/** TLS without ciphers: a test says when a handshake is over, and whom it named. */
export class MemorySecurity implements StreamSecurity {
  readonly #waiting = new Map<Stream, (outcome: SecuredPeer | GatewayError) => void>();

  secure(stream: Stream, done: (outcome: SecuredPeer | GatewayError) => void): void {
    stream.pause();
    this.#waiting.set(stream, done);
  }

  finish(stream: MemoryStream, user: string | undefined): void {
    stream.resume();
    this.#taken(stream)({ user, cipher: 'none' });
  }

  fail(stream: MemoryStream, reason: string): void {
    const done = this.#taken(stream);
    stream.destroy();
    done(new GatewayError('tls-failed', reason));
  }

  #taken(stream: Stream): (outcome: SecuredPeer | GatewayError) => void {
    const done = this.#waiting.get(stream);
    assert(done !== undefined, 'the handshake was begun');
    this.#waiting.delete(stream);
    return done;
  }
}

/** Options that an attached client may have negotiated. */
export const structured = optionBytes(OPT.STRUCTURED_REPLY);
export const extended = optionBytes(OPT.EXTENDED_HEADERS);
export function contexts(...queries: readonly string[]): Buffer {
  return optionBytes(OPT.SET_META_CONTEXT, contextData('demo', queries));
}

export function volume(options: MemoryDeviceOptions & MemoryVolumeOptions = {}): MemoryVolume {
  return new MemoryVolume(new MemoryDevice(options), options);
}

/** The option replies that have arrived; nothing else may have. */
export function optionReplies(stream: MemoryStream): OptionReply[] {
  const { replies, rest } = parseOptionReplies(stream.output());
  assert.equal(rest.length, 0, 'only whole option replies were sent');
  return replies;
}

/** The simple replies that have arrived, none of them with data unless `lengthOf` says so; nothing else may have. */
export function replies(stream: MemoryStream, lengthOf: (cookie: bigint) => number = () => 0): SimpleReply[] {
  const parsed = parseReplies(stream.output(), lengthOf);
  assert.equal(parsed.rest.length, 0, 'only whole replies were sent');
  return parsed.replies;
}

/** Bytes that differ from place to place and from seed to seed. */
export function pattern(lengthBytes: number, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(lengthBytes);
  let state = seed * 2654435761;
  for (let at = 0; at < lengthBytes; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

export { joined, settled };
