/**
 * NBD clients that do what comes to their mind (test/fuzz), against a real gateway: in clear and over TLS, with engine, log
 * and replication behind. Every answer is judged, a client that behaves is served meanwhile, and the process keeps its
 * memory and goes on.
 */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { limits } from '../../src/base/limits.js';
import { KIB, MIB } from '../../src/base/units.js';
import { chosenSeed, withSeed } from '../crash/seed.js';
import { CMD, NbdClient } from '../fake/nbd-client.js';
import { SeededRandom } from '../fake/random.js';
import { makeCase, type Case, type SetupStep } from '../fuzz/nbd-case.js';
import { SocketPeer, type Credentials } from '../fuzz/nbd-peer.js';
import { runNbdCase } from '../fuzz/nbd-run.js';
import { CalmOverSocket, type FuzzedServer } from '../fuzz/nbd-server.js';
import { Content, template, World, type Export } from '../fuzz/nbd-world.js';
import { writePreSharedKeys } from '../tool/certificates.js';
import { TestGateway } from '../tool/gateway.js';

const cases = process.env['KEEPGATE_TEST_LONG'] === '1' ? 10_000 : 150;
const ROTATIONAL = 1 << 4;
const sizesMiB = { demo: template.length / MIB, calm: 1, hers: 1 };

function exportOf(name: keyof typeof sizesMiB, users: readonly string[]): Export {
  const isHers = name === 'hers';
  const content = new Content();
  // Nobody ever writes to it.
  if (isHers) content.mayBeZero(0, sizesMiB[name] * MIB);
  const description = `Keepgate volume ${name}`;
  return { name, sizeBytes: sizesMiB[name] * MIB, readOnly: isHers, description, users, content };
}

async function keysIn(file: string): Promise<Map<string, Buffer>> {
  const lines = (await readFile(file, 'utf8')).trim().split('\n');
  return new Map(lines.map((line) => line.split(':') as [string, string]).map(([user, key]) => [user, Buffer.from(key, 'hex')])); // prettier-ignore
}

async function residentKib(pid: number): Promise<number> {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

it(`a gateway and ${cases} hostile NBD sessions`, { timeout: 3_600_000 }, (t) =>
  withSeed(chosenSeed(), async (seed) => {
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-hostile-'));
    const keyFile = join(folder, 'keys.psk');
    await writePreSharedKeys(keyFile, ['alice', 'bob']);
    const volume = { buffer: { size: '64MiB' }, access: 'shared', replicate: { interval: '1s' } };
    const gateway = await TestGateway.start({
      nbd: { tls: 'on', tlsPsk: keyFile },
      volumes: [
        { ...volume, name: 'demo', size: `${sizesMiB.demo}MiB` },
        { ...volume, name: 'calm', size: `${sizesMiB.calm}MiB` },
        { ...volume, name: 'hers', size: `${sizesMiB.hers}MiB`, readOnly: true, nbd: { users: ['alice'] } },
      ],
    });
    try {
      const keys = await keysIn(keyFile);
      const credentials: Credentials = (user) => {
        const psk = keys.get(user) ?? Buffer.alloc(32);
        const names = { checkServerIdentity: (): undefined => undefined };
        return { options: { ...names, pskCallback: () => ({ psk, identity: user }) }, isKnown: keys.has(user) };
      };
      const address = { host: '127.0.0.1', port: gateway.nbdPort };
      const filler = await NbdClient.attach(address, 'demo');
      for (let offset = 0; offset < template.length; offset += MIB)
        await filler.request({ type: CMD.WRITE, offset, payload: template.subarray(offset, offset + MIB) });
      // It is as the disk of this machine.
      const rotational = (filler.transmissionFlags & ROTATIONAL) !== 0;
      await filler.disconnect();
      const exports = [exportOf('demo', []), exportOf('calm', []), exportOf('hers', ['alice'])];
      const random = new SeededRandom(seed);
      for (let count = 0; count < cases; count += 1) {
        const world = new World({ tls: 'on', exports, overSockets: true, knowsFastZero: false, rotational });
        const fuzzed: FuzzedServer = {
          world,
          demo: undefined,
          clock: undefined,
          patienceMs: 60_000, // A disk that is busy takes its time for a flush.
          calm: await CalmOverSocket.attach(address, undefined),
          connect: (judge, changed) => new SocketPeer(judge, gateway.nbdPort, credentials, changed),
          isIdle: async () => ((await gateway.api('/v1/sessions')) as readonly unknown[]).length === 0,
          checkNothingLeft: () => undefined,
          close: () => undefined,
        };
        const setup: SetupStep = { kind: 'setup', carrier: 'psk', tls: 'on', readOnly: false };
        const steps: Case = makeCase(random, setup);
        await runNbdCase(steps, fuzzed).catch((cause: unknown) => {
          throw new Error(`case ${count}: ${String(cause)}\n${JSON.stringify(steps)}\n${gateway.log()}`, { cause });
        });
      }
      const kib = await residentKib(gateway.pid);
      t.diagnostic(`${Math.round(kib / KIB)} MiB resident`);
      assert(kib * KIB < limits.memoryBytesTarget, `${kib} KiB are resident`);
      await gateway.drain('demo');
    } finally {
      await gateway.dispose();
      await rm(folder, { recursive: true, force: true });
    }
  }),
);
