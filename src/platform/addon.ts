/**
 * The native addon (native/binding) as TypeScript sees it. Nothing else loads it.
 *
 * Functions on disks answer with a result or with a negative errno, at once or as a promise of it; they throw
 * (TypeError, RangeError) for wrong arguments only. Promises never reject. Buffers handed to a promised operation must
 * not be transferred to another thread before it is settled.
 */
import { createRequire } from 'node:module';
import { GatewayError } from '../base/errors.js';
import type { Checksums } from '../ports/checksum.js';
import type { FrameCipher } from '../ports/frame-cipher.js';

/** An open file, of this thread only; never used twice. */
export type FileHandle = number;
/** A queue with threads of its own (native/core/lane.h), of this thread only. */
export type LaneNumber = number;
/** A generic netlink family's link (native/core/generic-netlink.h). */
export type NetlinkLink = object;
/** What was asked for, or a negative errno. */
type Result = number;

export const openModes = { read: 0, write: 1, create: 2 } as const;

export interface Addon extends Checksums, Partial<FrameCipher> {
  /** "sse4.2", "armv8" or "portable". */
  checksumKernel(): string;
  /** For tests: all threads use that kernel ("auto": the fastest); false where this processor does not have it. */
  forceChecksumKernel(name: string): boolean;

  /** The lane of that name, made at the first call. */
  lane(name: string, threadName: string, threadsMax: number): LaneNumber;
  openFile(
    path: string,
    mode: number,
    readLane: LaneNumber,
    writeLane: LaneNumber,
    syncLane: LaneNumber,
  ): Promise<Result>;
  /** The lock's file, or -EAGAIN and the process that holds it (0: not known). */
  openLock(path: string, lane: LaneNumber): Promise<[file: Result, holder: number]>;
  /** Once nothing uses the file any more; no further operation finds it. */
  closeFile(file: FileHandle): Promise<Result> | Result;
  readNow(file: FileHandle, target: Uint8Array, targetStart: number, lengthBytes: number, position: number): boolean;
  read(
    file: FileHandle,
    target: Uint8Array,
    targetStart: number,
    lengthBytes: number,
    position: number,
  ): Promise<Result> | Result;
  readScattered(file: FileHandle, target: Uint8Array, runs: Float64Array, runCount: number): Promise<Result> | Result;
  writeNow(file: FileHandle, parts: readonly Uint8Array[], position: number): Result;
  write(file: FileHandle, parts: readonly Uint8Array[], position: number): Promise<Result> | Result;
  writeScattered(file: FileHandle, source: Uint8Array, runs: Float64Array, runCount: number): Promise<Result> | Result;
  sync(file: FileHandle): Promise<Result> | Result;
  startWriteOut(file: FileHandle, position: number, lengthBytes: number): void;
  allocate(file: FileHandle, position: number, lengthBytes: number): Promise<Result> | Result;
  /** -EOPNOTSUPP where the file system cannot reserve. */
  reserve(file: FileHandle, position: number, lengthBytes: number): Promise<Result> | Result;
  zeroRange(file: FileHandle, position: number, lengthBytes: number): Promise<Result> | Result;
  punch(file: FileHandle, position: number, lengthBytes: number): Promise<Result> | Result;
  truncate(file: FileHandle, lengthBytes: number): Promise<Result> | Result;
  fileSize(file: FileHandle): Promise<Result> | Result;
  /** A range, or 0 when only holes follow. */
  nextData(file: FileHandle, position: number): Promise<[start: number, end: number] | Result> | Result;

  /** 1 or 0. */
  exists(lane: LaneNumber, path: string): Promise<Result>;
  /** In no order; empty where there is no such directory. */
  list(lane: LaneNumber, path: string): Promise<string[] | Result>;
  makeDirectories(lane: LaneNumber, path: string): Promise<Result>;
  rename(lane: LaneNumber, from: string, to: string): Promise<Result>;
  remove(lane: LaneNumber, path: string): Promise<Result>;
  syncDirectory(lane: LaneNumber, path: string): Promise<Result>;
  readSmall(lane: LaneNumber, path: string, lengthMax: number): Promise<Uint8Array | Result>;
  writeSmall(lane: LaneNumber, path: string, bytes: Uint8Array): Promise<Result>;
  /** Durable, its name not yet; -EEXIST where there is something. Without the page cache if it is large. */
  writeNewFile(lane: LaneNumber, path: string, bytes: Uint8Array): Promise<Result>;
  freeBytes(lane: LaneNumber, path: string): Promise<Result>;

  /** How many threads of the process could not be marked. */
  setIoFlusher(): Result;
  lockMemory(): Result;
  returnFreedMemory(): Result;
  /** The calling thread, and those that it starts from now on: nice(2). */
  yieldToOthers(nice: number): Result;
  notifyServiceManager(socketPath: string, message: string): Result;
  /** The user at the other end of a connected Unix socket's file descriptor. */
  peerUserId(fd: number): Result;
  /** Of a connected socket: 1 where the peer will send no more, whatever of it is still unread, else 0. */
  peerHasLeft(fd: number): Result;
  /** Bytes of [start, end) that the kernel took without waiting, perhaps none. */
  sendNow(fd: number, bytes: Uint8Array, start: number, end: number): Result;
  /**
   * Bytes received, asking for up to `awakeUs` without sleeping; 0 as soon as the event loop has something else to do, and
   * where the peer will send no more.
   */
  receiveSoon(fd: number, bytes: Uint8Array, start: number, awakeUs: number): Result;
  /** Of a connected TCP socket's file descriptor. */
  tcpRoundTripUs(fd: number): Result;
  /** Written and not acknowledged, sent or not. */
  tcpOutstandingBytes(fd: number): Result;
  /** How often in a row the other side left unanswered what was sent again; 0 while it owes nothing. */
  tcpUnanswered(fd: number): Result;
  /** Since it acknowledged anything. */
  tcpSilentMs(fd: number): Result;
  /**
   * TLS 1.3 with ChaCha20-Poly1305 on a connected TCP socket, each direction as key 32, IV 12, number of the next record 8.
   * -ENOENT where the kernel has no TLS, -ENOPROTOOPT where it lacks the cipher.
   */
  installKernelTls(fd: number, transmit: Uint8Array, receive: Uint8Array): Result;
  /** With the kernel's family of that name, and its multicast group; -ENOENT where it has none. */
  openNetlink(family: string, group: string): NetlinkLink | Result;
  /** The attributes of the answer, which may be none. One after the other. */
  netlinkRequest(
    link: NetlinkLink,
    command: number,
    version: number,
    attributes: Uint8Array,
  ): Promise<Uint8Array | Result>;
  /** The group's next message: its command in one byte, and its attributes. -ENOBUFS: some were lost. */
  netlinkNext(link: NetlinkLink): Promise<Uint8Array | Result>;
  /** Every netlinkNext ends with -ECANCELED from now on. */
  cancelNetlink(link: NetlinkLink): Result;
  /** Another descriptor of the same open file. */
  duplicateDescriptor(fd: number): Result;
  /** The C library's words for a positive errno. */
  errorText(errno: number): string;
}

/** From dist/src/platform. KEEPGATE_ADDON names another build, for instance the one with sanitizers. */
const builtPath = '../../../build/Release/keepgate.node';

let loaded: Addon | undefined;

/** Loads it at the first call; addon-missing where it was not built for this Node. */
export function loadAddon(): Addon {
  loaded ??= load(process.env.KEEPGATE_ADDON ?? builtPath);
  return loaded;
}

function load(path: string): Addon {
  try {
    return createRequire(import.meta.url)(path) as Addon;
  } catch (cause) {
    const reason = cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause);
    throw new GatewayError('addon-missing', `the native addon cannot be loaded: ${reason}`, { cause });
  }
}
