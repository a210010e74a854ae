import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { openReceiptOutlet } from '../../../src/platform/receipt-outlet.js';

const failed = (error: unknown) => error instanceof GatewayError && error.code === 'receipt-outlet-failed';

describe('a receipt’s place in a file', () => {
  it('is replaced whole, and read back', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-receipt-'));
    try {
      const path = join(folder, 'disk0.receipt');
      const outlet = openReceiptOutlet(path, 'PUT');
      assert.equal(await outlet.readBack(), undefined);
      await outlet.publish('one\n');
      // What a crash left of an earlier try is in nobody's way.
      await writeFile(`${path}.new`, 'half');
      await outlet.publish('two\n');
      assert.equal(await outlet.readBack(), 'two\n');
      assert.equal(await readFile(path, 'utf8'), 'two\n');
      assert.deepEqual(await readdir(folder), ['disk0.receipt']);
      await assert.rejects(openReceiptOutlet(join(folder, 'no/where'), 'PUT').publish('x'), GatewayError);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe('a receipt’s place behind a URL', () => {
  it('is put or posted, read back by GET, and says what fails without showing a password', async () => {
    const seen: string[] = [];
    let stored: string | undefined;
    let broken = false;
    const server = createServer((request, response) => {
      let body = '';
      request.on('data', (part: Buffer) => (body += part.toString()));
      request.on('end', () => {
        seen.push(`${request.method ?? ''} ${body}`);
        if (broken) response.writeHead(500).end();
        else if (request.method === 'GET') response.writeHead(stored === undefined ? 404 : 200).end(stored);
        else {
          stored = body;
          response.writeHead(204).end();
        }
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    try {
      const outlet = openReceiptOutlet(`http://127.0.0.1:${port}/r?token=secret`, 'PUT');
      assert.equal(await outlet.readBack(), undefined);
      await outlet.publish('one\n');
      assert.equal(await outlet.readBack(), 'one\n');
      const poster = openReceiptOutlet(`http://127.0.0.1:${port}/r`, 'POST');
      await poster.publish('two\n');
      assert.equal(await poster.readBack(), undefined, 'what collects need not give back');
      assert.deepEqual(seen, ['GET ', 'PUT one\n', 'GET ', 'POST two\n']);
      stored = 'x'.repeat(5000);
      await assert.rejects(outlet.readBack(), failed);
      broken = true;
      for (const attempt of [outlet.publish('three\n'), outlet.readBack()]) {
        await assert.rejects(attempt, (error: Error) => failed(error) && !error.message.includes('secret'));
      }
    } finally {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
    await assert.rejects(openReceiptOutlet(`http://127.0.0.1:${port}/r`, 'PUT').publish('x'), failed);
  });
});
