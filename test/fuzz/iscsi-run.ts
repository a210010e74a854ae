/** Runs a case against a target over volumes in memory, and judges every answer; afterwards a well-behaved initiator is served. */
import { strict as assert } from 'node:assert';
import { createRig, INITIATOR, read10 } from '../fake/iscsi-client.js';
import type { IscsiClient, Pdu, Rig } from '../fake/iscsi-client.js';
import { MemoryDevice, MemoryVolume } from '../fake/memory-device.js';
import { settled } from '../fake/memory-stream.js';
import { IscsiJudge } from './iscsi-judge.js';
import type { Case, PduStep, Step } from './iscsi-case.js';

const VOLUME_BYTES = 1024 * 1024;
const NO_TAG = 0xffffffff;
/** Login, Data-Out and SNACK Requests: the first is always immediate, the others have no CmdSN (11.12, 11.7, 11.16). */
const unnumbered: readonly number[] = [0x03, 0x05, 0x10];

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
    const isNumbered = !isImmediate && opcode < 0x20 && !unnumbered.includes(opcode) && !this.loginPhase;
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

/** Nothing that a hostile initiator did keeps another one out. */
async function serveAfterwards(rig: Rig): Promise<void> {
  const client = rig.connect();
  client.isid = '80000000ffff';
  client.login({ InitiatorName: INITIATOR });
  await settled();
  for (let attempt = 0; attempt < 12; attempt++) {
    if ((await client.run([0])).status === 0) break;
  }
  const { status } = await client.run(read10(0, 1), { read: 512 });
  // A reservation that the case left is a right of its initiator; a sanitize operation goes on.
  assert.ok(status === 0 || status === 0x18 || status === 0x02, `a well-behaved initiator is served, not ${status}`);
  client.stream.destroy();
  await settled();
}
