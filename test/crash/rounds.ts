/**
 * Rounds of: load, SIGKILL at a random moment, start again, compare every sector with what was acknowledged. All the
 * while the gateway uploads small segments in parallel, so that most kills hit some of them half-way. At the end the
 * volume is drained, its data directory deleted, and what the bucket gives back is compared too.
 */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { TestGateway, targetPrefix, type Settings } from '../tool/gateway.js';
import { IscsiClient } from './iscsi-client.js';
import { Ledger } from './ledger.js';
import { runLoad, seededNumbers, verifyAll, type BlockClient } from './load.js';
import { NbdClient } from './nbd-client.js';

export interface CrashOptions {
  readonly rounds: number;
  readonly seed: number;
  readonly say: (line: string) => void;
  readonly sizeMiB?: number;
  /** Taken in turn, one for each round. */
  readonly protocols?: readonly Protocol[];
  /** Default: a directory store. */
  readonly store?: {
    readonly settings: Settings;
    readonly url: string;
    readonly env: Readonly<Record<string, string>>;
  };
  readonly bandwidth?: Settings;
}

export type Protocol = 'nbd' | 'iscsi';

const volume = 'crash';
const killAfterWritesMax = 6000;

export async function crashRounds(options: CrashOptions): Promise<void> {
  const sizeMiB = options.sizeMiB ?? 32;
  const protocols = options.protocols ?? ['nbd', 'iscsi'];
  const ledger = new Ledger(sizeMiB * 1024 * 1024);
  const random = seededNumbers(options.seed);
  const gateway = await TestGateway.start({
    volumes: [
      {
        name: volume,
        size: `${sizeMiB}MiB`,
        buffer: { size: '64MiB' },
        replicate: { interval: '100ms', segmentSize: '256KiB' },
      },
    ],
    ...(options.store === undefined ? {} : { store: options.store.settings, env: options.store.env }),
    ...(options.bandwidth === undefined ? {} : { bandwidth: options.bandwidth }),
  });
  try {
    for (let round = 1; round <= options.rounds; round += 1) {
      const protocol = protocols[(round - 1) % protocols.length] ?? 'nbd';
      await verify(gateway, protocol, ledger, `round ${round}, seed ${options.seed}`);
      const killAfter = 1 + Math.floor(random() * killAfterWritesMax);
      const acknowledged = await loadAndKill(gateway, protocol, ledger, random, killAfter);
      options.say(`round ${round}: killed after ${acknowledged} writes acknowledged over ${protocol}`);
      await gateway.startAgain();
    }
    await verify(gateway, 'nbd', ledger, `after the last round, seed ${options.seed}`);
    await verifyRestored(gateway, ledger, options);
  } finally {
    await gateway.dispose();
  }
}

async function connectTo(gateway: TestGateway, protocol: Protocol): Promise<BlockClient> {
  return protocol === 'nbd'
    ? NbdClient.connect(gateway.nbdPort, volume)
    : IscsiClient.connect(gateway.iscsiPort, `${targetPrefix}:${volume}`, 'iqn.2026-11.test:crash');
}

async function verify(gateway: TestGateway, protocol: Protocol, ledger: Ledger, when: string): Promise<void> {
  const client = await connectTo(gateway, protocol);
  const wrong = await verifyAll(client, ledger);
  client.destroy();
  assert.deepEqual(wrong, [], `${when}\n${gateway.log()}`);
}

async function loadAndKill(
  gateway: TestGateway,
  protocol: Protocol,
  ledger: Ledger,
  random: () => number,
  killAfter: number,
): Promise<number> {
  // One iSCSI session, several NBD connections: each is one client to a volume with exclusive access.
  const count = protocol === 'nbd' ? 3 : 1;
  const clients: BlockClient[] = [];
  for (let index = 0; index < count; index += 1) clients.push(await connectTo(gateway, protocol));
  let killed: Promise<void> | undefined;
  const end = await runLoad({
    clients,
    ledger,
    random,
    requestsPerClient: 16,
    sectorsPerWriteMax: 48,
    onAcknowledged: (acknowledged) => {
      if (acknowledged === killAfter) killed = gateway.kill();
      return true; // The load goes on until its connections are gone.
    },
  });
  for (const client of clients) client.destroy();
  assert(
    killed !== undefined,
    `a client failed before the kill: ${end.errors.map(String).join('; ')}\n${gateway.log()}`,
  );
  await killed;
  return end.acknowledged;
}

async function verifyRestored(gateway: TestGateway, ledger: Ledger, options: CrashOptions): Promise<void> {
  await gateway.drain(volume);
  await gateway.stop();
  await rm(gateway.dataDir, { recursive: true });
  const from = options.store?.url ?? `file://${gateway.storeDirectory}`;
  const restored = await gateway.command(['restore', volume, '--from', from, '--full', '--take-over']);
  assert.equal(restored.status, 0, `${restored.stdout}${restored.stderr}`);
  await gateway.startAgain();
  await verify(gateway, 'nbd', ledger, `restored, seed ${options.seed}`);
  options.say('restored from the store: every acknowledged write is there');
}
