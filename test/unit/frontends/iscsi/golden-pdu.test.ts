import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { limits } from '../../../../src/base/limits.js';
import { createRig, INITIATOR, PREFIX, read10, settled, text, write10 } from '../../../fake/iscsi-client.js';
import type { IscsiClient, Rig } from '../../../fake/iscsi-client.js';

/**
 * Every PDU that the target sends, byte by byte against RFC 7143, section 11. Each group of digits is one word of 32
 * bits. StatSN begins at 0 (the login's ExpStatSN), CmdSN at 1; the window is 128.
 */
async function session(
  keys: Record<string, string> = {},
): Promise<{ rig: Rig; client: IscsiClient; sent: () => string[] }> {
  const rig = await createRig();
  const client = rig.connect();
  client.login(keys);
  await client.ready();
  rig.device.image.fill(0xab, 0, 512);
  const sent = (): string[] => {
    const words =
      Buffer.from(client.stream.output())
        .toString('hex')
        .match(/.{1,8}/g) ?? [];
    return words;
  };
  return { rig, client, sent };
}

const words = (layout: string): string[] => layout.trim().split(/\s+/);
const ZERO = '00000000';

describe('PDUs on the wire', () => {
  it('Login Response (11.13)', async () => {
    const client = (await createRig()).connect();
    const keys = { InitiatorName: INITIATOR, TargetName: `${PREFIX}:demo` };
    client.send(client.loginHeader({ flags: 0x87, itt: 0x11223344, cid: 7 }), text(keys));
    const output = Buffer.from(client.stream.output());
    assert.deepEqual(
      output.toString('hex', 0, 48).match(/.{8}/g),
      words(`23870000 00000017 80000000 00010001 11223344 ${ZERO} ${ZERO} 00000001 00000080 ${ZERO} ${ZERO} ${ZERO}`),
    );
    assert.equal(output.toString('latin1', 48), 'TargetPortalGroupTag=1\0\0', 'padded to a word');
  });

  it('a refused Login Response', async () => {
    const client = (await createRig()).connect();
    client.send(client.loginHeader({ flags: 0x87 }), text({ InitiatorName: INITIATOR, TargetName: `${PREFIX}:x` }));
    assert.deepEqual(
      Buffer.from(client.stream.output()).toString('hex').match(/.{8}/g),
      words(`23000000 ${ZERO} 80000000 00010000 00000001 ${ZERO} ${ZERO} 00000001 00000080 02030000 ${ZERO} ${ZERO}`),
    );
  });

  it('SCSI Data-In with status (11.7)', async () => {
    const { client, sent } = await session();
    client.command(read10(0, 1), { read: 512, itt: 0x55 });
    assert.deepEqual(sent(), [
      ...words(
        `25810000 00000200 ${ZERO} ${ZERO} 00000055 ffffffff 00000003 00000004 00000083 ${ZERO} ${ZERO} ${ZERO}`,
      ),
      ...new Array<string>(128).fill('abababab'),
    ]);
  });

  it('SCSI Response, good and with sense data (11.4)', async () => {
    const { client, sent } = await session();
    client.command([0], { itt: 0x55 });
    assert.deepEqual(
      sent(),
      words(`21800000 ${ZERO} ${ZERO} ${ZERO} 00000055 ${ZERO} 00000003 00000004 00000083 ${ZERO} ${ZERO} ${ZERO}`),
    );
    client.command(read10(0xffffff, 1), { read: 512, itt: 0x56 });
    assert.deepEqual(
      sent(),
      words(`21820002 00000014 ${ZERO} ${ZERO} 00000056 ${ZERO} 00000004 00000005 00000084 ${ZERO} ${ZERO} 00000200
             00127000 05000000 000a0000 00002100 00000000`),
    );
  });

  it('R2T (11.8)', async () => {
    const { client, sent } = await session({ MaxBurstLength: '1024', MaxOutstandingR2T: '1' });
    client.command(write10(0, 4), { write: 2048, itt: 0x55, data: Buffer.alloc(512) });
    assert.deepEqual(
      sent(),
      words(`31800000 ${ZERO} ${ZERO} ${ZERO} 00000055 ${ZERO} 00000003 00000004 00000082 ${ZERO} 00000200 00000400`),
    );
  });

  it('NOP-In (11.19)', async () => {
    const { client, sent } = await session();
    client.nopOut({ itt: 0x55, data: Buffer.from('abcde') });
    assert.deepEqual(
      sent(),
      words(`20800000 00000005 ${ZERO} ${ZERO} 00000055 ffffffff 00000003 00000003 00000082 ${ZERO} ${ZERO} ${ZERO}
             61626364 65000000`),
    );
  });

  it('Task Management Response (11.6)', async () => {
    const { client, sent } = await session();
    client.itt = 0x55;
    client.taskManagement(1, { referenced: 0x99 });
    assert.deepEqual(
      sent(),
      words(`22800100 ${ZERO} ${ZERO} ${ZERO} 00000055 ${ZERO} 00000003 00000003 00000082 ${ZERO} ${ZERO} ${ZERO}`),
    );
  });

  it('Text Response (11.11) and Reject (11.17)', async () => {
    const { client, sent } = await session();
    client.itt = 0x55;
    client.text(text({ X: '1' }));
    assert.deepEqual(
      sent(),
      words(`24800000 00000010 ${ZERO} ${ZERO} 00000055 ffffffff 00000003 00000004 00000083 ${ZERO} ${ZERO} ${ZERO}
             583d4e6f 74556e64 65727374 6f6f6400`),
    );
    const snack = Buffer.alloc(48, 0);
    snack.set([0x10, 0x80]);
    client.send(snack);
    assert.deepEqual(
      sent(),
      words(`3f800300 00000030 ${ZERO} ${ZERO} ffffffff ${ZERO} 00000004 00000004 00000083 ${ZERO} ${ZERO} ${ZERO}
             10800000 ${new Array<string>(11).fill(ZERO).join(' ')}`),
    );
  });

  it('Logout Response (11.15)', async () => {
    const { client, sent } = await session();
    client.itt = 0x55;
    client.logout();
    assert.deepEqual(
      sent(),
      words(`26800000 ${ZERO} ${ZERO} ${ZERO} 00000055 ${ZERO} 00000003 00000004 00000083 ${ZERO} 00020014 ${ZERO}`),
    );
    await settled();
  });

  it('Asynchronous Message (11.9)', async () => {
    const { rig, sent } = await session();
    const closed = rig.target.close();
    await settled();
    assert.deepEqual(
      sent(),
      words(`32800000 ${ZERO} ${ZERO} ${ZERO} ffffffff ${ZERO} 00000003 00000003 00000082 01000000 00000003 ${ZERO}`),
    );
    rig.clock.advance(limits.iscsiLogoutMsMax);
    await closed;
  });

  it('digests (RFC 7143 13.1, RFC 3720 B.4)', async () => {
    const { client, sent } = await session({ HeaderDigest: 'CRC32C', DataDigest: 'CRC32C' });
    // RFC 3720 B.4: 32 bytes of zeros have the digest aa36918a.
    client.nopOut({ itt: 0x55, data: Buffer.alloc(32) });
    const output = sent();
    assert.equal(output.length, 12 + 1 + 8 + 1);
    assert.equal(output.at(-1), 'aa36918a');
  });
});
