/** Runs a case against an NBD server over volumes in memory, and judges every answer, while another client is served. */
import { strict as assert } from 'node:assert';
import { GatewayError } from '../../src/base/errors.js';
import type { MemoryDevice } from '../fake/memory-device.js';
import { settled } from '../fake/memory-stream.js';
import { CMD } from '../fake/nbd-client.js';
import type { Case, FailingOp, SendStep, SetupStep, Step } from './nbd-case.js';
import { NbdJudge } from './nbd-judge.js';
import { layOut } from './nbd-layout.js';
import { MemoryPeer, SocketPeer } from './nbd-peer.js';
import type { Peer } from './nbd-peer.js';
import { checkNothingLeft, restore, startServer } from './nbd-server.js';
import type { FuzzedServer } from './nbd-server.js';
import { World } from './nbd-world.js';

const plain: SetupStep = { kind: 'setup', carrier: 'memory', tls: 'off', readOnly: false };
/** In memory everything that is ready runs within so many turns of the event loop. */
const TURNS_MAX = 400;
/** What must come over a socket comes within this time, unless it never does. */
const SOCKET_MS_MAX = 10_000;
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

/** What the case made the server do, in words. Throws what the server did wrong. */
export async function runNbdCase(steps: Case): Promise<readonly string[]> {
  const setup = steps[0]?.kind === 'setup' ? steps[0] : plain;
  const world = new World({ tls: setup.tls, readOnly: setup.readOnly, overSockets: setup.carrier !== 'memory' });
  const fuzzed = await startServer(world, setup);
  const run = new Run(world, fuzzed);
  try {
    for (const step of steps) await run.step(step);
    await run.finish();
    const { carrier, tls } = setup;
    return carrier === 'memory' ? run.seen : run.seen.map((word) => (word.startsWith('TLS') ? `${carrier} ${tls} ${word}` : word)); // prettier-ignore
  } finally {
    restore(fuzzed.demo.device);
    run.abandon();
  }
}

class Run {
  private readonly peers = new Map<number, Peer>();
  /** Bytes that go with those of the next step. */
  private readonly joined = new Map<number, Buffer[]>();
  private cookie = 1n;
  private wake: (() => void) | undefined;

  constructor(
    private readonly world: World,
    private readonly fuzzed: FuzzedServer,
  ) {}

  get seen(): readonly string[] {
    return [...this.peers.values()].flatMap((peer) => peer.judge.seen);
  }

  async step(step: Step): Promise<void> {
    const { device, reservations } = this.fuzzed.demo;
    switch (step.kind) {
      case 'setup':
        return;
      case 'settle':
        return this.settle();
      case 'hold':
        device.holdReads = true;
        device.holdFlushes = true;
        return;
      case 'full':
        this.world.wasFull = true;
        device.writable = false;
        return;
      case 'fail':
        return this.fail(device, step.op, new GatewayError(step.code, 'the case has it fail'));
      case 'reserve':
        this.world.wasReserved = true;
        Object.assign(reservations.unregistered, { mayRead: step.mayRead, mayWrite: step.mayWrite });
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
    await this.until(() => this.fuzzed.server.connections.length === 0);
    await settled();
    checkNothingLeft(this.fuzzed);
  }

  /** After a failure too nothing may be left that keeps the process alive. */
  abandon(): void {
    for (const peer of this.peers.values()) peer.destroy();
    void this.fuzzed.server.close();
  }

  private fail(device: MemoryDevice, op: FailingOp, error: GatewayError): void {
    this.world.failing.add(commandOf[op]);
    if (op === 'status') device.failStatus = error;
    else device.failNext(op, error);
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
    const { streams, security, port, credentials } = this.fuzzed;
    if (streams === undefined || security === undefined) {
      peer = new SocketPeer(judge, port, credentials, () => this.wake?.());
    } else {
      const stream = streams.connect();
      assert.ok(stream !== undefined, 'a connection is accepted');
      peer = new MemoryPeer(judge, stream, security);
    }
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
    const { device } = this.fuzzed.demo;
    device.holdReads = false;
    device.holdFlushes = false;
    device.failStatus = undefined;
    device.writable = true;
    for (const held of [...device.heldReads.splice(0), ...device.heldFlushes.splice(0)]) held.release();
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

  private async until(done: () => boolean, explain = (): string => 'it hangs'): Promise<void> {
    if (!this.world.overSockets) {
      for (let turn = 0; turn < TURNS_MAX && !done(); turn++) {
        await settled(1);
        this.look();
      }
      assert.ok(done(), explain());
      return;
    }
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.wake?.();
    }, SOCKET_MS_MAX);
    try {
      while (!done()) {
        assert.ok(!late, explain());
        await new Promise<void>((resolve) => {
          this.wake = resolve;
          setTimeout(resolve, 5);
        });
        this.look();
      }
    } finally {
      clearTimeout(timer);
      this.wake = undefined;
    }
  }
}
