/**
 * Clients of a simulated host: several connections that write, trim, zero, read and flush, at any alignment, often in the
 * same places, some with FUA; payloads whole, in pieces, or abandoned half-way. The shadow hears of each request.
 */
import type { GatewayError } from '../../src/base/errors.js';
import type { Volume } from '../../src/engine/volume.js';
import type { SeededRandom } from '../fake/random.js';
import type { SimHost } from './host.js';
import type { Life, Scheduler } from './scheduler.js';
import { BLOCK, payloadOf, Violation, type ClientWrite, type Ticket } from './shadow.js';

export interface LoadOptions {
  readonly host: SimHost;
  readonly scheduler: Scheduler;
  readonly random: SeededRandom;
  readonly operations: number;
  readonly clients: number;
  /** Mean pause of a client between two wake-ups, virtual milliseconds. */
  readonly pauseMs: number;
  readonly depth: number;
  /** Whether a request may fail at all, and how. */
  readonly admits: (error: GatewayError) => boolean;
}

/** As much as is one record of the smallest log of a simulation. */
const UPDATE_BYTES_MAX = 8 * BLOCK;

/** What a simulated log holds at most (host.ts). */
const LOG_BYTES = 2 * 1024 * 1024;

/** Numbers writes over a whole simulation, so that no two are alike. */
let lastId = 0;
export function resetIds(): void {
  lastId = 0;
}

/** Runs until the operations are answered, or the host is dead. */
export async function runLoad(options: LoadOptions): Promise<void> {
  const { host, clients, operations } = options;
  const gone = new Promise<void>((resolve) => host.life?.onDeath(resolve));
  const each = Math.ceil(operations / clients);
  const running = Array.from({ length: clients }, () => new Client(options, each).run());
  await Promise.race([gone, Promise.all(running)]);
}

/** Writes one long record after another until the log has had to let go of some; ends early where nothing makes room. */
export async function fillLog(host: SimHost, scheduler: Scheduler): Promise<void> {
  const { life, device } = host;
  if (device === undefined || life === undefined) return;
  const lengthBytes = 16 * BLOCK;
  for (let written = 0; written < LOG_BYTES && host.alive; written += lengthBytes) {
    const offset = written % Math.floor(device.sizeBytes / 2);
    const bytes = payloadOf(++lastId, offset, lengthBytes);
    const ticket = host.shadow.begin({ kind: 'write', offset, lengthBytes, bytes });
    const answered = new Promise<void>((resolve) => {
      const completion = host.completion((error) => {
        if (error === undefined) host.shadow.acknowledged(ticket, false);
        else host.shadow.forget(ticket);
        resolve();
      });
      device.write(offset, lengthBytes, bytes, 0, false, completion);
    });
    const gone = new Promise<void>((resolve) => life.onDeath(resolve));
    await Promise.race([answered, gone, scheduler.sleep(20_000)]);
  }
}

class Client {
  private readonly host: SimHost;
  private readonly random: SeededRandom;
  private readonly life: Life | undefined;
  private inFlight = 0;
  private wake: (() => void) | undefined;

  constructor(
    private readonly options: LoadOptions,
    private left: number,
  ) {
    this.host = options.host;
    this.life = options.host.life;
    this.random = options.random.fork();
  }

  async run(): Promise<void> {
    const { pauseMs, depth } = this.options;
    const { life } = this;
    if (life === undefined) return;
    while (this.left > 0) {
      const { device } = this.host;
      if (device === undefined || !this.host.alive) return;
      for (let burst = 1 + this.random.below(4); burst > 0 && this.left > 0 && this.inFlight < depth; burst--) {
        if (!device.writable && this.random.fraction() < 0.9) {
          await new Promise<void>((resolve) => device.onceWritable(resolve));
        }
        this.left--;
        this.issue(device);
      }
      if (this.random.fraction() < 0.7) device.commit();
      await life.clock.sleep(-Math.log(1 - this.random.fraction()) * pauseMs);
      while (this.inFlight >= depth) await new Promise<void>((resolve) => (this.wake = resolve));
    }
    while (this.inFlight > 0) await new Promise<void>((resolve) => (this.wake = resolve));
  }

  private issue(device: Volume): void {
    const { random } = this;
    const choice = random.fraction();
    if (choice < 0.2) {
      this.readSome(device);
      if (choice < 0.05) void this.describeSome(device);
      return;
    }
    if (choice < 0.3) return this.flush(device);
    const { offset, lengthBytes } = this.place(device);
    if (choice < 0.42) return this.makeZero(device, offset, lengthBytes);
    if (choice < 0.48) return this.update(device, offset, Math.min(lengthBytes, UPDATE_BYTES_MAX));
    this.write(device, offset, lengthBytes);
  }

  /** Mostly a few blocks of a small hot region, sometimes many, sometimes single bytes. */
  private place(device: Volume): { offset: number; lengthBytes: number } {
    const { random } = this;
    const shape = random.fraction();
    const hot = random.fraction() < 0.6;
    const roomBytes = hot ? 24 * BLOCK : device.sizeBytes;
    let lengthBytes: number;
    if (shape < 0.55) lengthBytes = BLOCK * (1 + random.below(4));
    else if (shape < 0.7) lengthBytes = 512 * (1 + random.below(20));
    else if (shape < 0.85) lengthBytes = 1 + random.below(2 * BLOCK);
    else lengthBytes = BLOCK * (1 + random.below(40));
    lengthBytes = Math.min(lengthBytes, roomBytes);
    const unit = shape < 0.55 || shape >= 0.85 ? BLOCK : shape < 0.7 ? 512 : 1;
    return { offset: unit * random.below(Math.floor((roomBytes - lengthBytes) / unit) + 1), lengthBytes };
  }

  private write(device: Volume, offset: number, lengthBytes: number): void {
    const { random } = this;
    const bytes = random.fraction() < 0.05 ? Buffer.alloc(lengthBytes) : payloadOf(++lastId, offset, lengthBytes);
    const fua = random.fraction() < 0.1;
    if (random.fraction() < 0.35) {
      void this.writeInPieces(device, offset, bytes, fua);
      return;
    }
    const padded = Buffer.concat([Buffer.alloc(8), bytes]);
    this.submit({ kind: 'write', offset, lengthBytes, bytes }, fua, (completion) => {
      device.write(offset, lengthBytes, padded, 8, fua, completion);
      padded.fill(0xee); // No reference is kept.
    });
  }

  /** Sees what is there, and writes in its place, or does not: nothing may come between the two. */
  private update(device: Volume, offset: number, lengthBytes: number): void {
    const { random } = this;
    const { shadow } = this.host;
    const fua = random.fraction() < 0.1;
    const writes = random.fraction() < 0.8;
    const bytes = payloadOf(++lastId, offset, lengthBytes);
    let seenLsn = 0;
    const change = (old: Uint8Array): boolean => {
      this.host.guard(() => shadow.judgeRead(offset, old, shadow.appendedLsn));
      seenLsn = shadow.appendedLsn;
      if (writes) old.set(bytes);
      return writes;
    };
    if (writes) {
      this.submit(
        { kind: 'write', offset, lengthBytes, bytes },
        fua,
        (completion) => device.update(offset, lengthBytes, change, fua, completion),
        undefined,
        (ticket) => shadow.judgeUpdate(ticket, seenLsn),
      );
      return;
    }
    this.ask(
      (completion) => device.update(offset, lengthBytes, change, fua, completion),
      () => undefined,
    );
  }

  private async writeInPieces(device: Volume, offset: number, bytes: Buffer, fua: boolean): Promise<void> {
    const { random } = this;
    this.inFlight++;
    let write;
    try {
      write = device.openWrite(offset, bytes.length);
    } catch (error) {
      this.refused(error);
      this.answered();
      return;
    }
    for (let at = 0; at < bytes.length;) {
      const end = Math.min(bytes.length, at + 1 + random.below(2 * BLOCK));
      write.fill(bytes, at, end);
      at = end;
      if (random.fraction() < 0.3) await this.life?.clock.sleep(random.below(20));
    }
    this.answered();
    if (random.fraction() < 0.05) return write.abandon();
    this.submit(
      { kind: 'write', offset, lengthBytes: bytes.length, bytes },
      fua,
      (completion) => write.submit(fua, completion),
      () => write.abandon(),
    );
  }

  private makeZero(device: Volume, offset: number, lengthBytes: number): void {
    const { random } = this;
    const all = random.fraction() < 0.04;
    const write = all
      ? { offset: 0, lengthBytes: device.sizeBytes }
      : random.fraction() < 0.2
        ? { offset, lengthBytes: Math.min(40 * lengthBytes, device.sizeBytes - offset) }
        : { offset, lengthBytes };
    const fua = random.fraction() < 0.1;
    const trim = random.fraction() < 0.5;
    this.submit({ kind: trim ? 'trim' : 'zero', ...write, bytes: undefined }, fua, (completion) => {
      if (trim) device.trim(write.offset, write.lengthBytes, fua, completion);
      else device.zero(write.offset, write.lengthBytes, random.fraction() < 0.7, fua, completion);
    });
  }

  private submit(
    write: ClientWrite,
    fua: boolean,
    hand: (completion: ReturnType<SimHost['completion']>) => void,
    abandon?: () => void,
    judge?: (ticket: Ticket) => void,
  ): void {
    const { host } = this;
    const { shadow } = host;
    if (shadow.zeroesAlready(write)) return abandon?.();
    const ticket = shadow.begin(write);
    this.inFlight++;
    let handed = false;
    const completion = host.completion((error) => {
      if (!handed) throw new Violation('a completion ran inside the call that handed the request over');
      this.answered();
      if (error !== undefined) {
        shadow.forget(ticket);
        this.refused(error);
        return;
      }
      this.options.scheduler.note(write.kind, write.offset);
      shadow.acknowledged(ticket, fua);
      judge?.(ticket);
    });
    try {
      hand(completion);
    } catch (error) {
      shadow.forget(ticket);
      this.answered();
      this.refused(error);
    }
    handed = true;
  }

  private flush(device: Volume): void {
    const { host } = this;
    const lsn = host.shadow.promisedLsn;
    this.ask(
      (completion) => device.flush(completion),
      () => host.shadow.flushed(lsn),
    );
  }

  /** A request that writes nothing. */
  private ask(hand: (completion: ReturnType<SimHost['completion']>) => void, succeeded: () => void): void {
    this.inFlight++;
    const completion = this.host.completion((error) => {
      this.answered();
      if (error === undefined) succeeded();
      else this.refused(error);
    });
    try {
      hand(completion);
    } catch (error) {
      this.answered();
      this.refused(error);
    }
  }

  private readSome(device: Volume): void {
    const { host } = this;
    const { offset, lengthBytes } = this.place(device);
    const target = new Uint8Array(lengthBytes);
    const fromLsn = host.shadow.appendedLsn;
    this.inFlight++;
    const judge = (): void => host.shadow.judgeRead(offset, target, fromLsn);
    const completion = host.completion((error) => {
      this.answered();
      if (error === undefined) judge();
      else this.refused(error);
    });
    try {
      if (!device.read(offset, lengthBytes, target, 0, completion)) return;
      this.answered();
      host.guard(judge);
    } catch (error) {
      this.answered();
      this.refused(error);
    }
  }

  /** What is said to be a hole or zero reads as zeros. */
  private async describeSome(device: Volume): Promise<void> {
    const { host, life } = this;
    const { offset, lengthBytes } = this.place(device);
    const fromLsn = host.shadow.appendedLsn;
    this.inFlight++;
    try {
      const extents = await device.blockStatus(offset, lengthBytes, 1 + this.random.below(6));
      if (life?.alive !== true) return;
      host.guard(() => {
        let at = offset;
        for (const extent of extents) {
          if (extent.state !== 'data') host.shadow.judgeZero(at, extent.lengthBytes, fromLsn);
          at += extent.lengthBytes;
        }
        if (at === offset || at > offset + lengthBytes)
          throw new Violation(`${at - offset} of ${lengthBytes} bytes were described`);
      });
    } catch (error) {
      this.refused(error);
    } finally {
      this.answered();
    }
  }

  private answered(): void {
    this.inFlight--;
    const { wake } = this;
    this.wake = undefined;
    wake?.();
  }

  private refused(error: unknown): void {
    const { host, options } = this;
    if (this.life?.alive !== true) return;
    host.guard(() => {
      if (!options.admits(error as GatewayError))
        throw new Violation(`a request failed: ${String((error as Error).stack)}`);
    });
  }
}
