/** Both directions of one NBD connection, from the greeting to its end, before the judges of its two phases. */
import { strict as assert } from 'node:assert';
import { ByteQueue } from './byte-queue.js';
import { HandshakeJudge } from './nbd-handshake-judge.js';
import { TransmissionJudge } from './nbd-transmission-judge.js';
import type { World } from './nbd-world.js';

export class NbdJudge {
  readonly seen: string[] = [];
  private readonly world: World;
  private readonly handshake: HandshakeJudge;
  private transmission: TransmissionJudge | undefined;
  private readonly fromClient = new ByteQueue();
  private readonly fromServer = new ByteQueue();
  private clientEnded = false;
  private gone = false;

  constructor(world: World) {
    this.world = world;
    this.handshake = new HandshakeJudge(world, this.seen);
  }

  get securing(): boolean {
    return this.handshake.phase === 'securing' && !this.gone;
  }

  /** What requests look like now. */
  get form(): 'simple' | 'structured' | 'extended' {
    return this.handshake.chosen?.form ?? 'simple';
  }

  /** STARTTLS was answered, and nothing else is to come in clear. */
  get readyForTls(): boolean {
    return this.securing && this.handshake.expected.length === 0;
  }

  /** The client sends these bytes, in one piece. */
  sent(bytes: Uint8Array): void {
    if (this.clientEnded) return;
    // Without sockets, what comes behind STARTTLS in a piece of its own is what TLS carries, once it is there.
    const waits = this.securing && !this.world.overSockets;
    this.fromClient.push(bytes);
    if (!waits) this.advance();
  }

  securedAs(user: string | undefined): void {
    this.handshake.securedAs(user);
    this.seen.push(`TLS ${user ?? 'of nobody'}`);
    this.advance();
  }

  tlsFailed(): void {
    this.handshake.breakOff('TLS failed');
  }

  /** The client sends no more. */
  ended(): void {
    this.clientEnded = true;
    this.fromClient.clear();
  }

  /** The client is gone; nobody hears any answer. */
  abandoned(): void {
    this.gone = true;
  }

  waited(ms: number): void {
    if (!this.gone) this.handshake.waited(ms);
  }

  received(bytes: Uint8Array): void {
    if (this.gone) return;
    this.fromServer.push(bytes);
    this.handshake.received(this.fromServer);
    if (this.handshake.expected.length > 0) return;
    if (this.transmission !== undefined) this.transmission.received(this.fromServer);
    else assert.equal(this.fromServer.length, 0, 'nothing is said that was not asked');
  }

  /** The server closed the connection. */
  closed(): void {
    if (this.gone) return;
    this.gone = true;
    this.seen.push(`closed in ${this.handshake.phase}`);
    assert.ok(this.mayClose, 'the connection ends where it must go on');
    if (this.isBroken || this.transmission?.mayBreak === true) return;
    // A half-closed handshake is given up at once.
    if (this.transmission === undefined && this.clientEnded && this.handshake.phase !== 'over') return;
    assert.equal(this.unanswered, undefined, 'all that was asked is answered before the end');
    assert.equal(this.fromServer.length, 0, 'nothing half is sent before the end');
  }

  /** What must still come; undefined: the server may rest. */
  get owed(): string | undefined {
    if (this.gone) return undefined;
    return this.unanswered ?? (this.mustClose ? 'the end of the connection' : undefined);
  }

  private get unanswered(): string | undefined {
    const [next] = this.handshake.expected;
    if (this.isBroken) return undefined;
    return next === undefined ? this.transmission?.owed : `in the handshake: ${next.kind}`;
  }

  private get isBroken(): boolean {
    return this.handshake.broken || this.transmission?.broken === true;
  }

  private get mustClose(): boolean {
    return (
      this.isBroken || this.clientEnded || this.handshake.phase === 'over' || this.transmission?.finishing === true
    );
  }

  private get mayClose(): boolean {
    return this.mustClose || this.transmission?.mayBreak === true;
  }

  private advance(): void {
    this.handshake.sent(this.fromClient);
    const { chosen } = this.handshake;
    if (chosen === undefined || this.handshake.broken) return;
    this.transmission ??= new TransmissionJudge(this.world, chosen, this.seen);
    this.transmission.sent(this.fromClient);
  }
}
