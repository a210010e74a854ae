import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { limits } from '../../../../src/base/limits.js';
import { createRig, NO_TAG, outcome, read10 } from '../../../fake/iscsi-client.js';
import type { IscsiClient, Pdu, Rig } from '../../../fake/iscsi-client.js';
import { settled } from '../../../fake/memory-stream.js';

const NOP_IN = 0x20;
const ASYNC = 0x32;

async function ready(): Promise<{ rig: Rig; client: IscsiClient }> {
  const rig = await createRig();
  const client = rig.connect();
  client.login({ MaxConnections: '8' });
  await client.ready();
  return { rig, client };
}

/** Until it is noticed: what was received since the last look counts once. */
async function fallSilent(rig: Rig): Promise<void> {
  rig.clock.advance(limits.iscsiPingIdleMs);
  rig.clock.advance(limits.iscsiPingIdleMs);
  await settled();
}

describe('a silent initiator', () => {
  it('is asked for a sign of life, and kept when it gives one (RFC 7143 11.19)', async () => {
    const { rig, client } = await ready();
    for (let round = 0; round < 3; round++) {
      // The last answer is noticed where the next would have been missed.
      if (round > 0) rig.clock.advance(limits.iscsiPingMsMax);
      await fallSilent(rig);
      const ping = client.one();
      assert.deepEqual([ping.opcode, ping.header.readUInt32BE(16)], [NOP_IN, NO_TAG]);
      client.nopOut({ itt: NO_TAG, ttt: ping.header.readUInt32BE(20) });
    }
    assert.equal(client.stream.destroyed, false);
  });

  it('is not asked while it sends', async () => {
    const { rig, client } = await ready();
    for (let round = 0; round < 5; round++) {
      rig.clock.advance(limits.iscsiPingIdleMs);
      assert.equal((await client.run([0])).status, 0);
    }
  });

  it('is cut off when it does not answer in time, and its volume is free', async () => {
    const { rig, client } = await ready();
    await fallSilent(rig);
    assert.equal(client.one().opcode, NOP_IN);
    rig.clock.advance(limits.iscsiPingMsMax - 1);
    assert.equal(client.stream.destroyed, false);
    rig.clock.advance(1);
    await settled();
    assert.equal(client.stream.destroyed, true);
    assert.equal(rig.volume.holders.length, 0);
  });

  it('that takes what it is sent, but slowly, is not', async () => {
    const { rig, client } = await ready();
    client.stream.stalled = true;
    // More than is ever queued for it: then nothing further is read from it either.
    for (let count = 0; count < 8; count++) client.command(read10(0, 2048), { read: 1024 * 1024 });
    for (let round = 0; round < 4; round++) {
      client.stream.take();
      client.stream.stalled = true;
      for (let count = 0; count < 8; count++) client.command(read10(0, 2048), { read: 1024 * 1024 });
      await settled();
      rig.clock.advance(limits.iscsiPingIdleMs);
    }
    assert.equal(client.stream.destroyed, false);
  });

  it('of a discovery session is cut off without being asked (RFC 7143 4.3)', async () => {
    const rig = await createRig();
    const client = rig.connect();
    client.discover();
    await fallSilent(rig);
    assert.deepEqual(client.pdus(), []);
    rig.clock.advance(limits.iscsiPingMsMax);
    await settled();
    assert.equal(client.stream.destroyed, true);
  });
});

describe('the end of the target', () => {
  const requested = (pdu: Pdu): number[] => [pdu.opcode, pdu.header[36]!, pdu.header.readUInt16BE(42)];

  it('asks for a logout on every connection, and waits for it (RFC 7143 11.9.1)', async () => {
    const { rig, client } = await ready();
    const second = rig.connect();
    second.join(client, 1);
    const closed = rig.target.close();
    await settled();
    for (const each of [client, second]) {
      const pdu = each.one();
      assert.deepEqual(requested(pdu), [ASYNC, 1, limits.iscsiLogoutMsMax / 1000]);
      assert.equal(pdu.header.readUInt32BE(16), NO_TAG);
      assert.equal(pdu.flags, 0x80);
    }
    assert.equal((await second.run([0])).status, 0, 'what still comes is served');
    second.logout(0, 1);
    await closed;
    assert.equal(second.one().opcode, 0x26);
    assert.deepEqual([client.stream.finished, second.stream.finished], [true, true]);
  });

  it('comes without a logout after that time, once commands under way are answered (RFC 7143 11.9.1)', async () => {
    const { rig, client } = await ready();
    rig.device.holdReads = true;
    const itt = client.command(read10(0, 1), { read: 512 });
    const closed = rig.target.close();
    await settled();
    assert.equal(client.one().opcode, ASYNC);
    rig.clock.advance(limits.iscsiLogoutMsMax);
    await settled();
    assert.equal(client.stream.destroyed, false);
    client.command([0]);
    rig.device.heldReads[0]!.release();
    await closed;
    const pdus = client.pdus();
    assert.equal(pdus.length, 1, 'no new command is taken');
    assert.equal(outcome(pdus, itt).status, 0);
    assert.equal(rig.streams.connect(), undefined);
  });

  it('cuts off whose commands do not end in time', async () => {
    const { rig, client } = await ready();
    rig.device.holdReads = true;
    client.command(read10(0, 1), { read: 512 });
    const closed = rig.target.close();
    await settled();
    rig.clock.advance(limits.shutdownMsMax / 2);
    await closed;
    assert.equal(client.stream.destroyed, true);
  });

  it('asks nobody who is still logging in, or only discovers', async () => {
    const rig = await createRig();
    const discovering = rig.connect();
    discovering.discover();
    const entering = rig.connect();
    await rig.target.close();
    assert.deepEqual([...discovering.pdus(), ...entering.pdus()], []);
    assert.deepEqual([discovering.stream.destroyed, entering.stream.destroyed], [true, true]);
  });
});
