/** Runs a case against an NBD server over volumes in memory, and judges every answer, while another client is served. */
import { strict as assert } from 'node:assert';
import { GatewayError } from '../../src/base/errors.js';
import type { MemoryDevice, MemoryVolume } from '../fake/memory-device.js';
import { settled } from '../fake/memory-stream.js';
import { CMD } from '../fake/nbd-client.js';
import type { Case, FailingOp, HinderStep, SendStep, SetupStep, Step } from './nbd-case.js';
import { NbdJudge } from './nbd-judge.js';
import { layOut } from './nbd-layout.js';
import type { Peer } from './nbd-peer.js';
import { startServer } from './nbd-server.js';
import type { FuzzedServer } from './nbd-server.js';
import type { World } from './nbd-world.js';

const plain: SetupStep = { kind: 'setup', carrier: 'memory', tls: 'off', readOnly: false };
/** In memory everything that is ready runs within so many turns of the event loop. */
const TURNS_MAX = 400;
/** What a server lets go of gives no event. */
const POLL_MS = 5;
/** A piece of each byte, up to here; the rest follows in one. */
const SINGLE_BYTES_MAX = 120;
const commandOf: Readonly<Record<FailingOp, number>> = {
  read: CMD.READ,
  write: CMD.WRITE,
  trim: CMD.TRIM,
  zero: CMD.WRITE_ZEROES,
  flush: CMD.FLUSH,
  cache: CMD.CACHE,
  status: CMD.BLOCK_STATUS,
};

/** What the case made the server do, in words. Throws what the server did wrong. `given`: where it is already there. */
export async function runNbdCase(steps: Case, given?: FuzzedServer): Promise<readonly string[]> {
  const setup = steps[0]?.kind === 'setup' ? steps[0] : plain;
  const fuzzed = given ?? (await startServer(setup));
  const run = new Run(fuzzed);
  try {
    for (const step of steps) await run.step(step);
    await run.finish();
    const { carrier, tls } = setup;
    if (carrier === 'memory') return run.seen;
    return run.seen.map((word) => (word.startsWith('TLS') ? `${carrier} ${tls} ${word}` : word));
  } finally {
    run.abandon();
  }
}

class Run {
  private readonly peers = new Map<number, Peer>();
  /** Bytes that go with those of the next step. */
  private readonly joined = new Map<number, Buffer[]>();
  private cookie = 1n;
  private wake: (() => void) | undefined;

  private readonly world: World;

  constructor(private readonly fuzzed: FuzzedServer) {
    this.world = fuzzed.world;
  }

  get seen(): readonly string[] {
    return [...this.peers.values()].flatMap((peer) => peer.judge.seen);
  }

  async step(step: Step): Promise<void> {
    switch (step.kind) {
      case 'setup':
        return;
      case 'settle':
        return this.settle();
      case 'hold':
      case 'full':
      case 'fail':
      case 'reserve':
        if (this.fuzzed.demo !== undefined) this.hinder(this.fuzzed.demo, step);
        return;
      case 'wait':
        if (this.fuzzed.clock === undefined) return;
        for (const peer of this.peers.values()) peer.judge.waited(step.ms);
        this.fuzzed.clock.advance(step.ms);
        return this.look();
      case 'stall':
      case 'take':
        return this.peers.get(step.connection)?.stall(step.kind === 'stall');
      case 'close':
        await this.flush(step.connection);
        return this.peers.get(step.connection)?.end();
      case 'destroy':
        return this.peers.get(step.connection)?.destroy();
      case 'secure':
        await this.flush(step.connection);
        return this.secure(step.connection, step.user);
      default:
        return this.send(step);
    }
  }

  /** All that was asked is answered, nobody is left, and nothing of them. */
  async finish(): Promise<void> {
    for (const peer of this.peers.values()) peer.stall(false);
    await this.settle();
    for (const peer of this.peers.values()) peer.end();
    await this.untilNothingIsOwed();
    await this.fuzzed.calm.work();
    await this.fuzzed.calm.leave();
    for (const peer of this.peers.values()) peer.destroy();
    await this.until(
      () => this.fuzzed.isIdle(),
      () => 'connections whose peer is gone are not gone',
    );
    await settled();
    this.fuzzed.checkNothingLeft();
  }

  /** After a failure too nothing may be left that keeps the process alive. */
  abandon(): void {
    for (const peer of this.peers.values()) peer.destroy();
    this.fuzzed.close();
  }

  /** Something is wrong with the volume from now on. */
  private hinder({ device, reservations }: MemoryVolume, step: HinderStep): void {
    if (step.kind === 'hold') {
      device.holdReads = true;
      device.holdFlushes = true;
    } else if (step.kind === 'full') {
      this.world.wasFull = true;
      device.writable = false;
    } else if (step.kind === 'reserve') {
      this.world.wasReserved = true;
      Object.assign(reservations.unregistered, { mayRead: step.mayRead, mayWrite: step.mayWrite });
    } else {
      const error = new GatewayError(step.code, 'the case has it fail');
      this.world.failing.add(commandOf[step.op]);
      if (step.op === 'status') device.failStatus = error;
      else device.failNext(step.op, error);
    }
  }

  private release(device: MemoryDevice): void {
    device.holdReads = false;
    device.holdFlushes = false;
    device.failStatus = undefined;
    device.writable = true;
    for (const held of [...device.heldReads.splice(0), ...device.heldFlushes.splice(0)]) held.release();
  }

  private async secure(connection: number, user: string): Promise<void> {
    const peer = this.peers.get(connection);
    if (peer?.judge.securing !== true) return;
    // The answer to STARTTLS may be under way.
    await this.untilNothingIsOwed(connection);
    await peer.secure(user);
  }

  private async send(step: SendStep): Promise<void> {
    const peer = this.peerOf(step.connection);
    const bytes = layOut(step, peer.judge.form === 'extended', () => this.cookie++);
    const waiting = this.joined.get(step.connection) ?? [];
    this.joined.delete(step.connection);
    if (step.joined === true) {
      this.joined.set(step.connection, [...waiting, bytes]);
      return;
    }
    const all = Buffer.concat([...waiting, bytes]);
    const { cuts } = step;
    const places =
      cuts === 'every' ? Array.from({ length: Math.min(all.length, SINGLE_BYTES_MAX) }, (_, at) => at) : cuts;
    let from = 0;
    for (const cut of [...new Set(places)].sort((left, right) => left - right)) {
      if (cut <= from || cut >= all.length) continue;
      peer.send(all.subarray(from, cut));
      if (cuts !== 'every' || cut % 7 === 0) await settled(1);
      from = cut;
    }
    peer.send(all.subarray(from));
    this.look();
  }

  private peerOf(connection: number): Peer {
    let peer = this.peers.get(connection);
    if (peer !== undefined) return peer;
    const judge = new NbdJudge(this.world);
    peer = this.fuzzed.connect(judge, () => this.wake?.());
    this.peers.set(connection, peer);
    return peer;
  }

  private async flush(connection: number): Promise<void> {
    const waiting = this.joined.get(connection);
    this.joined.delete(connection);
    if (waiting !== undefined) this.peers.get(connection)?.send(Buffer.concat(waiting));
    await settled(1);
    this.look();
  }

  private async settle(): Promise<void> {
    for (const connection of [...this.joined.keys()]) await this.flush(connection);
    await settled(2);
    if (this.fuzzed.demo !== undefined) this.release(this.fuzzed.demo.device);
    await this.untilNothingIsOwed();
    await this.fuzzed.calm.work();
  }

  private look(): void {
    for (const peer of this.peers.values()) peer.look();
  }

  /** Nothing hangs: whoever reads has all that is to come. */
  private async untilNothingIsOwed(connection?: number): Promise<void> {
    const peers = (): Peer[] =>
      [...this.peers].filter(([id]) => connection === undefined || id === connection).map(([, peer]) => peer);
    const owed = (): string | undefined =>
      peers().find((peer) => !peer.stalled && peer.judge.owed !== undefined)?.judge.owed;
    await settled(2);
    this.look();
    await this.until(
      () => owed() === undefined,
      () => `it hangs: ${owed() ?? 'nothing'} is missing`,
    );
  }

  private async until(done: () => boolean | Promise<boolean>, explain: () => string): Promise<void> {
    if (!this.world.overSockets) {
      for (let turn = 0; turn < TURNS_MAX && !(await done()); turn++) {
        await settled(1);
        this.look();
      }
      assert.ok(await done(), explain());
      return;
    }
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.wake?.();
    }, this.fuzzed.patienceMs);
    try {
      while (!(await done())) {
        assert.ok(!late, explain());
        await new Promise<void>((resolve) => {
          this.wake = resolve;
          setTimeout(resolve, POLL_MS);
        });
        this.look();
      }
    } finally {
      clearTimeout(timer);
      this.wake = undefined;
    }
  }
}
