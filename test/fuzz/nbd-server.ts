/**
 * The server of one case, over volumes in memory: with streams in memory and a clock that the case moves, or listening on
 * a socket with real TLS. Beside the hostile clients one that behaves uses a volume of its own.
 */
import { strict as assert } from 'node:assert';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import { NbdServer } from '../../src/frontends/nbd/server.js';
import { NetStreamFactory } from '../../src/platform/socket-listener.js';
import { SystemClock } from '../../src/platform/system-clock.js';
import { TlsSecurity } from '../../src/platform/tls-security.js';
import { ManualClock } from '../fake/clock.js';
import { RecordedLog } from '../fake/log.js';
import { MemoryDevice, MemoryDirectory, MemoryVolume } from '../fake/memory-device.js';
import { MemoryStreamFactory, settled } from '../fake/memory-stream.js';
import type { MemoryStream } from '../fake/memory-stream.js';
import { clientFlags, CMD, infoData, NbdClient, OPT, optionBytes, parseReplies, requestBytes } from '../fake/nbd-client.js'; // prettier-ignore
import type { Address } from '../fake/nbd-client.js';
import { TestAuthority } from '../tool/certificates.js';
import { tool } from '../tool/clients.js';
import { MemorySecurity } from '../unit/frontends/nbd/session.js';
import type { SetupStep } from './nbd-case.js';
import type { NbdJudge } from './nbd-judge.js';
import { MemoryPeer, SocketPeer } from './nbd-peer.js';
import type { Credentials, Peer } from './nbd-peer.js';
import { CALM_BYTES, Content, DEMO_BYTES, HERS_BYTES, template, World } from './nbd-world.js';
import type { Export } from './nbd-world.js';

const CALM_WRITE_BYTES = 4096;
const TURNS_MAX = 200;

/** Kept from case to case, and put right after each: to make it anew would take longer than most cases. */
const demoImage = Buffer.from(template);

/** What a case is run against. */
export interface FuzzedServer {
  readonly world: World;
  /** What can be held, made to fail, or reserved; undefined: nothing. */
  readonly demo: MemoryVolume | undefined;
  /** Undefined: time goes on by itself. */
  readonly clock: ManualClock | undefined;
  readonly calm: CalmClient;
  /** What must come over a socket comes within this time, unless it never does. */
  readonly patienceMs: number;
  connect(judge: NbdJudge, changed: () => void): Peer;
  /** No connection is left. */
  isIdle(): boolean | Promise<boolean>;
  /** Nothing else of the case is left either. */
  checkNothingLeft(): void;
  /** However the case ended. */
  close(): void;
}

/** Writes and reads what it wrote, as if nothing were. */
export interface CalmClient {
  work(): Promise<void>;
  leave(): Promise<void>;
}

export async function startServer(setup: SetupStep): Promise<FuzzedServer> {
  const overSockets = setup.carrier !== 'memory';
  const world = new World({ tls: setup.tls, exports: exportsOf(setup), overSockets, knowsFastZero: true });
  const volumes = world.exports.map(({ name, sizeBytes, readOnly, description, users }) => {
    const device = new MemoryDevice({ name, readOnly, sizeBytes: name === 'calm' ? CALM_BYTES : 4096 });
    // Nobody writes to it: that it is read-only is among what is tried.
    if (name === 'hers') device.image = template.subarray(0, sizeBytes);
    if (name === 'demo') device.image = demoImage;
    return new MemoryVolume(device, { description, nbdUsers: users, shared: true });
  });
  return overSockets ? startOnSocket(world, volumes, setup) : startInMemory(world, volumes, setup);
}

function exportsOf({ tls, readOnly }: SetupStep): Export[] {
  const users = tls === 'off' ? [] : ['alice'];
  const described = (name: string, sizeBytes: number): Export => {
    const common = { name, sizeBytes, description: `the volume ${name}`, content: new Content() };
    return { ...common, readOnly: name === 'demo' && readOnly, users: [] };
  };
  const hers = { ...described('hers', HERS_BYTES), description: 'hers alone: äöü', readOnly: true, users };
  return [described('demo', DEMO_BYTES), described('calm', CALM_BYTES), hers];
}

async function startInMemory(world: World, volumes: MemoryVolume[], { tls }: SetupStep): Promise<FuzzedServer> {
  const streams = new MemoryStreamFactory();
  const clock = new ManualClock();
  const security = new MemorySecurity();
  const directory = new MemoryDirectory(...volumes);
  const server = new NbdServer({ directory, streams, clock, log: new RecordedLog(), tls });
  if (tls !== 'off') server.security = security;
  await server.listen([{ kind: 'tcp', host: '127.0.0.1', port: 10_809 }]);
  const calm = new CalmInMemory(streams, security, tls === 'required');
  await calm.attach();
  const connect = (judge: NbdJudge): Peer => {
    const stream = streams.connect();
    assert.ok(stream !== undefined, 'a connection is accepted');
    return new MemoryPeer(judge, stream, security);
  };
  return { world, clock, calm, connect, ...ends(server, volumes) };
}

async function startOnSocket(world: World, volumes: MemoryVolume[], setup: SetupStep): Promise<FuzzedServer> {
  const log = new RecordedLog();
  const streams = new NetStreamFactory({ log });
  const directory = new MemoryDirectory(...volumes);
  const server = new NbdServer({ directory, streams, clock: new SystemClock(), log, tls: setup.tls });
  const tls = await realTls();
  server.security = tls.security;
  const [bound] = await server.listen([{ kind: 'tcp', host: '127.0.0.1', port: 0 }]);
  assert.ok(bound?.kind === 'tcp');
  const calm = await CalmOverSocket.attach(bound, setup.tls === 'required' ? tls.byKey('alice')?.options : undefined);
  const credentials = setup.carrier === 'certificate' ? tls.byCertificate : tls.byKey;
  const connect = (judge: NbdJudge, changed: () => void): Peer =>
    new SocketPeer(judge, bound.port, credentials, changed);
  return { world, clock: undefined, calm, connect, ...ends(server, volumes) };
}

function ends(
  server: NbdServer,
  volumes: readonly MemoryVolume[],
): Pick<FuzzedServer, 'demo' | 'patienceMs' | 'isIdle' | 'checkNothingLeft' | 'close'> {
  const demo = volumes.find(({ device }) => device.name === 'demo');
  return {
    demo,
    patienceMs: 10_000,
    isIdle: () => server.connections.length === 0,
    checkNothingLeft: () => {
      assert.equal(server.pool.lent, 0, 'every reply buffer is back');
      for (const { device, holders, nbd } of volumes) {
        assert.equal(holders.length, 0, `nobody holds ${device.name} any more`);
        assert.equal(device.partialWritesOpen, 0, 'no write stays open');
        assert.equal(nbd.stats.inflight, 0, 'no request stays in flight');
      }
    },
    close: () => {
      if (demo !== undefined) restore(demo.device);
      void server.close();
    },
  };
}

/** The image is as it was. */
function restore(device: MemoryDevice): void {
  for (const { op, offset, lengthBytes } of device.history)
    if (op === 'write' || op === 'trim' || op === 'zero')
      template.copy(demoImage, offset, offset, Math.min(DEMO_BYTES, offset + lengthBytes));
}

class CalmInMemory implements CalmClient {
  private readonly stream: MemoryStream;
  private round = 0;

  constructor(
    streams: MemoryStreamFactory,
    private readonly security: MemorySecurity,
    private readonly overTls: boolean,
  ) {
    const stream = streams.connect();
    assert.ok(stream !== undefined);
    this.stream = stream;
  }

  async attach(): Promise<void> {
    const { stream } = this;
    stream.feed(clientFlags(3));
    if (this.overTls) {
      stream.feed(optionBytes(OPT.STARTTLS));
      await settled(2);
      this.security.finish(stream, 'alice');
    }
    stream.feed(optionBytes(OPT.GO, infoData('calm')));
    await settled();
    stream.output();
  }

  async work(): Promise<void> {
    const { offset, payload } = nextWrite(this.round++);
    await this.ask(requestBytes({ type: CMD.WRITE, offset, payload }), 0);
    const length = payload.length;
    assert.deepEqual(await this.ask(requestBytes({ type: CMD.READ, offset, length }), length), payload, wrote);
  }

  async leave(): Promise<void> {
    this.stream.feed(requestBytes({ type: CMD.DISC }));
    await settled();
    assert.ok(this.stream.finished, 'who leaves is let go');
  }

  private async ask(request: Buffer, lengthBytes: number): Promise<Buffer> {
    this.stream.feed(request);
    let bytes = Buffer.from(this.stream.output());
    for (let turn = 0; turn < TURNS_MAX && bytes.length < 16 + lengthBytes; turn++) {
      await settled(1);
      bytes = Buffer.concat([bytes, this.stream.output()]);
    }
    const [reply] = parseReplies(bytes, () => lengthBytes).replies;
    assert.ok(reply !== undefined, 'a client that behaves is answered');
    assert.equal(reply.error, 0, 'and without an error');
    return reply.data;
  }
}

export class CalmOverSocket implements CalmClient {
  private round = 0;

  private constructor(private readonly client: NbdClient) {}

  static async attach(address: Address, tls: ConnectionOptions | undefined): Promise<CalmOverSocket> {
    const client = await NbdClient.open(address);
    client.send(clientFlags(3));
    if (tls !== undefined) await client.startTls(tls);
    await client.go('calm');
    return new CalmOverSocket(client);
  }

  async work(): Promise<void> {
    const { offset, payload } = nextWrite(this.round++);
    const written = await this.client.request({ type: CMD.WRITE, offset, payload });
    assert.equal(written.error, 0, 'a client that behaves is answered, and without an error');
    const read = await this.client.request({ type: CMD.READ, offset, length: payload.length });
    assert.deepEqual(read.data, payload, wrote);
  }

  leave(): Promise<void> {
    return this.client.disconnect();
  }
}

const wrote = 'and reads what it wrote';

function nextWrite(round: number): { readonly offset: number; readonly payload: Buffer } {
  const offset = (round * CALM_WRITE_BYTES) % CALM_BYTES;
  return { offset, payload: Buffer.alloc(CALM_WRITE_BYTES, 1 + (round % 255)) };
}

interface RealTls {
  readonly security: TlsSecurity;
  readonly byKey: Credentials;
  readonly byCertificate: Credentials;
}

let shared: Promise<RealTls> | undefined;

/** Keys of alice and bob, and, where there is openssl, a certificate of alice. */
function realTls(): Promise<RealTls> {
  shared ??= makeRealTls();
  return shared;
}

async function makeRealTls(): Promise<RealTls> {
  const keys = new Map(['alice', 'bob'].map((user) => [user, randomBytes(32)]));
  const names = { checkServerIdentity: (): undefined => undefined };
  const byKey: Credentials = (user) => ({
    options: { ...names, pskCallback: () => ({ psk: keys.get(user) ?? randomBytes(32), identity: user }) },
    isKnown: keys.has(user),
  });
  if (typeof tool('openssl') === 'string') {
    const security = new TlsSecurity({ certificates: undefined, preSharedKeys: keys });
    return { security, byKey, byCertificate: byKey };
  }
  const folder = await mkdtemp(join(tmpdir(), 'keepgate-fuzz-'));
  try {
    const authority = await TestAuthority.create(folder);
    await authority.issueClient('alice');
    const pem = (name: string): Promise<string> => readFile(join(folder, `${name}.pem`), 'utf8');
    const [ca, certificate, key] = await Promise.all([pem('ca-cert'), pem('server-cert'), pem('server-key')]);
    const [cert, clientKey] = await Promise.all([pem('client-cert'), pem('client-key')]);
    const certificates = { certificate, key, clientAuthority: ca, revocations: undefined };
    const security = new TlsSecurity({ certificates, preSharedKeys: keys });
    const byCertificate: Credentials = (user) => {
      if (user === 'mallory') return undefined;
      const own = user === 'alice' ? { cert, key: clientKey } : {};
      return { options: { ...names, ca, ...own }, isKnown: user === 'alice' };
    };
    return { security, byKey, byCertificate };
  } finally {
    await rm(folder, { recursive: true });
  }
}
