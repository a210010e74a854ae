/**
 * A block device of this machine's kernel that is an NBD client (/dev/nbdN), and how connections for it are made. The
 * real ones are platform/nbd-kernel.ts and platform/nbd-dialer.ts.
 */

/** A connection that has been negotiated, as the kernel takes it: a descriptor that nobody reads or writes any more. */
export interface ConnectedSocket {
  readonly fd: number;
  /** Lets go of it; the kernel keeps what it took, and a connection that nobody took ends. */
  close(): void;
}

/** How long the kernel is patient, before a request becomes an I/O error or is sent again. */
export interface Patience {
  /** Without any living connection. */
  readonly deadConnectionSeconds: number;
  /** After which it looks at a request that has had no answer. */
  readonly requestMs: number;
}

export interface AttachSettings {
  readonly sockets: readonly ConnectedSocket[];
  readonly sizeBytes: number;
  /** The transmission flags that the server announced. */
  readonly flags: number;
  /** Kept by the kernel with the device; whoever changes it later has to name it. */
  readonly backend: string;
  readonly patience: Patience;
}

/** One device. Calls fail with a GatewayError; not-supported where the kernel or this process cannot do it at all. */
export interface NbdDevice {
  /** "nbd0" */
  readonly name: string;
  isAttached(): Promise<boolean>;
  sizeBytes(): Promise<number>;
  isReadOnly(): Promise<boolean>;
  /** With how many connections at least; the kernel tells no more of them than it has processors. */
  connectionsMin(): Promise<number>;
  /** What it was attached with; undefined where that was another program. */
  backend(): Promise<string | undefined>;
  /** Mounted, or held by another device such as dm-crypt. */
  isInUse(): Promise<boolean>;

  attach(settings: AttachSettings): Promise<void>;
  setPatience(patience: Patience): Promise<void>;
  /** Puts the socket in the place of one that is dead; where all live the kernel does not take it, and does not say so. */
  replaceDead(socket: ConnectedSocket): Promise<void>;
  setSize(sizeBytes: number): Promise<void>;
  detach(): Promise<void>;

  /** Calls back for every connection that died; `all` when news were lost, so that any may be dead. */
  onDead(callback: (which: 'one' | 'all') => void): void;
}

/** Where a client's proofs for TLS are. */
export interface NbdTlsFiles {
  readonly proof:
    /** A directory with ca-cert.pem, and where the server demands them client-cert.pem and client-key.pem. */
    | { readonly kind: 'certificates'; readonly directory: string }
    /** A file of USER:KEY lines. */
    | { readonly kind: 'pre-shared key'; readonly file: string; readonly user: string };
  /** Whom the server's certificate must name. */
  readonly hostname: string;
}

/** A connection before the kernel has it: bytes as they were asked for, in order. */
export interface DialedConnection {
  /** Exactly that many; gateway-unreachable when the other side ends before. */
  read(lengthBytes: number): Promise<Uint8Array>;
  write(bytes: Uint8Array): void;
  /**
   * Where the connection is to be encrypted: lays TLS over it, after the server has acknowledged STARTTLS. Rejects with
   * tls-failed, gateway-unreachable or not-supported.
   */
  readonly secure: (() => Promise<void>) | undefined;
  /** Hands the connection out; nothing has been read beyond what `read` returned. */
  detach(): Promise<ConnectedSocket>;
  /** Ends it, unless it was detached. */
  close(): void;
}

export interface NbdDialer {
  /** gateway-unreachable where nobody answers in time, or when the signal aborts. */
  dial(signal: AbortSignal): Promise<DialedConnection>;
}
