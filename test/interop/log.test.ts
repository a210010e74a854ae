/** What a running gateway writes to its log: a line for each request at debug alone, and never a secret. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'node:test';
import { NbdClient } from '../crash/nbd-client.js';
import { requiredTool } from '../tool/clients.js';
import { freePorts } from '../tool/free-port.js';
import { TestGateway } from '../tool/gateway.js';
import { attempt, eventually } from '../tool/process.js';
import { suite } from '../tool/suite.js';

const disk = { name: 'disk', size: '16MiB', buffer: { size: '64MiB' }, replicate: { interval: '100ms' } };

interface Line {
  readonly level: string;
  readonly module?: string;
  readonly [field: string]: unknown;
}

const linesOf = (gateway: TestGateway): Line[] =>
  gateway
    .log()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);

const requests = (gateway: TestGateway): Line[] =>
  linesOf(gateway).filter(({ module }) => module?.endsWith('.request') === true);

suite('the log of a gateway', ['iscsi-inq'], () => {
  it('has one line for each request, and only where request=debug asks for it', async () => {
    const gateway = await TestGateway.start({ volumes: [disk], env: { KEEPGATE_LOG_LEVEL: 'warn,request=debug' } });
    try {
      const work = async (): Promise<void> => {
        const client = await NbdClient.connect(gateway.nbdPort, 'disk');
        await client.write(4096, Buffer.alloc(8192, 1));
        await client.read(0, 4096);
        await client.flush();
        await client.close();
        await gateway.api('/v1/volumes/disk?token=not-for-the-log');
      };
      await work();
      await eventually('the API has its line', () => requests(gateway).some(({ path }) => path === '/v1/volumes/disk'));
      const nbd = requests(gateway).filter(({ frontend }) => frontend === 'nbd');
      assert.deepEqual(
        nbd.map(({ level, module, volume, op, lengthBytes, msg }) => ({ level, module, volume, op, lengthBytes, msg })),
        (
          [
            ['write', 8192],
            ['read', 4096],
            ['flush', 0],
          ] as const
        ).map(([op, lengthBytes]) => {
          return { level: 'debug', module: 'volume.request', volume: 'disk', op, lengthBytes, msg: 'request' };
        }),
      );
      const [asked] = requests(gateway).filter(({ path }) => path === '/v1/volumes/disk');
      assert.deepEqual([asked?.['method'], asked?.['status'], asked?.module], ['GET', 200, 'api.request']);
      assert.doesNotMatch(gateway.log(), /not-for-the-log/);
      await gateway.stop();

      const { length } = linesOf(gateway);
      assert.ok(length > 0);
      await gateway.startAgain({ env: { KEEPGATE_LOG_LEVEL: 'debug,request=info' } });
      await work();
      await eventually('it was attached', () => linesOf(gateway).some(({ msg }) => msg === 'attached'));
      assert.deepEqual(requests(gateway), []);
    } finally {
      await gateway.dispose();
    }
  });

  it('never has a secret, with everything said and everything going wrong', async () => {
    const chap = 'the-secret-of-alice';
    const wrong = 'the-secret-of-nobody';
    const awsSecret = 'the-secret-of-the-bucket';
    const gateway = await TestGateway.start({ volumes: [disk] });
    try {
      await gateway.drain('disk');
      await gateway.stop();
      const secretFile = join(gateway.folder, 'chap');
      await writeFile(secretFile, chap, { mode: 0o600 });
      const [port = 0] = await freePorts(1);
      await gateway.startAgain({
        volumes: [{ ...disk, iscsi: { initiators: [], chap: { user: 'alice', secretFile } } }],
        store: { url: 's3://bucket/prefix', endpoint: `http://127.0.0.1:${port}`, forcePathStyle: true },
        env: { AWS_ACCESS_KEY_ID: 'somebody', AWS_SECRET_ACCESS_KEY: awsSecret, KEEPGATE_LOG_LEVEL: 'debug' },
      });
      const url = gateway.iscsiUrl('disk');
      const inquire = (secret: string) =>
        attempt(requiredTool('iscsi-inq'), [url.replace('//', `//alice%${secret}@`)], {});
      assert.equal((await inquire(chap)).status, 0);
      assert.notEqual((await inquire(wrong)).status, 0);
      const token = (await readFile(join(gateway.dataDir, 'api-token'), 'utf8')).trim();
      const put = (bearer: string) =>
        fetch(`${gateway.apiUrl}/v1/bandwidth`, {
          method: 'PUT',
          headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
          body: JSON.stringify({ upload: '5Mbit/s' }),
        });
      assert.equal((await put(token)).status, 200);
      assert.equal((await put('a-guessed-token')).status, 401);
      await eventually('the store is missed', async () => (await gateway.metric('keepgate_store_errors_total')) > 0);
      const key = (await readFile(gateway.keyFile, 'utf8')).trim();
      const log = gateway.log();
      assert.match(log, /a login was refused/);
      assert.match(log, /bandwidth changed/);
      for (const secret of [chap, wrong, awsSecret, token, 'a-guessed-token', key])
        assert.ok(!log.includes(secret), `${secret} is in the log:\n${log}`);
    } finally {
      await gateway.dispose();
    }
  });
});
