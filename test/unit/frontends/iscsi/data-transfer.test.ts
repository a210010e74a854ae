import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../../src/base/errors.js';
import { bytes32, createRig, outcome, pattern, read10, settled, write10 } from '../../../fake/iscsi-client.js';
import type { IscsiClient, Rig } from '../../../fake/iscsi-client.js';

const CHECK_CONDITION = 2;

async function ready(keys: Record<string, string> = {}, rig?: Rig): Promise<{ rig: Rig; client: IscsiClient }> {
  const made = rig ?? (await createRig());
  const client = made.connect();
  client.login(keys);
  await client.ready();
  made.device.history.length = 0;
  return { rig: made, client };
}

/** Sends the payload of a write as the session's parameters allow and the target asks, and returns the outcome. */
async function transfer(
  client: IscsiClient,
  payload: Buffer,
  agreed: { immediate: boolean; initialR2T: boolean; firstBurst: number; segment: number },
): Promise<{ outcome: ReturnType<typeof outcome>; r2ts: { offset: number; length: number }[] }> {
  const blocks = payload.length / 512;
  const immediateBytes = agreed.immediate ? Math.min(agreed.firstBurst, agreed.segment, payload.length) : 0;
  const unsolicitedEnd = agreed.initialR2T ? immediateBytes : Math.min(agreed.firstBurst, payload.length);
  const itt = client.command(write10(8, blocks), {
    write: payload.length,
    data: payload.subarray(0, immediateBytes),
    final: unsolicitedEnd === immediateBytes,
  });
  let dataSn = 0;
  for (let at = immediateBytes; at < unsolicitedEnd; at += agreed.segment) {
    const end = Math.min(unsolicitedEnd, at + agreed.segment);
    client.dataOut(itt, payload.subarray(at, end), { offset: at, dataSn: dataSn++, final: end === unsolicitedEnd });
  }
  const r2ts: { offset: number; length: number }[] = [];
  for (;;) {
    await settled();
    const pdus = client.pdus();
    const solicited = pdus.filter((pdu) => pdu.opcode === 0x31);
    for (const { header } of solicited) {
      assert.equal(header.readUInt32BE(16), itt);
      assert.equal(header.readUInt32BE(36), r2ts.length, 'R2TSN');
      const offset = header.readUInt32BE(40);
      const length = header.readUInt32BE(44);
      r2ts.push({ offset, length });
      let sn = 0;
      for (let at = offset; at < offset + length; at += agreed.segment) {
        const end = Math.min(offset + length, at + agreed.segment);
        const final = end === offset + length;
        client.dataOut(itt, payload.subarray(at, end), {
          offset: at,
          ttt: header.readUInt32BE(20),
          dataSn: sn++,
          final,
        });
      }
    }
    if (solicited.length === 0) return { outcome: outcome(pdus, itt), r2ts };
  }
}

describe('data to the device', () => {
  for (const immediate of [true, false]) {
    for (const initialR2T of [true, false]) {
      it(`arrives whole with ImmediateData=${immediate}, InitialR2T=${initialR2T} (RFC 7143 4.2.5.2, 13.10, 13.11)`, async () => {
        const { rig, client } = await ready({
          ImmediateData: immediate ? 'Yes' : 'No',
          InitialR2T: initialR2T ? 'Yes' : 'No',
          FirstBurstLength: '2048',
          MaxBurstLength: '4096',
          MaxOutstandingR2T: '2',
        });
        for (const lengthBytes of [512, 1024, 2048, 2560, 6144, 20_480]) {
          const payload = pattern(lengthBytes, lengthBytes);
          const agreed = { immediate, initialR2T, firstBurst: 2048, segment: 1024 };
          const { outcome: result, r2ts } = await transfer(client, payload, agreed);
          assert.equal(result.status, 0);
          assert.equal(result.residual, 0);
          assert.deepEqual(Buffer.from(rig.device.image.subarray(4096, 4096 + lengthBytes)), payload);
          const unasked = initialR2T ? (immediate ? 1024 : 0) : 2048;
          const asked = r2ts.reduce((sum, { length }) => sum + length, 0);
          assert.equal(asked, Math.max(0, lengthBytes - unasked), 'asked for exactly the rest');
          assert(r2ts.every(({ length }) => length <= 4096));
        }
        assert.equal(rig.device.partialWritesOpen, 0);
      });
    }
  }

  it('arrives whole when the stream is cut at every byte', async () => {
    const payload = pattern(1024);
    for (const digests of [{}, { HeaderDigest: 'CRC32C', DataDigest: 'CRC32C' }]) {
      const { rig, client } = await ready(digests);
      // What the client would send, collected instead of fed.
      const sent: Buffer[] = [];
      const feed = client.stream.feed.bind(client.stream);
      client.stream.feed = (bytes) => void sent.push(Buffer.from(bytes));
      const first = client.command(write10(16, 1), { write: 512, data: payload.subarray(0, 512) });
      const second = client.command(write10(17, 1), { write: 512, data: payload.subarray(512) });
      client.stream.feed = feed;
      const whole = Buffer.concat(sent);
      for (let cut = 1; cut < whole.length; cut++) {
        rig.device.image.fill(0);
        client.stream.feed(whole.subarray(0, cut));
        client.stream.feed(whole.subarray(cut));
        // Only the first time are these numbers the ones expected: after it, the same commands are outside the window.
        await settled(1);
        const pdus = client.pdus();
        assert.equal(outcome(pdus, first).status, 0, `cut at ${cut}`);
        assert.equal(outcome(pdus, second).status, 0, `cut at ${cut}`);
        assert.deepEqual(Buffer.from(rig.device.image.subarray(8192, 9216)), payload, `cut at ${cut}`);
        renumber(whole, client, digests);
      }
    }
  });

  it('asks for several bursts at a time, as many as agreed on (RFC 7143 13.17)', async () => {
    const { client } = await ready({ MaxBurstLength: '512', MaxOutstandingR2T: '3', ImmediateData: 'No' });
    const itt = client.command(write10(0, 5), { write: 2560 });
    const bursts = client.pdus();
    assert.deepEqual(
      bursts.map((pdu) => [pdu.opcode, pdu.header.readUInt32BE(40), pdu.header.readUInt32BE(44)]),
      [0, 512, 1024].map((offset) => [0x31, offset, 512]),
    );
    client.dataOut(itt, pattern(512), { offset: 0, ttt: bursts[0]!.header.readUInt32BE(20) });
    const next = client.one();
    assert.equal(next.header.readUInt32BE(40), 1536);
    assert.equal(next.header.readUInt32BE(36), 3, 'R2TSN goes on');
  });

  it('fails the command alone when a Data-Out is missing, or is too much or too little (RFC 7143 11.4.7.2)', async () => {
    const crcError = [0xb, 0x47, 0x05];
    const incorrectAmount = [0xb, 0x0c, 0x0d];
    const cases = [
      { what: 'DataSN', dataSn: 27, offset: 512, lengthBytes: 512, final: true, sense: crcError },
      { what: 'offset', dataSn: 0, offset: 1024, lengthBytes: 512, final: true, sense: crcError },
      { what: 'too much', dataSn: 0, offset: 512, lengthBytes: 2048, final: true, sense: incorrectAmount },
      { what: 'too little', dataSn: 0, offset: 512, lengthBytes: 4, final: true, sense: incorrectAmount },
    ];
    for (const { what, lengthBytes, sense, ...wrong } of cases) {
      const { rig, client } = await ready({ InitialR2T: 'No', FirstBurstLength: '2048' });
      const itt = client.command(write10(0, 2), { write: 1024, data: pattern(512), final: false });
      client.dataOut(itt, pattern(lengthBytes), wrong);
      assert.deepEqual(outcome(client.pdus(), itt).sense, sense, what);
      assert.equal(rig.device.history.length, 0, 'nothing was written');
      assert.equal(rig.device.partialWritesOpen, 0);
      assert.equal((await client.run(read10(0, 1), { read: 512 })).status, 0, 'the session goes on');
    }
  });

  it('answers a command whose data are damaged once the rest of them has come (RFC 7143 11.4.7.2)', async () => {
    const { client } = await ready({
      InitialR2T: 'No',
      MaxBurstLength: '512',
      MaxOutstandingR2T: '2',
      ImmediateData: 'No',
    });
    const unsolicited = client.command(write10(0, 4), { write: 2048, final: false });
    client.dataOut(unsolicited, pattern(512), { offset: 0, dataSn: 5, final: false });
    assert.deepEqual(client.pdus(), []);
    client.dataOut(unsolicited, pattern(512), { offset: 512, dataSn: 6 });
    assert.deepEqual(outcome(client.pdus(), unsolicited).sense, [0xb, 0x47, 0x05]);
    const solicited = client.command(write10(0, 4), { write: 2048 });
    const [first, second] = client.pdus().map(({ header }) => header.readUInt32BE(20));
    client.dataOut(solicited, pattern(512), { offset: 0, ttt: first!, dataSn: 1 });
    assert.deepEqual(client.pdus(), [], 'the second burst is still to come');
    client.dataOut(solicited, pattern(512), { offset: 512, ttt: second! });
    assert.deepEqual(outcome(client.pdus(), solicited).sense, [0xb, 0x47, 0x05]);
  });

  it('fails the command alone whose data nobody asked for (RFC 7143 11.3.1, 11.4.7.2, 13.10, 13.11, 13.14)', async () => {
    const write = write10(0, 4);
    const cases: readonly (readonly [string, Record<string, string>, (client: IscsiClient) => number])[] = [
      ['more than expected', {}, (client) => client.command(write10(0, 1), { write: 512, data: pattern(516) })],
      ['more than FirstBurstLength', {}, (client) => client.command(write, { write: 2048, data: pattern(2048) })],
      ['immediate', { ImmediateData: 'No' }, (client) => client.command(write, { write: 2048, data: pattern(512) })],
      ['for a read', {}, (client) => client.command(read10(0, 1), { read: 512, data: pattern(512) })],
      ['announced for a read', {}, (client) => client.command(read10(0, 1), { read: 512, final: false })],
      [
        'announced',
        {},
        (client) => {
          const itt = client.command(write, { write: 2048, data: pattern(512), final: false });
          assert.deepEqual(client.pdus(), [], 'the announced data come first');
          client.dataOut(itt, pattern(512), { offset: 512 });
          return itt;
        },
      ],
      [
        'not announced',
        { FirstBurstLength: '1024', MaxBurstLength: '1024' },
        (client) => {
          const itt = client.command(write, { write: 2048 });
          const ttt = client.one().header.readUInt32BE(20);
          client.dataOut(itt, pattern(512), { offset: 0 });
          assert.deepEqual(client.pdus(), [], 'what was asked for comes first');
          client.dataOut(itt, pattern(1024), { offset: 0, ttt });
          return itt;
        },
      ],
    ];
    for (const [what, keys, send] of cases) {
      const { rig, client } = await ready({ InitialR2T: 'Yes', FirstBurstLength: '1024', ...keys });
      const itt = send(client);
      await settled();
      assert.deepEqual(outcome(client.pdus(), itt).sense, [0xb, 0x0c, 0x0c], what);
      assert.equal(rig.device.history.length, 0, 'nothing was written');
      assert.equal(rig.device.partialWritesOpen, 0);
      assert.equal((await client.run(read10(0, 1), { read: 512 })).status, 0, 'the session goes on');
    }
  });

  it('cuts off who invents a transfer (RFC 7143 11.7.4)', async () => {
    const { rig, client } = await ready();
    client.dataOut(client.command(write10(0, 2), { write: 1024 }), pattern(512), { offset: 0, ttt: 5 });
    await settled();
    assert.equal(client.stream.destroyed, true);
    assert.equal(rig.device.partialWritesOpen, 0);
  });

  it('drops data of tasks that are not there (RFC 7143 4.2.2.3)', async () => {
    const { client } = await ready();
    client.dataOut(4711, pattern(512), { offset: 0, ttt: 1 });
    assert.equal((await client.run([0])).status, 0);
  });

  it('drops data of a command that has failed, and answers after the last of them', async () => {
    const { rig, client } = await ready({ InitialR2T: 'No' });
    const beyond = rig.device.sizeBytes / 512;
    const itt = client.command(write10(beyond, 4), { write: 2048, data: pattern(512), final: false });
    assert.deepEqual(client.pdus(), []);
    client.dataOut(itt, pattern(1536), { offset: 512 });
    assert.deepEqual(outcome(client.pdus(), itt).sense, [5, 0x21, 0]);
  });

  it('keeps what comes while the device is not writable, asks for no more, and goes on afterwards', async () => {
    const { rig, client } = await ready({ FirstBurstLength: '1024', InitialR2T: 'No' });
    rig.device.writable = false;
    const payload = pattern(4096);
    const small = client.command(write10(0, 1), { write: 512, data: payload.subarray(0, 512) });
    const large = client.command(write10(8, 8), { write: 4096, data: payload.subarray(0, 512), final: false });
    client.dataOut(large, payload.subarray(512, 1024), { offset: 512 });
    const read = await client.run(read10(0, 1), { read: 512 });
    assert.equal(read.status, 0, 'reads go on');
    client.nopOut();
    assert.equal(client.one().opcode, 0x20, 'and so do pings');
    rig.device.writable = true;
    await settled();
    const pdus = client.pdus();
    assert.equal(outcome(pdus, small).status, 0);
    const r2t = pdus.find((pdu) => pdu.opcode === 0x31);
    assert.equal(r2t?.header.readUInt32BE(40), 1024);
    client.dataOut(large, payload.subarray(1024), { offset: 1024, ttt: r2t.header.readUInt32BE(20) });
    assert.equal(outcome(client.pdus(), large).status, 0);
    assert.deepEqual(Buffer.from(rig.device.image.subarray(4096, 8192)), payload);
  });

  it('takes no memory for a payload that comes in one piece behind its header', async () => {
    const { rig, client } = await ready();
    const feed = client.stream.feed.bind(client.stream);
    let opened = 0;
    const openWrite = rig.device.openWrite.bind(rig.device);
    rig.device.openWrite = (offset, lengthBytes) => {
      opened++;
      return openWrite(offset, lengthBytes);
    };
    for (const cut of [48, 49]) {
      let sent = Buffer.alloc(0);
      client.stream.feed = (bytes) => void (sent = Buffer.from(bytes));
      const itt = client.command(write10(cut, 2), { write: 1024, data: pattern(1024, cut) });
      client.stream.feed = feed;
      feed(sent.subarray(0, cut));
      feed(sent.subarray(cut));
      assert.equal(outcome(client.pdus(), itt).status, 0);
      assert.deepEqual(Buffer.from(rig.device.image.subarray(cut * 512, cut * 512 + 1024)), pattern(1024, cut));
      assert.equal(opened, cut === 48 ? 0 : 1);
    }
  });

  it('never reaches the device with a wrong digest, and ends the connection with a Reject (RFC 7143 7.8, 11.17.1)', async () => {
    for (const cut of [0, 52, 60]) {
      const { rig, client } = await ready({ DataDigest: 'CRC32C', HeaderDigest: 'CRC32C' });
      const feed = client.stream.feed.bind(client.stream);
      let sent = Buffer.alloc(0);
      client.stream.feed = (bytes) => void (sent = Buffer.from(bytes));
      client.command(write10(0, 2), { write: 1024, data: pattern(1024) });
      client.stream.feed = feed;
      sent[100]! ^= 1;
      feed(sent.subarray(0, cut));
      feed(sent.subarray(cut));
      const reject = client.one();
      assert.deepEqual([reject.opcode, reject.header[2]], [0x3f, 0x02]);
      await settled();
      assert.equal(client.stream.destroyed, true);
      assert.deepEqual(rig.device.history, [], `cut at ${cut}`);
      assert.equal(rig.device.partialWritesOpen, 0);
    }
  });

  it('beyond what the command takes is awaited before the answer', async () => {
    const { rig, client } = await ready({ InitialR2T: 'No' });
    const feed = client.stream.feed.bind(client.stream);
    let sent = Buffer.alloc(0);
    client.stream.feed = (bytes) => void (sent = Buffer.from(bytes));
    const itt = client.command(write10(0, 1), { write: 1024, data: pattern(512), final: false });
    client.stream.feed = feed;
    feed(sent.subarray(0, 48));
    feed(sent.subarray(48));
    assert.deepEqual(client.pdus(), []);
    client.dataOut(itt, pattern(512), { offset: 512 });
    const result = outcome(client.pdus(), itt);
    assert.deepEqual([result.status, result.residual], [0, 512]);
    assert.equal(rig.device.history[0]?.lengthBytes, 512);
  });

  it('is asked for only while its memory is within bounds', async () => {
    const { rig, client } = await ready({ ImmediateData: 'No' });
    rig.device.grow(32 * 1024 * 1024);
    await client.run([0]);
    const cdb = [0xaa, 0, ...bytes32(0), ...bytes32(65_536), 0, 0];
    const tags = [0, 1, 2].map(() => client.command(cdb, { write: 33_554_432 }));
    const asked = (): Set<number> =>
      new Set(client.pdus().map((pdu) => (assert.equal(pdu.opcode, 0x31), pdu.header.readUInt32BE(16))));
    assert.deepEqual(asked(), new Set(tags.slice(0, 2)));
    assert.equal(rig.device.partialWritesOpen, 2);
    client.taskManagement(1, { referenced: tags[0]! });
    assert.deepEqual(
      new Set(
        client
          .pdus()
          .filter(({ opcode }) => opcode === 0x31)
          .map(({ header }) => header.readUInt32BE(16)),
      ),
      new Set([tags[2]]),
      'what an abort gives back is used',
    );
  });

  it('waits when the device stops being writable between header and data', async () => {
    const { rig, client } = await ready();
    const feed = client.stream.feed.bind(client.stream);
    let sent = Buffer.alloc(0);
    client.stream.feed = (bytes) => void (sent = Buffer.from(bytes));
    const itt = client.command(write10(0, 2), { write: 1024, data: pattern(1024) });
    client.stream.feed = feed;
    feed(sent.subarray(0, 48));
    rig.device.writable = false;
    feed(sent.subarray(48, 500));
    feed(sent.subarray(500));
    assert.deepEqual(client.pdus(), []);
    rig.device.writable = true;
    await settled();
    assert.equal(outcome(client.pdus(), itt).status, 0);
    assert.deepEqual(Buffer.from(rig.device.image.subarray(0, 1024)), pattern(1024));
  });

  it('of a WRITE SAME under way stops when that is aborted', async () => {
    const { rig, client } = await ready();
    rig.device.writable = false;
    const cdb = [0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...bytes32(2048), 0, 0];
    const itt = client.command(cdb, { write: 512, data: Buffer.alloc(512, 1) });
    client.taskManagement(1, { referenced: itt });
    assert.equal(client.one().header[2], 0);
    rig.device.writable = true;
    await settled();
    assert.deepEqual(rig.device.history, []);
    assert.deepEqual(client.pdus(), []);
    assert.equal(rig.target.connections[0]?.inflight, 0);
  });

  it('is abandoned when the connection dies before it is whole', async () => {
    const { rig, client } = await ready();
    client.command(write10(0, 8), { write: 4096, data: pattern(512) });
    assert.equal(rig.device.partialWritesOpen, 1);
    client.stream.destroy();
    await settled();
    assert.equal(rig.device.partialWritesOpen, 0);
    assert.equal(rig.device.partialWritesAbandoned, 1);
    assert.equal(rig.device.history.length, 0);
  });

  it('goes with FUA where the command or the caching page says so', async () => {
    const { rig, client } = await ready();
    await client.run(write10(0, 1, 0x08), { write: 512, data: pattern(512) });
    await client.run(write10(0, 1), { write: 512, data: pattern(512) });
    const writes = rig.device.history.filter(({ op }) => op === 'write');
    assert.deepEqual(
      writes.map(({ forceUnitAccess }) => forceUnitAccess),
      [true, false],
    );
  });

  it('commits once per wake-up', async () => {
    const { rig, client } = await ready();
    const feed = client.stream.feed.bind(client.stream);
    const sent: Buffer[] = [];
    client.stream.feed = (bytes) => void sent.push(Buffer.from(bytes));
    const tags = [0, 1, 2, 3].map((lba) => client.command(write10(lba, 1), { write: 512, data: pattern(512) }));
    client.stream.feed = feed;
    const { commits } = rig.device;
    const { writes } = client.stream;
    client.stream.feed(Buffer.concat(sent));
    assert.equal(rig.device.commits, commits + 1);
    assert.equal(client.stream.writes, writes + 1, 'and writes to the stream once');
    const pdus = client.pdus();
    for (const tag of tags) assert.equal(outcome(pdus, tag).status, 0);
  });

  it('reports what the device refuses', async () => {
    const { rig, client } = await ready();
    rig.device.failNext('write', new GatewayError('disk-full', 'full'));
    const full = await client.run(write10(0, 1), { write: 512, data: pattern(512) });
    assert.equal(full.status, CHECK_CONDITION);
    assert.deepEqual(full.sense, [7, 0x27, 7]);
    rig.device.close();
    const closed = await client.run(write10(0, 1), { write: 512, data: pattern(512) });
    assert.equal(closed.status, 8, 'BUSY');
    const split = await client.run(write10(0, 4), { write: 2048, data: pattern(512) });
    assert.equal(split.status, 8);
  });
});

/** Gives both commands in `bytes` the next numbers, and their digests. */
function renumber(bytes: Buffer, client: IscsiClient, digests: Record<string, string>): void {
  const one = bytes.length / 2;
  for (let index = 0; index < 2; index++) {
    const header = Buffer.from(bytes.subarray(index * one, index * one + 48));
    header.writeUInt32BE(client.cmdSn++, 24);
    const dataAt = index * one + (digests['HeaderDigest'] === undefined ? 48 : 52);
    client.encode(header, Buffer.from(bytes.subarray(dataAt, dataAt + 512))).copy(bytes, index * one);
  }
}
