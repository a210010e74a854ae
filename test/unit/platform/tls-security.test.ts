/** TLS on real sockets, with Node's own client: who gets in, as whom, and what a stream is like afterwards. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { GatewayError } from '../../../src/base/errors.js';
import type { TlsMode } from '../../../src/frontends/nbd/admission.js';
import { NbdServer } from '../../../src/frontends/nbd/server.js';
import { NetStreamFactory } from '../../../src/platform/socket-listener.js';
import { SystemClock } from '../../../src/platform/system-clock.js';
import { TlsSecurity } from '../../../src/platform/tls-security.js';
import type { TlsCredentials } from '../../../src/platform/tls-security.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryDirectory } from '../../fake/memory-device.js';
import type { MemoryVolume } from '../../fake/memory-device.js';
import { clientFlags, CMD, FLAG, NbdClient, OPT, optionBytes } from '../../fake/nbd-client.js';
import type { Address } from '../../fake/nbd-client.js';
import { MIB, pattern, volume } from '../frontends/nbd/session.js';
import { TestAuthority } from '../../tool/certificates.js';
import { eventually } from '../../tool/process.js';
import { suite } from '../../tool/suite.js';

const keys = new Map([
  ['alice', randomBytes(32)],
  ['bob', randomBytes(16)],
]);
const byKeys: TlsCredentials = { certificates: undefined, preSharedKeys: keys };

let server: NbdServer;
let demo: MemoryVolume;
let log: RecordedLog;
const clients: NbdClient[] = [];

beforeEach(() => {
  demo = volume({ keepHistory: false });
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await server.close();
});

async function listen(credentials: TlsCredentials, tls: TlsMode = 'required'): Promise<Address> {
  log = new RecordedLog();
  server = new NbdServer({
    directory: new MemoryDirectory(demo),
    streams: new NetStreamFactory({ log }),
    clock: new SystemClock(),
    log,
    tls,
  });
  server.security = new TlsSecurity(credentials);
  const [bound] = await server.listen([{ kind: 'tcp', host: '127.0.0.1', port: 0 }]);
  assert(bound?.kind === 'tcp');
  return bound;
}

async function open(address: Address): Promise<NbdClient> {
  const client = await NbdClient.open(address);
  clients.push(client);
  client.send(clientFlags(3));
  return client;
}

async function secured(address: Address, options: ConnectionOptions): Promise<{ client: NbdClient; tls: TLSSocket }> {
  const client = await open(address);
  const tls = await client.startTls(options);
  return { client, tls };
}

function asUser(
  user: string,
  options: ConnectionOptions = {},
  psk = keys.get(user) ?? randomBytes(32),
): ConnectionOptions {
  return {
    pskCallback: () => ({ psk, identity: user }),
    checkServerIdentity: () => undefined,
    ciphers: 'TLS_AES_128_GCM_SHA256:ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384',
    minVersion: 'TLSv1.2',
    ...options,
  };
}

/** Who the client of the only attachment is. */
function holder(): string | undefined {
  return demo.holders[0]?.client.key;
}

describe('TLS by pre-shared keys', { timeout: 60_000 }, () => {
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    it(`tells users apart with ${maxVersion}`, async () => {
      const address = await listen(byKeys);
      for (const user of keys.keys()) {
        const { client, tls } = await secured(address, asUser(user, { maxVersion }));
        assert.equal(tls.getProtocol(), maxVersion);
        await client.go('demo');
        assert.equal(holder(), `nbd:tls:"${user}"`);
        await client.disconnect();
      }
    });

    it(`refuses a wrong key and an unknown user with ${maxVersion}, and says which`, async () => {
      const address = await listen(byKeys);
      await assert.rejects(secured(address, asUser('alice', { maxVersion }, randomBytes(32))));
      await assert.rejects(secured(address, asUser('mallory', { maxVersion })));
      await until(() => server.rejections.get('tls-failed') === 2);
      assert.equal(server.logins, 0);
    });
  }

  it('hands out no sessions: who comes again proves again who it is', async () => {
    const address = await listen(byKeys);
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const { client, tls } = await secured(address, asUser('alice', { maxVersion }));
      const sessions: Buffer[] = [];
      tls.on('session', (session: Buffer) => sessions.push(session));
      await client.go('demo');
      await client.disconnect();
      const kept = sessions.at(-1) ?? tls.getSession();
      // With the session, and a key that is not alice's.
      const again = secured(address, asUser('alice', { maxVersion, ...(kept && { session: kept }) }, randomBytes(32)));
      await assert.rejects(again);
    }
  });

  it('carries everything, in both directions, also for a client that has closed its side', async () => {
    const address = await listen(byKeys);
    const { client, tls } = await secured(address, asUser('alice'));
    await client.go('demo');
    const data = pattern(32 * MIB);
    const written = await client.request({ type: CMD.WRITE, payload: data, flags: FLAG.FUA });
    assert.equal(written.error, 0);
    const small = Array.from({ length: 500 }, (_, at) =>
      client.request({ type: CMD.READ, offset: at * 4096, length: 4096 }),
    );
    const large = client.request({ type: CMD.READ, length: 32 * MIB });
    tls.end();
    for (const [at, reply] of (await Promise.all(small)).entries()) {
      assert.equal(Buffer.compare(reply.data, data.subarray(at * 4096, at * 4096 + 4096)), 0);
    }
    assert.equal(Buffer.compare((await large).data, data), 0);
    await client.closed;
  });

  it('holds little for a peer that stops reading, and gives it all when it goes on', async () => {
    const address = await listen(byKeys);
    demo.device.image.set(pattern(MIB));
    const { client: slow } = await secured(address, asUser('alice'));
    await slow.go('demo');
    slow.pause();
    const pending = Array.from({ length: 64 }, () => slow.request({ type: CMD.READ, length: MIB }));
    const { client } = await secured(address, asUser('alice'));
    await client.go('demo');
    for (let count = 0; count < 20; count++) assert.equal((await client.request({ type: CMD.FLUSH })).error, 0);
    await eventually('little is held', () => heldBytes() < 200 * MIB);
    slow.resume();
    for (const reply of await Promise.all(pending)) {
      assert.equal(Buffer.compare(reply.data, demo.device.image.subarray(0, MIB)), 0);
    }
  });

  it('bytes in clear after the answer to STARTTLS are no TLS, and end it', async () => {
    const address = await listen(byKeys);
    const client = await open(address);
    client.send(optionBytes(OPT.STARTTLS));
    await until(() => server.connections.length === 1);
    client.send(optionBytes(OPT.LIST));
    await client.closed;
    await until(() => server.rejections.get('tls-failed') === 1 || server.rejections.get('invalid-request') === 1);
  });

  it('a client that leaves in the middle of the handshake is gone at once', async () => {
    const address = await listen(byKeys);
    assert('port' in address);
    const socket = connect({ ...address, allowHalfOpen: true });
    socket.write(Buffer.concat([clientFlags(3), optionBytes(OPT.STARTTLS)]));
    let received = 0;
    for await (const chunk of socket) {
      received += (chunk as Buffer).length;
      if (received >= 18 + 20) break;
    }
    socket.end();
    await until(() => server.connections.length === 0);
  });

  it('a hundred half-open handshakes and an option of 4 GiB disturb no client', async () => {
    const address = await listen(byKeys, 'on');
    const { client } = await secured(address, asUser('alice'));
    await client.go('demo');
    for (let count = 0; count < 50; count++) {
      clients.push(await NbdClient.open(address));
      (await open(address)).send(optionBytes(OPT.STARTTLS));
    }
    const huge = await open(address);
    huge.send(optionBytes(OPT.LIST, Buffer.alloc(0), 0xffff_ffff));
    await huge.closed;
    const { client: later } = await secured(address, asUser('alice'));
    await later.go('demo');
    for (const each of [client, later]) {
      for (let count = 0; count < 50; count++) {
        assert.equal((await each.request({ type: CMD.READ, offset: count * 4096, length: 4096 })).error, 0);
      }
    }
    assert.equal(server.connections.length, 102);
  });
});

/** Without what earlier tests have left behind, which takes more than one collection at times. */
function heldBytes(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage().arrayBuffers;
}

suite('TLS by certificates', ['openssl'], () => {
  let folder: string;
  let authority: TestAuthority;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'keepgate-tls-'));
    authority = await TestAuthority.create(folder);
    await authority.issueClient('alice');
  });
  after(async () => {
    await rm(folder, { recursive: true });
  });

  const pem = (name: string): Promise<string> => readFile(join(folder, name), 'utf8');

  async function certificates(verify: boolean): Promise<TlsCredentials['certificates']> {
    return {
      certificate: await pem('server-cert.pem'),
      key: await pem('server-key.pem'),
      clientAuthority: verify ? await pem('ca-cert.pem') : undefined,
      revocations: undefined,
    };
  }

  const trusting = async (): Promise<ConnectionOptions> => ({ ca: await pem('ca-cert.pem'), servername: 'localhost' });
  const showing = async (): Promise<ConnectionOptions> => ({
    ...(await trusting()),
    cert: await pem('client-cert.pem'),
    key: await pem('client-key.pem'),
  });

  it('a client needs none unless that is asked for, and is then nobody', async () => {
    const address = await listen({ certificates: await certificates(false), preSharedKeys: undefined });
    for (const options of [await trusting(), await showing()]) {
      const { client } = await secured(address, options);
      await client.go('demo');
      assert.equal(holder(), 'nbd:127.0.0.1');
      await client.disconnect();
    }
  });

  it('a client that must show one is who that says; without one, or with another authority’s, it is refused', async () => {
    const other = await TestAuthority.create(join(folder, 'other'));
    await other.issueClient('alice');
    const stranger = {
      ...(await trusting()),
      cert: await readFile(join(other.directory, 'client-cert.pem'), 'utf8'),
      key: await readFile(join(other.directory, 'client-key.pem'), 'utf8'),
    };
    const address = await listen({ certificates: await certificates(true), preSharedKeys: undefined });
    // TLS 1.3 lets a client believe that it is in before the server has seen its certificate.
    for (const options of [await trusting(), stranger]) {
      await assert.rejects(secured(address, options).then(({ client }) => client.go('demo')));
    }
    await until(() => server.rejections.get('tls-failed') === 2);
    const { client } = await secured(address, await showing());
    await client.go('demo');
    assert.equal(holder(), 'nbd:tls:"alice"');
  });

  it('a user’s key does where certificates are demanded, too', async () => {
    const address = await listen({ certificates: await certificates(true), preSharedKeys: keys });
    const { client } = await secured(address, asUser('bob'));
    await client.go('demo');
    assert.equal(holder(), 'nbd:tls:"bob"');
  });

  it('naming a user is not being one: a handshake that goes on without the key is nobody’s', async () => {
    const address = await listen({ certificates: await certificates(false), preSharedKeys: keys });
    // A cipher with another hash than the key's: TLS 1.3 drops the key and uses the certificate.
    const ciphers = 'TLS_AES_256_GCM_SHA384';
    for (const psk of [keys.get('alice'), randomBytes(32)]) {
      const { client } = await secured(address, asUser('alice', { ...(await trusting()), ciphers }, psk));
      await client.go('demo');
      assert.equal(holder(), 'nbd:127.0.0.1');
      await client.disconnect();
    }
  });

  it('a key that is not the certificate’s is refused', async () => {
    const wrong = { certificate: await pem('server-cert.pem'), key: await pem('client-key.pem') };
    const credentials = { ...wrong, clientAuthority: undefined, revocations: undefined };
    assert.throws(
      () => new TlsSecurity({ certificates: credentials, preSharedKeys: undefined }),
      (error) => error instanceof GatewayError && error.code === 'tls-invalid' && !error.message.includes('PRIVATE'),
    );
    await listen(byKeys);
  });
});

/** Looks again after every turn of the event loop, not after a time. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}
