/** Reservations of a whole gateway: what survives its end, what NBD is left, and what a damaged record means. */
import assert from 'node:assert/strict';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { IscsiClient, ScsiStatusError } from '../../crash/iscsi-client.js';
import { CMD, E, NbdClient } from '../../fake/nbd-client.js';
import { action, flag, inCdb, outCdb, outList } from '../../fake/reserve-out.js';
import type { OutFields } from '../../fake/reserve-out.js';
import { targetPrefix, TestGateway } from '../../tool/gateway.js';

const CONFLICT = 0x18;
const EXCLUSIVE_ACCESS = 3;
const WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5;
const [A, B] = [0xan, 0xbn];
const block = Buffer.alloc(4096, 0x5a);

describe('reservations', () => {
  let gateway: TestGateway;
  before(async () => {
    const replicate = { enabled: false };
    gateway = await TestGateway.start({
      volumes: [{ name: 'disk', size: '16MiB', access: 'shared', replicate, buffer: { size: '64MiB' } }],
    });
  });
  after(() => gateway.dispose());

  const connect = (name: string): Promise<IscsiClient> =>
    IscsiClient.connect(gateway.iscsiPort, `${targetPrefix}:disk`, `iqn.2026-11.test:${name}`);
  const recordFile = (): string => join(gateway.dataDir, 'volumes/disk/reservations');

  async function out(client: IscsiClient, service: number, fields: OutFields, type = 0): Promise<void> {
    const list = outList(fields);
    await client.command(Buffer.from(outCdb(service, type, list.length)), list, 0);
  }

  async function keys(client: IscsiClient): Promise<bigint[]> {
    const data = await client.command(Buffer.from(inCdb(0, 1024)), undefined, 1024);
    return Array.from({ length: data.readUInt32BE(4) / 8 }, (_, index) => data.readBigUInt64BE(8 + 8 * index));
  }

  const conflicts = (what: Promise<unknown>): Promise<void> =>
    assert.rejects(what, (error) => error instanceof ScsiStatusError && error.status === CONFLICT);

  /** Errors of a read and a write over NBD. */
  async function overNbd(): Promise<[number, number]> {
    const client = await NbdClient.attach({ host: '127.0.0.1', port: gateway.nbdPort }, 'disk');
    const read = await client.request({ type: CMD.READ, offset: 0, length: 4096 });
    const write = await client.request({ type: CMD.WRITE, offset: 0, payload: block });
    await client.disconnect();
    return [read.error, write.error];
  }

  const shown = async (): Promise<unknown> =>
    ((await gateway.api('/v1/volumes/disk')) as { reservation: unknown }).reservation;

  it('with APTPL hold after the gateway was killed, for NBD before any initiator is back', async () => {
    const a = await connect('a');
    const b = await connect('b');
    await out(a, action.register, { actionKey: A, flags: flag.aptpl });
    await out(b, action.register, { actionKey: B, flags: flag.aptpl });
    await out(a, action.reserve, { key: A }, EXCLUSIVE_ACCESS);
    assert.deepEqual(await overNbd(), [E.PERM, E.PERM]);
    await gateway.kill();
    await gateway.startAgain();
    assert.deepEqual(await overNbd(), [E.PERM, E.PERM]);
    assert.match(gateway.log(), /the volume is reserved/);
    assert.deepEqual(await shown(), { type: 'exclusive access', holder: 'iqn.2026-11.test:a', registrations: 2 });
    const again = await connect('b');
    assert.deepEqual(await keys(again), [A, B]);
    await conflicts(again.write(0, block));
    await out(again, action.preemptAndAbort, { key: B, actionKey: A }, WRITE_EXCLUSIVE_REGISTRANTS_ONLY);
    await again.write(0, block);
    const type = 'write exclusive, registrants only';
    assert.deepEqual(await shown(), { type, holder: 'iqn.2026-11.test:b', registrations: 1 });
    const shutOut = await connect('a');
    await conflicts(shutOut.write(0, block));
    assert.deepEqual(await overNbd(), [0, E.PERM]);
    await gateway.stop();
    await gateway.startAgain();
    assert.deepEqual(await overNbd(), [0, E.PERM]);
    const last = await connect('b');
    assert.deepEqual(await keys(last), [B]);
    await out(last, action.clear, { key: B });
    assert.deepEqual(await overNbd(), [0, 0]);
    assert.equal(await shown(), null);
    await gateway.kill();
    await gateway.startAgain();
    assert.deepEqual(await overNbd(), [0, 0]);
    assert.deepEqual(await keys(await connect('b')), []);
  });

  it('without APTPL are gone with the gateway', async () => {
    const a = await connect('a');
    await out(a, action.register, { actionKey: A });
    await out(a, action.reserve, { key: A }, EXCLUSIVE_ACCESS);
    assert.deepEqual(await overNbd(), [E.PERM, E.PERM]);
    await gateway.kill();
    await gateway.startAgain();
    assert.deepEqual(await overNbd(), [0, 0]);
  });

  it('whose record is damaged keep the volume from being served, and say what to do', async () => {
    const a = await connect('a');
    await out(a, action.register, { actionKey: A, flags: flag.aptpl });
    await gateway.stop();
    const text = await readFile(recordFile(), 'utf8');
    await writeFile(recordFile(), text.replace('000000000000000a', '000000000000000b'));
    await assert.rejects(
      gateway.startAgain(),
      /volume disk: reservations is damaged.*make sure that no node.*remove the file reservations from its directory/,
    );
    await rm(recordFile());
    await gateway.startAgain();
    assert.deepEqual(await overNbd(), [0, 0]);
  });
});
