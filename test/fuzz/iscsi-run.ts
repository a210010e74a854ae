/** Runs a case against a target over volumes in memory, and judges every answer; afterwards a well-behaved initiator is served. */
import { strict as assert } from 'node:assert';
import { createRig, INITIATOR, pattern, read10, write10 } from '../fake/iscsi-client.js';
import type { IscsiClient, Outcome, Pdu, Rig } from '../fake/iscsi-client.js';
import { MemoryDevice, MemoryVolume } from '../fake/memory-device.js';
import { settled } from '../fake/memory-stream.js';
import { action, outCdb, outList } from '../fake/reserve-out.js';
import { IscsiJudge, unnumbered } from './iscsi-judge.js';
import type { Case, PduStep, Step } from './iscsi-case.js';

const VOLUME_BYTES = 1024 * 1024;
const NO_TAG = 0xffffffff;
const RESERVATION_CONFLICT = 0x18;
const LOGICAL_UNIT_RESET = 5;
const UNIT_ATTENTION = 6;
/** More than there are conditions that a unit keeps for an initiator. */
const ATTENTIONS_MAX = 16;

class Peer {
  readonly judge = new IscsiJudge();
  private readonly client: IscsiClient;
  private r2t: { readonly tag: number; readonly transferTag: number; readonly offset: number } | undefined;
  private lastTag = NO_TAG;
  private pingTag = NO_TAG;
  private loginPhase = true;

  constructor(client: IscsiClient) {
    this.client = client;
  }

  async send(step: PduStep): Promise<void> {
    const { client } = this;
    const header = Buffer.from(step.header, 'hex');
    const opcode = header[0]! & 0x3f;
    const isImmediate = (header[0]! & 0x40) !== 0;
    if (step.cmdSnOff !== undefined && opcode !== 0x05) header.writeUInt32BE((client.cmdSn + step.cmdSnOff) >>> 0, 24);
    if (step.answersR2t === true && this.r2t !== undefined) {
      header.writeUInt32BE(this.r2t.tag, 16);
      header.writeUInt32BE(this.r2t.transferTag, 20);
      if (header.readUInt32BE(40) === 0) header.writeUInt32BE(this.r2t.offset, 40);
    }
    if (step.refersToLast === true) header.writeUInt32BE(this.lastTag, 20);
    if (opcode === 0x01) this.lastTag = header.readUInt32BE(16);
    if (step.answersPing === true) header.writeUInt32BE(this.pingTag, 20);
    const data =
      typeof step.data === 'string' ? Buffer.from(step.data) : Buffer.alloc(step.data.bytes, step.data.value);
    const bytes = this.layOut(step, header, data);
    this.judge.sent(header);
    const isNumbered = !isImmediate && opcode < 0x20 && !unnumbered.has(opcode) && !this.loginPhase;
    if (step.cmdSnOff === 0 && isNumbered) client.cmdSn = (client.cmdSn + 1) >>> 0;
    let from = 0;
    for (const cut of [...new Set(step.cuts)].sort((left, right) => left - right)) {
      if (cut <= from || cut >= bytes.length) continue;
      client.stream.feed(bytes.subarray(from, cut));
      await settled(1);
      from = cut;
    }
    client.stream.feed(bytes.subarray(from));
    this.look();
  }

  private layOut(step: PduStep, header: Buffer, data: Buffer): Buffer {
    const { client } = this;
    const ahs = Buffer.from(step.ahs ?? '', 'hex');
    header[4] = ahs.length / 4;
    const whole = Buffer.concat([header, ahs]);
    const bytes = client.encode(whole, data);
    if (step.dataLength !== undefined) bytes.writeUIntBE(step.dataLength, 5, 3);
    if (step.wrongDigest === 'header' && client.headerDigest) bytes[whole.length]! ^= 1;
    if (step.wrongDigest === 'data' && client.dataDigest && data.length > 0) bytes[bytes.length - 1]! ^= 1;
    return bytes;
  }

  /** Takes and judges what has come. */
  look(): void {
    for (const pdu of this.client.pdus()) {
      this.judge.received(pdu);
      this.note(pdu);
    }
  }

  private note({ opcode, header, flags, data }: Pdu): void {
    if (opcode === 0x31) {
      this.r2t = {
        tag: header.readUInt32BE(16),
        transferTag: header.readUInt32BE(20),
        offset: header.readUInt32BE(40),
      };
    }
    if (opcode === 0x20 && header.readUInt32BE(16) === NO_TAG) this.pingTag = header.readUInt32BE(20);
    if (opcode !== 0x23 || header.readUInt16BE(36) !== 0) return;
    const text = data.toString();
    if (text.includes('HeaderDigest=CRC32C\0')) this.headerDigestAgreed = true;
    if (text.includes('DataDigest=CRC32C\0')) this.dataDigestAgreed = true;
    if ((flags & 0x83) !== 0x83) return;
    this.loginPhase = false;
    this.client.headerDigest = this.headerDigestAgreed;
    this.client.dataDigest = this.dataDigestAgreed;
  }

  private headerDigestAgreed = false;
  private dataDigestAgreed = false;

  stall(stalled: boolean): void {
    if (stalled) this.client.stream.stalled = true;
    else this.client.stream.take();
    this.look();
  }

  close(): void {
    this.client.stream.take();
    this.client.stream.feedEnd();
    this.look();
  }

  destroy(): void {
    this.client.stream.destroy();
  }
}

/** What the case made the target do, in words. Throws what the target did wrong. */
export async function runIscsiCase(steps: Case): Promise<readonly string[]> {
  const device = new MemoryDevice({ sizeBytes: VOLUME_BYTES, keepHistory: false });
  const rig = await createRig({ device, volume: new MemoryVolume(device) });
  const peers = new Map<number, Peer>();
  for (const step of steps) await runStep(rig, device, peers, step);
  await settled();
  release(device);
  await settled();
  for (const peer of peers.values()) peer.close();
  await settled();
  for (const peer of peers.values()) peer.destroy();
  await settled();
  assert.equal(rig.target.connections.length, 0, 'connections whose peer is gone are gone');
  assert.equal(device.partialWritesOpen, 0, 'no write stays open');
  await serveAfterwards(rig);
  return [...peers.values()].flatMap((peer) => peer.judge.seen);
}

async function runStep(rig: Rig, device: MemoryDevice, peers: Map<number, Peer>, step: Step): Promise<void> {
  if (step.kind === 'settle') {
    await settled(2);
    release(device);
    await settled(2);
    for (const peer of peers.values()) peer.look();
  } else if (step.kind === 'hold') {
    device.holdReads = true;
    device.holdFlushes = true;
  } else if (step.kind === 'wait') {
    rig.clock.advance(step.ms);
    await settled(1);
  } else if (step.kind === 'pdu') {
    let peer = peers.get(step.connection);
    if (peer === undefined) {
      peer = new Peer(rig.connect());
      peers.set(step.connection, peer);
    }
    await peer.send(step);
  } else if (step.kind === 'close') peers.get(step.connection)?.close();
  else peers.get(step.connection)?.stall(step.kind === 'stall');
}

function release(device: MemoryDevice): void {
  device.holdReads = false;
  device.holdFlushes = false;
  for (const held of [...device.heldReads.splice(0), ...device.heldFlushes.splice(0)]) held.release();
}

/** Nothing that a hostile initiator did keeps another one out, once that has taken what it may take. */
async function serveAfterwards(rig: Rig): Promise<void> {
  const client = rig.connect();
  client.isid = '80000000ffff';
  client.login({ InitiatorName: INITIATOR });
  await settled();
  await takeAttentions(client);
  // A persistent reservation that the case left is a right of its initiator, which another one may clear (SPC-4 5.13.11.6).
  const block = pattern(512);
  const write = (): Promise<Outcome> => client.run(write10(0, 1), { write: 512, data: block });
  if ((await write()).status === RESERVATION_CONFLICT) await clearReservations(client);
  // Modes, software write protection among them, are as at the beginning after a reset (SAM-5 6.3.3).
  client.taskManagement(LOGICAL_UNIT_RESET);
  await settled();
  assert.equal(client.one().header[2], 0, 'a reset is complete');
  await takeAttentions(client);
  const { status: written } = await write();
  assert.equal(written, 0, `a well-behaved initiator writes, with status ${written}`);
  const { status, data } = await client.run(read10(0, 1), { read: 512 });
  assert.equal(status, 0, `a well-behaved initiator reads, with status ${status}`);
  assert.deepEqual(data, block, 'and reads what it wrote');
  client.stream.destroy();
  await settled();
}

/** There is an end to what an initiator has to be told, and all of it is unit attentions. */
async function takeAttentions(client: IscsiClient): Promise<void> {
  for (let count = 0; count <= ATTENTIONS_MAX; count++) {
    client.command([0]);
    await settled();
    const { header, data } = client.one();
    if (header[3] === 0) return;
    assert.equal(header[3], 2, `a unit is ready, or says why not, not ${header[3]}`);
    const isFixed = (data[2]! & 0x7f) === 0x70;
    assert.equal(data[isFixed ? 4 : 3]! & 0x0f, UNIT_ATTENTION, 'what a new initiator is told first');
  }
  assert.fail('an initiator is told no end of unit attentions');
}

async function clearReservations(client: IscsiClient): Promise<void> {
  const key = 0x6b6579n;
  for (const [service, fields] of [
    [action.registerAndIgnore, { actionKey: key }],
    [action.clear, { key }],
  ] as const) {
    const list = outList(fields);
    const { status } = await client.run(outCdb(service, 0, list.length), { write: list.length, data: list });
    assert.equal(status, 0, `whoever registers clears what is reserved, with status ${status}`);
  }
}
