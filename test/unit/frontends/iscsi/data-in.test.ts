import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../../src/base/errors.js';
import { bytes32, createRig, NO_TAG, outcome, pattern, read10, settled, write10 } from '../../../fake/iscsi-client.js';
import type { IscsiClient, Rig } from '../../../fake/iscsi-client.js';

async function ready(keys: Record<string, string> = {}, rig?: Rig): Promise<{ rig: Rig; client: IscsiClient }> {
  const made = rig ?? (await createRig());
  const client = made.connect();
  client.login(keys);
  await client.ready();
  made.device.history.length = 0;
  return { rig: made, client };
}

describe('data from the device', () => {
  it('comes in segments that the initiator takes, with its status in the last (RFC 7143 11.7.2, 13.12)', async () => {
    const { rig, client } = await ready({ MaxRecvDataSegmentLength: '1024', MaxBurstLength: '2048' });
    rig.device.image.set(pattern(8192));
    const itt = client.command(read10(1, 9), { read: 4608 });
    const pdus = client.pdus();
    assert.deepEqual(
      pdus.map(({ opcode, flags, data, header }) => [opcode, flags, data.length, header.readUInt32BE(36)]),
      [
        [0x25, 0x00, 1024, 0],
        [0x25, 0x80, 1024, 1],
        [0x25, 0x00, 1024, 2],
        [0x25, 0x80, 1024, 3],
        [0x25, 0x81, 512, 4],
      ],
    );
    assert.deepEqual(outcome(pdus, itt).data, pattern(8192).subarray(512, 5120));
  });

  it('comes in order of completion when the device takes its time, each command in order of offset', async () => {
    const { rig, client } = await ready({ MaxRecvDataSegmentLength: '1024' });
    rig.device.image.set(pattern(65_536));
    rig.device.holdReads = true;
    const slow = client.command(read10(0, 4), { read: 2048 });
    const quick = client.command(read10(8, 1), { read: 512 });
    assert.deepEqual(client.pdus(), []);
    const [first, second] = rig.device.heldReads.splice(0);
    second!.release();
    await settled();
    assert.deepEqual(outcome(client.pdus(), quick).data, pattern(65_536).subarray(4096, 4608));
    first!.release();
    rig.device.heldReads.splice(0)[0]!.release();
    await settled();
    assert.deepEqual(outcome(client.pdus(), slow).data, pattern(65_536).subarray(0, 2048));
  });

  it('ends a burst where it ends, whatever a segment takes (RFC 7143 11.7.1, 13.13)', async () => {
    const { client } = await ready({ MaxRecvDataSegmentLength: '1536', MaxBurstLength: '2048' });
    client.command(read10(0, 8), { read: 4096 });
    assert.deepEqual(
      client.pdus().map(({ flags, data }) => [flags, data.length]),
      [
        [0x00, 1536],
        [0x80, 512],
        [0x00, 1536],
        [0x81, 512],
      ],
    );
  });

  it('is sent in the order of StatSN, copied or not (RFC 7143 4.2.2.2)', async () => {
    const { rig, client } = await ready();
    rig.device.holdReads = true;
    client.command(read10(0, 1), { read: 512 });
    client.command(read10(0, 64), { read: 32_768 });
    client.command(read10(0, 1), { read: 512 });
    for (const held of rig.device.heldReads.splice(0)) held.release();
    await settled();
    const numbers = client.pdus().map(({ header }) => header.readUInt32BE(24));
    assert.deepEqual(numbers, [numbers[0], numbers[0]! + 1, numbers[0]! + 2]);
  });

  it('waits for a peer that does not read, and then goes on', async () => {
    const rig = await createRig();
    const { client } = await ready({}, rig);
    rig.device.grow(48 * 1024 * 1024);
    client.stream.stalled = true;
    const tags = [0, 1, 2].map(() =>
      client.command([0xa8, 0, ...bytes32(0), ...bytes32(16_384), 0, 0], { read: 8_388_608 }),
    );
    assert(client.stream.pendingBytes < 8 * 1024 * 1024, 'not more than a part of it is in memory');
    while (client.stream.pendingBytes > 0) {
      client.stream.take();
      await settled(1);
    }
    // The capacity has grown: the first of them is told so.
    const pdus = client.pdus();
    assert.deepEqual(outcome(pdus, tags[0]!).sense, [6, 0x2a, 9]);
    for (const tag of tags.slice(1)) assert.equal(outcome(pdus, tag).data.length, 8_388_608);
  });

  it('is not sent for a command that was aborted while it waited for the peer', async () => {
    const { rig, client } = await ready();
    rig.device.grow(16 * 1024 * 1024);
    await client.run([0]);
    client.stream.stalled = true;
    const itt = client.command([0xa8, 0, ...bytes32(0), ...bytes32(32_768), 0, 0], { read: 16_777_216 });
    client.taskManagement(1, { referenced: itt });
    while (client.stream.pendingBytes > 0) {
      client.stream.take();
      await settled(1);
    }
    const pdus = client.pdus();
    assert.equal(pdus.at(-1)?.opcode, 0x22);
    assert.equal(pdus.at(-1)?.header[2], 0);
    assert.equal(
      pdus.some(({ opcode, flags }) => opcode === 0x25 && (flags & 1) !== 0),
      false,
      'no status',
    );
    assert.equal((await client.run(read10(0, 1), { read: 512 })).status, 0);
  });

  it('becomes sense data where it fails', async () => {
    const { rig, client } = await ready();
    rig.device.failNext('read', new GatewayError('checksum-mismatch', 'rot'));
    const rotten = await client.run(read10(0, 1), { read: 512 });
    assert.deepEqual(rotten.sense, [3, 0x11, 0]);
    assert.equal(rotten.residual, 512);
  });

  it('counts what was too much and what was too little (RFC 7143 11.4.5)', async () => {
    const { rig, client } = await ready();
    rig.device.image.set(pattern(8192));
    const over = await client.run(read10(0, 2), { read: 512 });
    assert.deepEqual([over.status, over.flags & 0x06, over.residual, over.data.length], [0, 0x04, 512, 512]);
    const under = await client.run(read10(0, 1), { read: 2048 });
    assert.deepEqual([under.status, under.flags & 0x06, under.residual, under.data.length], [0, 0x02, 1536, 512]);
    const none = await client.run(read10(0, 1), {});
    assert.deepEqual([none.status, none.flags & 0x06, none.residual, none.data.length], [0, 0x04, 512, 0]);
    const short = await client.run(write10(0, 2), { write: 512, data: Buffer.alloc(512, 1) });
    assert.deepEqual([short.status, short.flags & 0x06, short.residual], [0, 0x04, 512]);
    assert.equal(rig.device.image[511], 1);
    assert.equal(rig.device.image[512], pattern(8192)[512], 'only what came is written');
    const long = await client.run(write10(0, 1), { write: 1024, data: Buffer.alloc(1024, 2) });
    assert.deepEqual([long.status, long.flags & 0x06, long.residual], [0, 0x02, 512]);
    assert.equal(rig.device.image[512], pattern(8192)[512], 'only what the command says is written');
  });

  it('is that of no bidirectional command, which is refused with both residual counts (RFC 7143 11.3.1, 11.4.5)', async () => {
    const { rig, client } = await ready({ InitialR2T: 'No', FirstBurstLength: '1024' });
    // An extended CDB of 2 bytes, which is passed over, then a Bidirectional Read Expected Data Transfer Length.
    const ahs = Buffer.from([0, 3, 1, 0, 0xaa, 0xbb, 0, 0, 0, 5, 2, 0, 0, 0, 0x20, 0]);
    const itt = client.command(write10(0, 4), { write: 2048, read: 2048, data: pattern(512), final: false, ahs });
    assert.deepEqual(client.pdus(), [], 'its unsolicited data come first');
    client.dataOut(itt, pattern(512), { offset: 512 });
    await settled();
    const response = client.one();
    assert.deepEqual(outcome([response], itt).sense, [5, 0x0e, 0x03]);
    assert.equal(response.flags, 0x80 | 0x08 | 0x02, 'underflow both ways');
    assert.deepEqual([response.header.readUInt32BE(40), response.header.readUInt32BE(44)], [0x2000, 2048]);
    assert.deepEqual(rig.device.history, []);
    const without = await client.run(write10(0, 1), { write: 512, read: 512, data: pattern(512) });
    assert.deepEqual([without.sense, without.flags], [[5, 0x0e, 0x03], 0x82], 'no length, no residual');
    assert.equal((await client.run(read10(0, 1), { read: 512 })).status, 0, 'the session goes on');
  });

  it('carries an unsolicited tag where none is meant (RFC 7143 11.7.4)', async () => {
    const { client } = await ready();
    client.command(read10(0, 1), { read: 512 });
    assert.equal(client.one().header.readUInt32BE(20), NO_TAG);
  });
});
