import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { createRig, INITIATOR, outcome, pattern, PREFIX, read10, settled, text } from '../../../fake/iscsi-client.js';
import type { Rig } from '../../../fake/iscsi-client.js';
import { IscsiClient } from '../../../fake/iscsi-client.js';
import { MemoryDevice, MemoryVolume } from '../../../fake/memory-device.js';
import { localPeer } from '../../../fake/memory-stream.js';

/** Whether a well-behaved session is still served, and nothing is left of the malformed one. */
async function checkUnharmed(rig: Rig, witness: IscsiClient): Promise<void> {
  const itt = witness.command(read10(0, 1), { read: 512 });
  await settled(1);
  assert.equal(outcome(witness.pdus(), itt).status, 0);
  assert.equal(rig.device.partialWritesOpen, 0);
}

async function shared(): Promise<{ rig: Rig; witness: IscsiClient }> {
  const volume = new MemoryVolume(new MemoryDevice({ sizeBytes: 64 * 1024, keepHistory: false }), { shared: true });
  const rig = await createRig({ volume, device: volume.device });
  const witness = rig.connect();
  witness.isid = '80000000ffff';
  witness.login();
  await witness.ready();
  return { rig, witness };
}

describe('malformed bytes', () => {
  it('before a login end that connection only', async () => {
    const { rig, witness } = await shared();
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 600 }), async (bytes) => {
        const client = rig.connect();
        client.stream.feed(bytes);
        client.stream.destroy();
        await settled(1);
        await checkUnharmed(rig, witness);
      }),
      { numRuns: 150 },
    );
  });

  it('in a login request are answered with a status or not at all', async () => {
    const { rig, witness } = await shared();
    const good = text({
      InitiatorName: INITIATOR,
      TargetName: `${PREFIX}:demo`,
      SessionType: 'Normal',
      MaxBurstLength: '65536',
    });
    const change = fc.tuple(fc.nat(47 + good.length), fc.nat(255));
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 6 }), async (changes) => {
        const client = rig.connect();
        const bytes = client.encode(client.loginHeader({ flags: 0x87 }), good);
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        client.stream.feed(bytes);
        for (const pdu of client.pdus()) assert.equal(pdu.opcode, 0x23);
        client.stream.destroy();
        await settled(1);
        await checkUnharmed(rig, witness);
      }),
      { numRuns: 300 },
    );
  });

  it('in a session end at most that session, and write nothing outside of the volume', async () => {
    const opcode = fc.constantFrom(0x00, 0x01, 0x41, 0x02, 0x42, 0x04, 0x05, 0x06, 0x10, 0x3f);
    const header = fc.tuple(opcode, fc.uint8Array({ minLength: 47, maxLength: 47 }), fc.uint8Array({ maxLength: 64 }));
    const cdb = fc.constantFrom(0x00, 0x12, 0x28, 0x2a, 0x42, 0x41, 0x93, 0x55, 0x5a, 0x9e, 0xa0, 0x88, 0x8a, 0xff);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(header, cdb, fc.boolean()), { maxLength: 8 }), async (sent) => {
        const { rig, witness } = await shared();
        const client = rig.connect();
        client.login({ InitialR2T: 'No' });
        await client.run([0]);
        for (const [[code, rest, data], command, inOrder] of sent) {
          const bytes = Buffer.concat([Buffer.from([code]), rest]);
          bytes[4] = 0;
          bytes.fill(0, 8, 16);
          if (inOrder) bytes.writeUInt32BE(client.cmdSn++, 24);
          bytes[32] = command;
          client.send(bytes, data);
        }
        await settled(2);
        client.stream.destroy();
        await settled(1);
        assert.equal(rig.device.partialWritesOpen, 0);
        // Resets and changed modes are unit attentions for the others; only a cold reset ends their sessions.
        if (witness.stream.destroyed) return;
        while ((await witness.run([0])).status !== 0) assert.equal(witness.stream.destroyed, false);
        await checkUnharmed(rig, witness);
      }),
      { numRuns: 300 },
    );
  });

  it('from a peer that is cut off are a line in the log with its address', async () => {
    const { rig } = await shared();
    const client = rig.connect();
    client.login();
    client.dataOut(1, pattern(4), { offset: 0 });
    client.command([0], { cmdSn: client.cmdSn + 5 });
    await settled();
    assert.equal(client.stream.destroyed, true);
    assert(rig.log.lines.includes('warn a connection was cut off'));
    assert.equal(localPeer.kind, 'tcp');
  });
});
