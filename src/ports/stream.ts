/**
 * Connections as the front ends see them: one accepted byte stream, and the listener that it came from. The real ones
 * are in platform/socket*.ts.
 *
 * Receiving copies nothing: all streams of a thread are read into ONE reused buffer of limits.receiveBufferBytes, and
 * `received` is handed the part of it that was filled. After it returned, the buffer is overwritten by the next read of
 * any stream. One call of `received` is one wake-up: a front end commits the device once at its end.
 *
 * Sending copies nothing either: a front end gathers the replies of a wake-up in a buffer of its own and hands it over
 * once; `write` says whether the kernel took it at once, or the buffer is lent until `released` runs.
 */
import type { GatewayError } from '../base/errors.js';

export interface StreamHandler {
  /**
   * buffer[start, end) has arrived. Returns how many of these bytes were used up. A handler that waits for the rest of
   * a header uses up what is there, keeping it itself; one that cannot go on now (the volume is not writable, too much
   * is in flight) uses up less than all, and is then handed the same remaining bytes again after `Stream.resume`. Until
   * then nothing further is read from the peer. Never called from inside another call of this interface.
   */
  received(buffer: Uint8Array, start: number, end: number): number;
  /** The peer will send no more; everything before was handed over. The stream can still be written. */
  ended(): void;
  /** The last call, exactly once, whoever closed; `error` where the connection broke. */
  closed(error: Error | undefined): void;
}

export type StreamPeer =
  | {
      readonly kind: 'tcp';
      /** "192.0.2.7" or "2001:db8::7", never with a port. */
      readonly address: string;
      readonly port: number;
      readonly localAddress: string;
      readonly localPort: number;
    }
  | {
      readonly kind: 'unix';
      /** Of the listening socket. */
      readonly path: string;
      /** The user id that connected; undefined where the kernel does not say. */
      readonly userId?: number | undefined;
    };

/** How the peer's machine answers, whatever its programs do. */
export interface PeerSilence {
  /** How often in a row it left unanswered what was sent to it again, or asked whether it is there; 0: it owes nothing. */
  readonly unanswered: number;
  /** Since it last acknowledged anything. */
  readonly silentMs: number;
}

export interface Stream {
  readonly peer: StreamPeer;
  /** Bytes handed to `write` that the kernel has not taken yet: a peer that stops reading makes this grow. */
  readonly pendingBytes: number;
  readonly receivedBytes: number;
  /** Bytes handed to `write` so far. */
  readonly writtenBytes: number;
  /** True from the moment of destroy, or of a connection error: nothing is sent or received any more. */
  readonly destroyed: boolean;
  /**
   * Sends bytes[start, end), after everything written before. True: the kernel took all of it, the buffer is free
   * again and `released` is not called. False: the buffer must stay untouched until `released` runs, which it does
   * exactly once, also when the connection dies (never from inside `write`). On a destroyed stream: true, and nothing
   * happens.
   */
  write(bytes: Uint8Array, start: number, end: number, released: () => void): boolean;
  /** Stops handing over received bytes until `resume`; has no effect on sending. */
  pause(): void;
  /** Goes on after `pause`, or after a handler that left bytes over; never calls the handler from inside itself. */
  resume(): void;
  /** undefined: nobody knows, or it needs no network. */
  silence(): PeerSilence | undefined;
  /** The peer closed its side, or the connection broke, though `ended` and `closed` may wait for what it sent before. */
  peerHasLeft(): boolean;
  /** Sends what was written, then closes in both directions. Nothing is received any more. */
  end(): void;
  /** Closes at once; what the kernel has not taken is lost. `closed` follows later. */
  destroy(): void;
}

/** Who is at the other end of an encrypted stream. */
export interface SecuredPeer {
  /** What the peer proved to be: the user of its pre-shared key, or its certificate's common name; undefined: nothing. */
  readonly user: string | undefined;
  /** For the log: "TLSv1.3 TLS_AES_128_GCM_SHA256". */
  readonly cipher: string;
}

/** What turns streams into encrypted ones (platform/tls-security.ts), with the certificates and keys that it was made of. */
export interface StreamSecurity {
  /**
   * Waits, as the server, for the peer's handshake, after everything written before. `done` is called at most once (not
   * where the stream was closed before), never from inside this call; with a GatewayError (tls-failed) the stream is
   * destroyed. Until then the stream hands over nothing, and its owner writes nothing; from then on it is the same
   * stream, encrypted. Its owner bounds the wait.
   */
  secure(stream: Stream, done: (outcome: SecuredPeer | GatewayError) => void): void;
}

export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | {
      readonly kind: 'unix';
      readonly path: string;
      /** Who may connect, as chmod(2) has it; default 0600. */
      readonly mode?: number;
      /** "USER", "USER:GROUP" or ":GROUP", by name or number; default: who runs the gateway. */
      readonly owner?: string;
    };

/** A socket that the service manager listened on before this process was there (sd_listen_fds(3)). */
export interface InheritedSocket {
  readonly kind: 'inherited';
  /** FileDescriptorName= of its unit. */
  readonly name: string;
  readonly fd: number;
}

export interface ListenOptions {
  readonly address: ListenAddress | InheritedSocket;
  /** The configuration key that messages name: "nbd.listen". */
  readonly setting: string;
  /** Called with where it listens, before anybody can connect; where it throws, that is why `listen` rejects. */
  check?(bound: ListenAddress): void;
  /** Called for every connection; reading begins after it returned the handler. undefined: the connection is closed. */
  accept(stream: Stream): StreamHandler | undefined;
}

export interface Listener {
  /** As asked for, with the port that the system chose where it was 0; of an inherited socket where it listens. */
  readonly address: ListenAddress;
  /** Stops accepting, and removes a Unix socket's path; accepted streams live on. */
  close(): Promise<void>;
}

export interface StreamFactory {
  /** Rejects with listen-refused, in one line that names the address and the setting. */
  listen(options: ListenOptions): Promise<Listener>;
}
