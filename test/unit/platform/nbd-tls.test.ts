/**
 * Connections whose TLS the kernel is to carry on with: here the test does, with what the kernel would be given, against a
 * real server. With a kernel of its own: test/guest/nbd-watch-tls.test.ts.
 */
import assert from 'node:assert/strict';
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { NbdServer } from '../../../src/frontends/nbd/server.js';
import { negotiateGo } from '../../../src/nbd-client/negotiation.js';
import { directionKeys, installKernelTls, RecordTrail } from '../../../src/platform/kernel-tls.js';
import { SystemNbdDialer } from '../../../src/platform/nbd-dialer.js';
import { readNbdTls } from '../../../src/platform/nbd-tls.js';
import { NetStreamFactory } from '../../../src/platform/socket-listener.js';
import { SystemClock } from '../../../src/platform/system-clock.js';
import { TlsSecurity } from '../../../src/platform/tls-security.js';
import type { TlsCredentials } from '../../../src/platform/tls-security.js';
import type { NbdTlsFiles } from '../../../src/ports/nbd-device.js';
import type { ListenAddress } from '../../../src/ports/stream.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryDirectory } from '../../fake/memory-device.js';
import { CMD, parseReplies, requestBytes } from '../../fake/nbd-client.js';
import { TestAuthority } from '../../tool/certificates.js';
import { suite } from '../../tool/suite.js';
import { pattern, volume } from '../frontends/nbd/session.js';

const never = new AbortController().signal;
let folder: string;
let server: NbdServer | undefined;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'keepgate-nbd-tls-'));
});
after(() => rm(folder, { recursive: true }));
afterEach(async () => {
  await server?.close();
  server = undefined;
});

async function serve(credentials: TlsCredentials): Promise<ListenAddress> {
  const log = new RecordedLog();
  const streams = new NetStreamFactory({ log });
  const directory = new MemoryDirectory(volume({ keepHistory: false }));
  server = new NbdServer({ directory, streams, clock: new SystemClock(), log, tls: 'required' });
  server.security = new TlsSecurity(credentials);
  const [bound] = await server.listen([{ kind: 'tcp', host: '127.0.0.1', port: 0 }]);
  assert(bound !== undefined);
  return bound;
}

/** One direction as the kernel does it: key 32, IV 12, number of the next record 8. */
class KernelDirection {
  readonly #bytes: Buffer;
  #next: bigint;
  constructor(bytes: Uint8Array) {
    assert.equal(bytes.length, 52);
    this.#bytes = Buffer.from(bytes);
    this.#next = this.#bytes.readBigUInt64BE(44);
  }
  #nonce(): Buffer {
    const nonce = Buffer.from(this.#bytes.subarray(32, 44));
    nonce.writeBigUInt64BE(nonce.readBigUInt64BE(4) ^ this.#next++, 4);
    return nonce;
  }
  seal(plain: Uint8Array): Buffer {
    const body = Buffer.concat([plain, Buffer.of(23)]);
    const head = Buffer.of(23, 3, 3, 0, 0);
    head.writeUInt16BE(body.length + 16, 3);
    const options = { authTagLength: 16 };
    const cipher = createCipheriv('chacha20-poly1305', this.#bytes.subarray(0, 32), this.#nonce(), options);
    cipher.setAAD(head, { plaintextLength: body.length });
    return Buffer.concat([head, cipher.update(body), cipher.final(), cipher.getAuthTag()]);
  }
  /** Throws where it is another record than the next. */
  open(record: Buffer): Buffer {
    const options = { authTagLength: 16 };
    const decipher = createDecipheriv('chacha20-poly1305', this.#bytes.subarray(0, 32), this.#nonce(), options);
    const body = record.subarray(5, -16);
    decipher.setAAD(record.subarray(0, 5), { plaintextLength: body.length });
    decipher.setAuthTag(record.subarray(-16));
    const plain = Buffer.concat([decipher.update(body), decipher.final()]);
    assert.equal(plain.at(-1), 23, 'application data');
    return plain.subarray(0, -1);
  }
}

/** Negotiates, takes the connection away from Node, and writes and reads as the kernel would. */
async function useAsKernel(address: ListenAddress, files: NbdTlsFiles): Promise<void> {
  let transmit: KernelDirection | undefined;
  let receive: KernelDirection | undefined;
  const dialer = new SystemNbdDialer(address, {
    credentials: () => readNbdTls(files),
    install: (_fd, sends, receives) => {
      transmit = new KernelDirection(sends);
      receive = new KernelDirection(receives);
    },
  });
  const connection = await dialer.dial(never);
  const { sizeBytes } = await negotiateGo(connection, 'demo');
  assert.ok(sizeBytes > 0);
  const taken = await connection.detach();
  connection.close();
  assert(transmit !== undefined && receive !== undefined);
  const socket = new Socket({ fd: taken.fd });
  const payload = Buffer.from(pattern(20_000));
  socket.write(transmit.seal(requestBytes({ type: CMD.WRITE, cookie: 1n, offset: 4096, payload }).subarray(0, 9000)));
  socket.write(transmit.seal(requestBytes({ type: CMD.WRITE, cookie: 1n, offset: 4096, payload }).subarray(9000)));
  socket.write(transmit.seal(requestBytes({ type: CMD.READ, cookie: 2n, offset: 4096, length: payload.length })));
  let wire = Buffer.alloc(0);
  let plain: Buffer = Buffer.alloc(0);
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    wire = Buffer.concat([wire, chunk]);
    while (wire.length >= 5 && wire.length >= 5 + wire.readUInt16BE(3)) {
      const end = 5 + wire.readUInt16BE(3);
      plain = Buffer.concat([plain, receive.open(wire.subarray(0, end))]);
      wire = wire.subarray(end);
    }
    if (plain.length >= 16 + 16 + payload.length) break;
  }
  const { replies } = parseReplies(plain, (cookie) => (cookie === 2n ? payload.length : 0));
  assert.deepEqual(
    replies.map(({ cookie, error }) => [cookie, error]),
    [
      [1n, 0],
      [2n, 0],
    ],
  );
  assert.ok(replies[1]?.data.equals(payload));
  socket.destroy();
}

const code = (expected: string, message?: RegExp) => (error: unknown) =>
  error instanceof GatewayError && error.code === expected && (message?.test(error.message) ?? true);

describe('TLS that the kernel carries on with', { timeout: 60_000 }, () => {
  const key = randomBytes(32);
  const keys = (name: string, bytes = key): Promise<string> => {
    const file = join(folder, `${name}.psk`);
    return writeFile(file, `alice:${bytes.toString('hex')}\n`, { mode: 0o600 }).then(() => file);
  };
  const files = (file: string, user = 'alice'): NbdTlsFiles => ({
    proof: { kind: 'pre-shared key', file, user },
    hostname: '127.0.0.1',
  });

  it('goes on record by record after a handshake with a pre-shared key', async () => {
    const address = await serve({ certificates: undefined, preSharedKeys: new Map([['alice', key]]) });
    await useAsKernel(address, files(await keys('good')));
  });

  it('is not there with another key, or for somebody who has none', async () => {
    const address = await serve({ certificates: undefined, preSharedKeys: new Map([['alice', key]]) });
    const other = await keys('other', randomBytes(32));
    await assert.rejects(useAsKernel(address, files(other)), code('tls-failed'));
    await assert.rejects(useAsKernel(address, files(other, 'bob')), code('tls-invalid', /no key of bob/));
    await chmod(other, 0o644);
    await assert.rejects(useAsKernel(address, files(other)), code('key-permissions'));
  });

  it('is not faked where the kernel has none', () => {
    assert.throws(() => installKernelTls(0, new Uint8Array(52), new Uint8Array(52)), GatewayError);
    assert.throws(() => installKernelTls(0, new Uint8Array(51), new Uint8Array(52)), RangeError);
  });
});

suite('TLS that the kernel carries on with, by certificates', ['openssl'], () => {
  it('goes on after a handshake in which both sides show theirs, and there is none with a stranger', async () => {
    const authority = await TestAuthority.create(join(folder, 'authority'));
    await authority.issueClient('alice');
    const stranger = await TestAuthority.create(join(folder, 'stranger'));
    const read = (name: string): Promise<string> => readFile(join(authority.directory, name), 'utf8');
    const address = await serve({
      certificates: {
        certificate: await read('server-cert.pem'),
        key: await read('server-key.pem'),
        clientAuthority: await read('ca-cert.pem'),
        revocations: undefined,
      },
      preSharedKeys: undefined,
    });
    const files = (directory: string, hostname: string): NbdTlsFiles => ({
      proof: { kind: 'certificates', directory },
      hostname,
    });
    await useAsKernel(address, files(authority.directory, '127.0.0.1'));
    await useAsKernel(address, files(authority.directory, 'localhost'));
    await assert.rejects(
      useAsKernel(address, files(authority.directory, 'elsewhere.example')),
      code('tls-failed', /elsewhere\.example/),
    );
    await assert.rejects(useAsKernel(address, files(stranger.directory, 'localhost')), code('tls-failed'));
    await assert.rejects(useAsKernel(address, files(folder, 'localhost')), code('tls-invalid', /ca-cert\.pem/));
  });
});

describe('what goes to the kernel', () => {
  it('is made of the traffic secret as TLS 1.3 says (RFC 8448 section 3)', () => {
    // The server's application traffic secret there is of SHA-256; the key is AES's, of 16 bytes, and begins the same.
    const secret = Buffer.from('a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643', 'hex');
    const { key, iv } = directionKeys(secret);
    assert.equal(key.length, 32);
    assert.equal(iv.toString('hex'), 'cf782b88dd83549aadf1e984');
  });

  it('counts records whatever pieces they come in', () => {
    const whole = Buffer.concat([
      Buffer.of(22, 3, 3, 0, 2, 9, 9),
      Buffer.of(20, 3, 3, 0, 1, 1),
      ...Array.from({ length: 3 }, () => Buffer.concat([Buffer.of(23, 3, 3, 0, 17), randomBytes(17)])),
    ]);
    for (const piece of [1, 2, 7, 1000]) {
      const trail = new RecordTrail();
      for (let at = 0; at < whole.length; at += piece) trail.note(whole.subarray(at, at + piece));
      assert.equal(trail.isWhole, true);
      assert.equal(trail.countOf({ key: randomBytes(32), iv: randomBytes(12) }), undefined);
      trail.note(Buffer.of(23, 3));
      assert.equal(trail.isWhole, false);
    }
  });
});
