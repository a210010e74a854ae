/** Commands of one session over several connections, however their PDUs are interleaved and whichever connection dies. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { limits } from '../../../../src/base/limits.js';
import { createRig, pattern, write10 } from '../../../fake/iscsi-client.js';
import type { IscsiClient, Pdu, Rig } from '../../../fake/iscsi-client.js';
import { settled } from '../../../fake/memory-stream.js';

const CONNECTIONS = 3;
const BASE_TAG = 1000;

/** One command on its way: a write of its own block, so that the device's history shows the order, or a ping. */
interface Sent {
  readonly cmdSn: number;
  readonly itt: number;
  readonly isWrite: boolean;
  /** Its data come with the command, or when asked for. */
  readonly immediate: boolean;
}

class Initiator {
  readonly #rig: Rig;
  readonly #clients: (IscsiClient | undefined)[] = [];
  /** Per connection: what it has sent and the target has not received. */
  readonly #onTheWay: (Sent | (() => void))[][] = [];
  /** Commands without an answer, and the connection that they were sent on. */
  readonly #unanswered = new Map<number, { sent: Sent; connection: number }>();
  answered = 0;
  readonly answeredWrites = new Set<number>();
  #maxCmdSn = 0;
  #expCmdSn = 0;
  #next = 0;
  #firstCmdSn = 0;

  constructor(rig: Rig) {
    this.#rig = rig;
  }

  async start(): Promise<void> {
    const first = this.#rig.connect();
    first.login({ MaxConnections: String(CONNECTIONS) });
    await first.ready();
    this.#rig.device.history.length = 0;
    this.#firstCmdSn = first.cmdSn;
    this.#next = first.cmdSn;
    this.#expCmdSn = first.cmdSn;
    this.#maxCmdSn = first.cmdSn + limits.iscsiCommandWindow - 1;
    this.#clients.push(first);
    this.#onTheWay.push([]);
    for (let cid = 1; cid < CONNECTIONS; cid++) {
      const client = this.#rig.connect();
      client.join(first, cid);
      this.#clients.push(client);
      this.#onTheWay.push([]);
    }
  }

  get sent(): number {
    return this.#next - this.#firstCmdSn;
  }

  issue(connection: number, kind: { isWrite: boolean; immediate: boolean }): void {
    if (this.#clients[connection] === undefined || this.#next > this.#maxCmdSn) return;
    const sent = { cmdSn: this.#next, itt: BASE_TAG + this.#next, ...kind };
    this.#next++;
    this.#unanswered.set(sent.itt, { sent, connection });
    this.#onTheWay[connection]!.push(sent);
  }

  /** The oldest PDU of a connection arrives. */
  deliver(connection: number): void {
    const client = this.#clients[connection];
    const pdu = this.#onTheWay[connection]?.shift();
    if (client === undefined || pdu === undefined) return;
    if (typeof pdu === 'function') {
      pdu();
      return;
    }
    const { cmdSn, itt, isWrite, immediate } = pdu;
    const data = pattern(512, itt);
    if (isWrite) {
      client.command(write10(this.#blockOf(itt), 1), { write: 512, cmdSn, itt, ...(immediate ? { data } : {}) });
    } else {
      const header = Buffer.alloc(48);
      header[1] = 0x80;
      header.writeUInt32BE(itt, 16);
      header.writeUInt32BE(0xffff_ffff, 20);
      header.writeUInt32BE(cmdSn, 24);
      client.send(header);
    }
  }

  async collect(): Promise<void> {
    await settled(2);
    for (const [connection, client] of this.#clients.entries()) {
      for (const pdu of client?.pdus() ?? []) this.#take(connection, client!, pdu);
    }
  }

  /** A connection dies; what was not acknowledged is sent again on another one (RFC 7143 7.2.1). */
  async kill(connection: number): Promise<void> {
    const client = this.#clients[connection];
    const other = this.#clients.findIndex((each, index) => each !== undefined && index !== connection);
    if (client === undefined || other < 0) return;
    await this.collect();
    client.stream.destroy();
    this.#clients[connection] = undefined;
    this.#onTheWay[connection] = [];
    await settled(2);
    this.#clients[other]!.nopOut({ itt: 1 });
    await this.collect();
    for (const [itt, { sent, connection: was }] of [...this.#unanswered]) {
      if (was !== connection) continue;
      this.#unanswered.delete(itt);
      if (sent.cmdSn < this.#expCmdSn) continue;
      this.#unanswered.set(itt, { sent, connection: other });
      this.#onTheWay[other]!.push(sent);
    }
  }

  async finish(): Promise<void> {
    for (let round = 0; round < 10; round++) {
      for (const [connection, queue] of this.#onTheWay.entries()) while (queue.length > 0) this.deliver(connection);
      await this.collect();
    }
    assert.equal(this.#unanswered.size, 0, 'everything on a living connection is answered');
    assert.equal(this.#expCmdSn, this.#next);
    assert.equal(this.#maxCmdSn, this.#next + limits.iscsiCommandWindow - 1);
  }

  dataOf(block: number): Buffer {
    return pattern(512, BASE_TAG + this.#firstCmdSn + block);
  }

  #blockOf(itt: number): number {
    return itt - BASE_TAG - this.#firstCmdSn;
  }

  #take(connection: number, client: IscsiClient, { opcode, header }: Pdu): void {
    const itt = header.readUInt32BE(16);
    assert(header.readUInt32BE(32) >= this.#maxCmdSn - limits.iscsiCommandWindow);
    this.#expCmdSn = Math.max(this.#expCmdSn, header.readUInt32BE(28));
    this.#maxCmdSn = Math.max(this.#maxCmdSn, header.readUInt32BE(32));
    if (opcode === 0x31) {
      const ttt = header.readUInt32BE(20);
      this.#onTheWay[connection]!.push(() => client.dataOut(itt, pattern(512, itt), { offset: 0, ttt }));
    } else if (itt >= BASE_TAG) {
      assert.equal(header[3], 0);
      assert.equal(this.#unanswered.get(itt)?.connection, connection, 'answered where it belongs, and once');
      this.#unanswered.delete(itt);
      this.answered++;
      if (opcode === 0x21) this.answeredWrites.add(this.#blockOf(itt));
    }
  }
}

type Event =
  | { readonly kind: 'issue'; readonly connection: number; readonly isWrite: boolean; readonly immediate: boolean }
  | { readonly kind: 'deliver' | 'kill'; readonly connection: number };

describe('a session under any interleaving', () => {
  const connection = fc.nat(CONNECTIONS - 1);
  const issue = fc.record({
    kind: fc.constant('issue' as const),
    connection,
    isWrite: fc.boolean(),
    immediate: fc.boolean(),
  });
  const deliver = fc.record({ kind: fc.constant('deliver' as const), connection });
  const kill = fc.record({ kind: fc.constant('kill' as const), connection });

  async function play(events: readonly Event[]): Promise<{ rig: Rig; initiator: Initiator }> {
    const rig = await createRig();
    const initiator = new Initiator(rig);
    await initiator.start();
    for (const event of events) {
      if (event.kind === 'issue') initiator.issue(event.connection, event);
      else if (event.kind === 'deliver') initiator.deliver(event.connection);
      else await initiator.kill(event.connection);
      if (event.kind === 'deliver' && event.connection === 0) await initiator.collect();
    }
    await initiator.finish();
    assert.equal(rig.volume.iscsi.stats.inflight, 0);
    assert.equal(rig.device.partialWritesOpen, 0);
    return { rig, initiator };
  }

  it('takes commands in the order of CmdSN, each once (RFC 7143 4.2.2.1)', async () => {
    const whole = issue.map((event) => ({ ...event, immediate: true }));
    const events = fc.array(fc.oneof({ weight: 5, arbitrary: whole }, { weight: 4, arbitrary: deliver }), {
      maxLength: 120,
    });
    await fc.assert(
      fc.asyncProperty(events, async (given) => {
        const { rig, initiator } = await play(given);
        const landed = rig.device.history.map(({ offset }) => offset / 512);
        assert.deepEqual(
          landed,
          [...landed].sort((a, b) => a - b),
        );
        assert.equal(new Set(landed).size, landed.length);
        assert.equal(initiator.answered, initiator.sent);
      }),
      { numRuns: 60 },
    );
  });

  it('loses only what a dead connection had been given, and does nothing twice (RFC 7143 4.2.2.3, 7.2.1)', async () => {
    const events = fc.array(
      fc.oneof({ weight: 10, arbitrary: issue }, { weight: 8, arbitrary: deliver }, { weight: 1, arbitrary: kill }),
      { maxLength: 150 },
    );
    await fc.assert(
      fc.asyncProperty(events, async (given) => {
        const { rig, initiator } = await play(given);
        const landed = rig.device.history.map(({ offset }) => offset / 512);
        assert.equal(new Set(landed).size, landed.length, 'nothing landed twice');
        for (const block of landed) {
          const content = rig.device.image.subarray(block * 512, block * 512 + 512);
          assert.deepEqual(Buffer.from(content), initiator.dataOf(block));
        }
        for (const block of initiator.answeredWrites) assert(landed.includes(block), 'what was answered is there');
      }),
      { numRuns: 60 },
    );
  });
});
