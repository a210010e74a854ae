/** SANITIZE in a whole gateway: what NBD and iSCSI are told meanwhile, and what is left after the gateway was killed in it. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { IscsiClient, ScsiStatusError } from '../../crash/iscsi-client.js';
import { CMD, E, NbdClient } from '../../fake/nbd-client.js';
import { targetPrefix, TestGateway } from '../../tool/gateway.js';
import { eventually } from '../../tool/process.js';

const MIB = 1024 * 1024;
const EXPECTED = Buffer.alloc(16 * MIB, 0xa5);
const list = Buffer.from([0x01, 0, 0, 1, 0xa5]);
/** IMMED, OVERWRITE. */
const overwrite = Buffer.from([0x48, 0x81, 0, 0, 0, 0, 0, 0, list.length, 0]);
const erase = Buffer.from([0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0]);

describe('a volume that is being sanitized', () => {
  let gateway: TestGateway;
  const disk = { size: '16MiB', access: 'shared', buffer: { size: '64MiB' } };
  const unreplicated = { ...disk, name: 'local', replicate: { enabled: false } };
  before(async () => {
    gateway = await TestGateway.start({ volumes: [unreplicated, { ...disk, name: 'remote' }] });
  });
  after(() => gateway.dispose());

  const overNbd = (): Promise<NbdClient> => NbdClient.attach({ host: '127.0.0.1', port: gateway.nbdPort }, 'local');
  const overIscsi = (volume = 'local'): Promise<IscsiClient> =>
    IscsiClient.connect(gateway.iscsiPort, `${targetPrefix}:${volume}`, 'iqn.2026-11.test:sanitize');
  const sensed = (key: number, code: number, qualifier: number) => (error: unknown) => {
    assert(error instanceof ScsiStatusError);
    assert.deepEqual(error.sense, { key, code, qualifier });
    return true;
  };
  const inProgress = sensed(0x2, 0x04, 0x1b);
  const reason = async (): Promise<string> =>
    ((await gateway.api('/v1/volumes/local')) as { readonly reason?: string | null }).reason ?? '';

  it('refuses everybody until it is over, also over the death of the gateway', async () => {
    const nbd = await overNbd();
    await nbd.request({ type: CMD.WRITE, offset: 5 * MIB, payload: Buffer.alloc(MIB, 1) });
    const scsi = await overIscsi();
    await scsi.command(overwrite, list, 0);
    assert.equal((await nbd.request({ type: CMD.READ, offset: 0, length: 4096 })).error, E.IO);
    assert.equal((await nbd.request({ type: CMD.WRITE, offset: 0, payload: Buffer.alloc(4096) })).error, E.IO);
    await assert.rejects(overNbd());
    await assert.rejects(scsi.read(0, 4096), inProgress);
    await assert.rejects(scsi.command(erase, undefined, 0), inProgress);
    assert.match(await reason(), /volume local is being sanitized \(\d+ %\)/);
    await gateway.kill();
    await gateway.startAgain();
    await assert.rejects(overNbd());
    await assert.rejects((await overIscsi()).read(0, 4096), inProgress);
    await eventually('the sanitize is over', async () => (await reason()) === '');
    const again = await overNbd();
    const { data } = await again.request({ type: CMD.READ, offset: 0, length: EXPECTED.length });
    assert.ok(EXPECTED.equals(data), 'every block has the pattern');
    await again.request({ type: CMD.WRITE, offset: 0, payload: Buffer.alloc(MIB, 2) });
    await again.disconnect();
    await gateway.kill();
    await gateway.startAgain();
    assert.deepEqual(await (await overIscsi()).read(0, MIB), Buffer.alloc(MIB, 2), 'it does not begin again');
  });

  it('by an erase reads as zero, and answers when it does', async () => {
    const scsi = await overIscsi();
    await scsi.command(erase, undefined, 0);
    assert.deepEqual(await scsi.read(0, MIB), Buffer.alloc(MIB));
  });

  it('is not opened to replicate before it is over', async () => {
    const scsi = await overIscsi();
    await scsi.command(overwrite, list, 0);
    await gateway.kill();
    await assert.rejects(
      gateway.startAgain({ volumes: [{ ...unreplicated, replicate: { enabled: true } }] }),
      /volume local: it is being sanitized.*set replicate\.enabled: false until it is over/,
    );
    await gateway.kill();
    await gateway.startAgain({ volumes: [unreplicated, { ...disk, name: 'remote' }] });
    await eventually('the sanitize is over', async () => (await reason()) === '');
  });

  it('has no bucket: a volume that has one refuses, also once it replicates no more', async () => {
    const unknown = sensed(0x5, 0x20, 0x00);
    await assert.rejects((await overIscsi('remote')).command(erase, undefined, 0), unknown);
    await gateway.stop();
    await gateway.startAgain({ volumes: [unreplicated, { ...disk, name: 'remote', replicate: { enabled: false } }] });
    await assert.rejects((await overIscsi('remote')).command(erase, undefined, 0), unknown);
  });
});
