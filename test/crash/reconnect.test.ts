/**
 * A client that stays attached while its gateway is killed, or ended, and started again: QEMU's NBD client with
 * reconnect-delay waits, connects again and sends once more what was not answered. It never notices (P1): no request
 * fails, and no acknowledged write is lost. (The kernel's iSCSI client does the same in test/guest.)
 *
 * QEMU stands between the gateway and the load, which keeps the ledger, as its storage daemon.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { it } from 'node:test';
import { requiredTool } from '../tool/clients.js';
import { eventually, startService, type Service } from '../tool/process.js';
import { suite } from '../tool/suite.js';
import { runLoad, verifyAll } from './load.js';
import { NbdClient } from './nbd-client.js';
import { CrashRig } from './rig.js';
import { chosenSeed, withSeed } from './seed.js';

const long = process.env['KEEPGATE_TEST_LONG'] === '1';
const restarts = long ? 20 : 2;
const writesBetweenMax = 1500;
const connections = 3;

class QemuStorageDaemon {
  private constructor(
    private readonly service: Service,
    private readonly socket: string,
    private readonly volume: string,
  ) {}

  static start(rig: CrashRig): QemuStorageDaemon {
    const { gateway, volume } = rig;
    const socket = join(gateway.folder, 'qemu.socket');
    const server = `server.type=inet,server.host=127.0.0.1,server.port=${gateway.nbdPort}`;
    const service = startService(requiredTool('qemu-storage-daemon'), [
      '--blockdev',
      `driver=nbd,node-name=disk,${server},export=${volume},reconnect-delay=120`,
      ...['--nbd-server', `addr.type=unix,addr.path=${socket}`],
      ...['--export', `type=nbd,id=out,node-name=disk,name=${volume},writable=on`],
    ]);
    return new QemuStorageDaemon(service, socket, volume);
  }

  async connect(): Promise<NbdClient> {
    let client: NbdClient | undefined;
    await eventually(
      'QEMU serves the volume on',
      async () => {
        client = await NbdClient.connect(this.socket, this.volume).catch(() => undefined);
        return client !== undefined;
      },
      { explain: () => this.service.output() },
    );
    if (client === undefined) throw new Error('unreachable');
    return client;
  }

  stop(): Promise<void> {
    return this.service.stop();
  }
}

suite('a client that stays attached', ['qemu-storage-daemon'], () => {
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    it(`QEMU, the gateway restarted ${restarts} times by ${signal} under load`, () =>
      withSeed(chosenSeed(), async (seed) => {
        const rig = await CrashRig.start({ seed });
        const qemu = QemuStorageDaemon.start(rig);
        try {
          const clients: NbdClient[] = [];
          for (let index = 0; index < connections; index += 1) clients.push(await qemu.connect());
          await loadAcrossRestarts(rig, clients, signal);
          for (const client of clients) assert.deepEqual(await verifyAll(client, rig.ledger), [], rig.explain());
          for (const client of clients) client.destroy();
          await qemu.stop();
          await rig.verify('nbd', 'without QEMU between');
        } finally {
          await qemu.stop();
          await rig.gateway.dispose();
        }
      }));
  }
});

/** Writes without a pause while the gateway is restarted, again and again, each time after a random number of writes. */
async function loadAcrossRestarts(rig: CrashRig, clients: NbdClient[], signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
  const { gateway, ledger, random } = rig;
  let begun = 0;
  let restarting = Promise.resolve();
  let nextAt = rig.draw(writesBetweenMax);
  const restart = async (count: number): Promise<void> => {
    await (signal === 'SIGKILL' ? gateway.kill() : gateway.stop());
    await gateway.startAgain();
    nextAt = count + rig.draw(writesBetweenMax);
  };
  const end = await runLoad({
    clients,
    ledger,
    random,
    requestsPerClient: 16,
    sectorsPerWriteMax: 48,
    onAcknowledged: (count) => {
      if (count < nextAt) return true;
      if (begun === restarts) return false;
      begun += 1;
      nextAt = Infinity;
      restarting = restarting.then(() => restart(count));
      return true;
    },
  });
  await restarting;
  assert.deepEqual(end.errors, [], rig.explain());
  assert.equal(begun, restarts);
}
