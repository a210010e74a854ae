/**
 * Certificates for tests, made with the openssl command under the names that nbdkit, libnbd and QEMU look for:
 * ca-cert.pem, server-*.pem and client-*.pem in one directory; and a file of pre-shared keys as psktool writes it.
 */
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { requiredTool } from './clients.js';
import { run } from './process.js';

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** An authority of its own: the certificates of one directory mean nothing to another. */
export class TestAuthority {
  private constructor(readonly directory: string) {}

  static async create(directory: string): Promise<TestAuthority> {
    await mkdir(directory, { recursive: true });
    const authority = new TestAuthority(directory);
    const self = ['req', '-x509', ...newKey, '-days', '36500', '-subj', '/CN=test authority'];
    await authority.#openssl([...self, '-keyout', 'ca-key.pem', '-out', 'ca-cert.pem']);
    await authority.#issue('server', '/CN=localhost', 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1');
    return authority;
  }

  /** client-cert.pem and client-key.pem of that common name, in place of those before. */
  async issueClient(name: string): Promise<void> {
    await this.#issue('client', `/CN=${name}`, 'extendedKeyUsage=clientAuth');
  }

  async #issue(who: 'server' | 'client', subject: string, extension: string): Promise<void> {
    await writeFile(join(this.directory, 'extension'), `${extension}\n`);
    await this.#openssl(['req', ...newKey, '-subj', subject, '-keyout', `${who}-key.pem`, '-out', 'request.pem']);
    await this.#openssl([
      ...['x509', '-req', '-in', 'request.pem', '-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial'],
      ...['-days', '36500', '-extfile', 'extension', '-out', `${who}-cert.pem`],
    ]);
    await chmod(join(this.directory, `${who}-key.pem`), 0o600);
  }

  async #openssl(args: readonly string[]): Promise<void> {
    await run(requiredTool('openssl'), args, { cwd: this.directory });
  }
}

/** A key for each user, of 32 bytes. */
export async function writePreSharedKeys(path: string, users: readonly string[]): Promise<void> {
  const lines = users.map((user) => `${user}:${randomBytes(32).toString('hex')}\n`);
  await writeFile(path, lines.join(''), { mode: 0o600 });
}
