/**
 * Keeps a kernel's NBD device alive while its gateway restarts: attaches it, or takes over what is attached, and gives
 * the kernel a new connection for each that died. Until then the kernel holds the requests back; they become I/O errors
 * only when no connection lives for as long as its dead-connection time-out.
 *
 * Connections are never given to the kernel for another disk than the one that it has: an export that is smaller than
 * the device, or read-only where the device is not, is refused again and again until it is mended, because a file system
 * that waits loses nothing and one that is handed another disk loses everything.
 *
 * How many connections are dead is counted from the kernel's messages (NBD_CMD_LINK_DEAD), one for each. Too high a
 * count costs a connection that the kernel does not take. Too low a count, should a message ever be lost, is mended by
 * the look that is taken regularly for a new size: one in ten offers a connection too.
 */
import { GatewayError, ProtocolError } from '../base/errors.js';
import type { Clock } from '../ports/clock.js';
import type { Log } from '../ports/log.js';
import type { ConnectedSocket, NbdDevice, NbdDialer, Patience } from '../ports/nbd-device.js';
import type { Random } from '../ports/random.js';
import { askInfo, negotiateGo } from './negotiation.js';
import type { NegotiatedExport } from './negotiation.js';

export interface WatchOptions {
  readonly device: NbdDevice;
  readonly dialer: NbdDialer;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly exportName: string;
  /** When it attaches the device; one that is attached has what it has. */
  readonly connections: number;
  readonly deadConnectionSeconds: number;
  /** With several connections: how long the kernel waits for an answer before it asks on another one. */
  readonly requestMs: number;
  /** Called once, when the device is there and watched. */
  readonly onAttached: () => void;
  /** Told of every change, as one line. */
  readonly onStatus: (status: string) => void;
}

/** `stopped`: by the signal, the device stays as it is. `detached`: by somebody else. */
export type WatchEnd = 'stopped' | 'detached';

/** How often the size is asked for. */
export const LOOK_MS = 30_000;
/** As often a lost message is made good. */
export const OFFER_MS = 10 * LOOK_MS;
/** For one attempt, from the dialing to the end of the negotiation. */
export const ATTEMPT_MS = 10_000;
export const BACKOFF_MS_MIN = 100;
export const BACKOFF_MS_MAX = 3000;
/**
 * With one connection the kernel never gives up a request by itself: it only looks whether the connection that carried it
 * was replaced, and then sends it again. So this is how long a restart holds up what was in flight, and a slow
 * gateway costs nothing but a line in the kernel's log.
 */
export const SINGLE_REQUEST_MS = 5000;
export const CONNECTIONS_MAX = 16;

export class NbdWatcher {
  readonly #options: WatchOptions;
  #dead = 0;
  /** A look is due. */
  #look = false;
  #offeredAtMs = 0;
  #wake: (() => void) | undefined;
  #failures = 0;
  #lastFailure = '';
  #lostAtMs: number | undefined;

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  /** Takes a look at once: the size may have changed. */
  lookNow(): void {
    this.#look = true;
    this.#wake?.();
  }

  /**
   * Goes on until the signal aborts or the device is detached.
   * @throws GatewayError at the start only: not-found, not-supported, config-invalid, size-invalid
   */
  async run(signal: AbortSignal): Promise<WatchEnd> {
    const { device } = this.#options;
    device.onDead((which) => this.#onDead(which));
    const began = (await device.isAttached()) ? await this.#takeOver() : await this.#attach(signal);
    if (!began) return 'stopped';
    this.#options.onAttached();
    for (;;) {
      if (signal.aborted) return 'stopped';
      if (!(await device.isAttached())) return 'detached';
      if (this.#dead > 0 || this.#look) await this.#attempt(signal);
      else await this.#rest(signal);
    }
  }

  #onDead(which: 'one' | 'all'): void {
    const { clock, connections, log, onStatus } = this.#options;
    this.#dead = which === 'one' ? Math.min(this.#dead + 1, CONNECTIONS_MAX) : Math.max(this.#dead, connections);
    if (this.#lostAtMs === undefined) {
      this.#lostAtMs = clock.nowMs();
      log.warn('a connection to the gateway was lost; requests wait for a new one');
      onStatus('connecting again');
    }
    this.#wake?.();
  }

  /** False when it was stopped before. */
  async #attach(signal: AbortSignal): Promise<boolean> {
    const { device, exportName, log, onStatus } = this.#options;
    for (;;) {
      if (signal.aborted) return false;
      const sockets: ConnectedSocket[] = [];
      try {
        const first = await this.#connect(signal, sockets);
        const connections = first.canMultiConn ? this.#options.connections : 1;
        if (connections < this.#options.connections) log.warn('the server allows one connection only');
        while (sockets.length < connections) sameExport(first, await this.#connect(signal, sockets));
        const { sizeBytes, flags } = first;
        const backend = backendOf(exportName, connections);
        await device.attach({ sockets, sizeBytes, flags, backend, patience: this.#patience(connections) });
        log.info(`/dev/${device.name} is attached: ${sizeBytes} bytes, ${connectionsText(connections)}`);
        onStatus(`attached, ${connectionsText(connections)}`);
        return true;
      } catch (error) {
        if (!isWorthRepeating(error)) throw error;
        await this.#failed(error, signal);
      } finally {
        for (const socket of sockets) socket.close();
      }
    }
  }

  /** What is attached stays as it is, but for the kernel's patience; any of its connections may be dead. */
  async #takeOver(): Promise<true> {
    const { device, exportName, log, onStatus } = this.#options;
    const backend = await device.backend();
    const ours = backend === undefined ? undefined : parseBackend(backend);
    if (backend !== undefined && ours?.exportName !== exportName) {
      throw new GatewayError(
        'config-invalid',
        `/dev/${device.name} is attached to "${ours?.exportName ?? backend}", not to "${exportName}"; choose another device, or detach it first: nbd-client -d /dev/${device.name}`,
      );
    }
    const connections = ours?.connections ?? Math.max(this.#options.connections, await device.connectionsMin());
    // Another program may have made more connections than can be seen here.
    await device.setPatience(this.#patience(ours?.connections ?? CONNECTIONS_MAX));
    this.#dead = connections;
    log.info(`/dev/${device.name} was attached before: it is watched, ${connectionsText(connections)}`);
    onStatus(`watched, ${connectionsText(connections)}`);
    return true;
  }

  #patience(connections: number): Patience {
    const { deadConnectionSeconds, requestMs } = this.#options;
    return { deadConnectionSeconds, requestMs: connections === 1 ? SINGLE_REQUEST_MS : requestMs };
  }

  /** Offers the kernel a connection for one that is dead, or only looks at what the gateway serves. */
  async #attempt(signal: AbortSignal): Promise<void> {
    const sockets: ConnectedSocket[] = [];
    const offers = this.#dead > 0 || this.#options.clock.nowMs() - this.#offeredAtMs >= OFFER_MS;
    try {
      const served = await this.#connect(signal, offers ? sockets : undefined);
      await this.#checkSameDisk(served);
      const [socket] = sockets;
      if (socket !== undefined) await this.#offer(socket);
      this.#look = false;
      this.#succeeded();
      // A device that changes its size waits for what is in flight, and nothing can be replaced meanwhile: so only when
      // all connections live.
      if (this.#dead === 0) await this.#grow(served.sizeBytes);
    } catch (error) {
      await this.#failed(error, signal);
    } finally {
      for (const socket of sockets) socket.close();
    }
  }

  async #offer(socket: ConnectedSocket): Promise<void> {
    const { clock, device } = this.#options;
    // Counted before: should it die at once, the kernel's message adds to what is left.
    const wasNeeded = this.#dead > 0;
    if (wasNeeded) this.#dead -= 1;
    try {
      await device.replaceDead(socket);
      this.#offeredAtMs = clock.nowMs();
    } catch (error) {
      if (wasNeeded) this.#dead += 1;
      throw error;
    }
  }

  /** One connection in transmission, added to `sockets`, whose owner closes it; without them, only what is served. */
  async #connect(signal: AbortSignal, sockets: ConnectedSocket[] | undefined): Promise<NegotiatedExport> {
    const { clock, dialer, exportName } = this.#options;
    const attempt = new AbortController();
    const abort = (): void => attempt.abort();
    signal.addEventListener('abort', abort, { once: true });
    const timer = clock.after(ATTEMPT_MS, abort);
    if (signal.aborted) abort();
    try {
      const connection = await dialer.dial(attempt.signal);
      const closeLate = (): void => connection.close();
      attempt.signal.addEventListener('abort', closeLate, { once: true });
      if (attempt.signal.aborted) closeLate();
      try {
        if (sockets === undefined) return await askInfo(connection, exportName);
        const negotiated = await negotiateGo(connection, exportName);
        sockets.push(await connection.detach());
        return negotiated;
      } finally {
        attempt.signal.removeEventListener('abort', closeLate);
        connection.close();
      }
    } finally {
      timer.cancel();
      signal.removeEventListener('abort', abort);
    }
  }

  async #checkSameDisk(served: NegotiatedExport): Promise<void> {
    const { device } = this.#options;
    const sizeBytes = await device.sizeBytes();
    if (served.sizeBytes < sizeBytes) {
      throw new GatewayError(
        'size-invalid',
        `the gateway serves ${served.sizeBytes} bytes, /dev/${device.name} has ${sizeBytes}: this is another disk, and it is not connected`,
      );
    }
    if (served.readOnly && !(await device.isReadOnly())) {
      throw new GatewayError(
        'read-only',
        `the gateway serves the volume read-only, /dev/${device.name} is writable: it is not connected, so that writes wait instead of failing`,
      );
    }
  }

  async #grow(sizeBytes: number): Promise<void> {
    const { device, log } = this.#options;
    const before = await device.sizeBytes();
    if (sizeBytes <= before) return;
    await device.setSize(sizeBytes);
    log.info(`/dev/${device.name} has grown from ${before} to ${sizeBytes} bytes`);
  }

  #succeeded(): void {
    const { clock, device, log, onStatus } = this.#options;
    this.#failures = 0;
    this.#lastFailure = '';
    if (this.#dead > 0 || this.#lostAtMs === undefined) return;
    const seconds = (clock.nowMs() - this.#lostAtMs) / 1000;
    this.#lostAtMs = undefined;
    log.info(`/dev/${device.name} is connected again after ${seconds.toFixed(1)} s`);
    onStatus('connected again');
  }

  /** Says it, once for each reason, and waits before the next attempt. */
  async #failed(error: unknown, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { clock, device, log, onStatus, random } = this.#options;
    const reason = error instanceof Error ? error.message : String(error);
    if (reason !== this.#lastFailure) log.warn(`not connected: ${reason}`);
    if (reason !== this.#lastFailure) onStatus(`not connected: ${reason}`);
    this.#lastFailure = reason;
    this.#failures += 1;
    if (!isOperational(error)) throw error;
    const lostMs = this.#lostAtMs === undefined ? 0 : clock.nowMs() - this.#lostAtMs;
    if (this.#dead > 0 && lostMs > this.#options.deadConnectionSeconds * 1000) {
      this.#lostAtMs = clock.nowMs();
      log.error(
        `/dev/${device.name} had no connection for ${this.#options.deadConnectionSeconds} s: its I/O fails now`,
      );
    }
    const ceilingMs = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** Math.min(this.#failures - 1, 10));
    await clock.sleep(ceilingMs * (0.5 + random.fraction() / 2), signal).catch(() => undefined);
  }

  /** Until something is to be done, the next look at the latest. */
  async #rest(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = this.#options.clock.after(LOOK_MS, () => {
        this.#look = true;
        end();
      });
      const end = (): void => {
        this.#wake = undefined;
        timer.cancel();
        signal.removeEventListener('abort', end);
        resolve();
      };
      this.#wake = end;
      signal.addEventListener('abort', end, { once: true });
      if (signal.aborted) end();
    });
  }
}

/** What the kernel keeps with a device that was attached here: "keepgate 4 disk0". */
export function backendOf(exportName: string, connections: number): string {
  return `keepgate ${connections} ${exportName}`;
}

function parseBackend(text: string): { connections: number; exportName: string } | undefined {
  const found = /^keepgate (\d+) (.*)$/.exec(text);
  return found === null ? undefined : { connections: Number(found[1]), exportName: found[2] ?? '' };
}

function connectionsText(count: number): string {
  return count === 1 ? '1 connection' : `${count} connections`;
}

function sameExport(first: NegotiatedExport, next: NegotiatedExport): void {
  if (next.sizeBytes !== first.sizeBytes || next.flags !== first.flags) {
    throw new GatewayError('gateway-unreachable', 'the volume changed while it was attached');
  }
}

/** A bug is not tried again. */
function isOperational(error: unknown): boolean {
  return error instanceof GatewayError || error instanceof ProtocolError;
}

/** Before anything is attached: what a person has to mend ends the command. */
function isWorthRepeating(error: unknown): boolean {
  if (error instanceof GatewayError) return error.code === 'gateway-unreachable' || error.code === 'volume-in-use';
  return error instanceof ProtocolError;
}
