/**
 * A small S3 for tests, over HTTP, with its objects in a directory: whole objects, ranges, listings in pages, and
 * conditional PUTs, which exclude each other. One bucket, whatever it is called; credentials are not looked at: what the
 * store forbids, it forbids everybody.
 */
import { mkdir, mkdtemp, open, readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

interface Stored {
  readonly path: string;
  readonly lengthBytes: number;
  readonly modified: string;
}

export interface DiskS3Request {
  /** A GET of the bucket itself is a LIST. */
  readonly method: 'PUT' | 'GET' | 'HEAD' | 'LIST' | 'DELETE';
  /** Without the bucket; of a LIST its prefix. */
  readonly key: string;
}

export interface DiskS3 {
  readonly endpoint: string;
  readonly port: number;
  /** Keys, without the bucket. */
  keys(): readonly string[];
  /** Every request so far, in the order in which they came. */
  readonly requests: readonly DiskS3Request[];
  stop(): Promise<void>;
}

export interface DiskS3Options {
  /** Answers every DELETE like this instead of carrying it out. */
  readonly refuseDeletes?: readonly [status: number, code: string];
  /** Forbids the reading of what is not there, as a store does for those who may not list. */
  readonly hideAbsent?: boolean;
}

export async function startDiskS3({ refuseDeletes, hideAbsent }: DiskS3Options = {}): Promise<DiskS3> {
  const directory = await mkdtemp(join(tmpdir(), 'keepgate-s3-'));
  await mkdir(directory, { recursive: true });
  const objects = new Map<string, Stored>();
  const requests: DiskS3Request[] = [];
  let files = 0;

  const put = async (key: string, request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await bodyOf(request);
    if (body.length !== Number(request.headers['content-length'] ?? 0)) return void response.destroy();
    const path = join(directory, `${(files += 1)}`);
    await writeFile(path, body);
    // From here to the entry nothing else runs: of several conditional PUTs one wins.
    if (request.headers['if-none-match'] === '*' && objects.has(key)) {
      await unlink(path);
      return fail(response, 412, 'PreconditionFailed');
    }
    const before = objects.get(key);
    objects.set(key, { path, lengthBytes: body.length, modified: new Date().toISOString() });
    if (before !== undefined) await unlink(before.path);
    response.writeHead(200, { etag: '"0"' }).end();
  };

  const get = async (key: string, request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const object = objects.get(key);
    if (object === undefined && hideAbsent === true) return fail(response, 403, 'AccessDenied');
    if (object === undefined) return fail(response, 404, 'NoSuchKey');
    const { lengthBytes } = object;
    const modified = new Date(object.modified).toUTCString();
    if (request.method === 'HEAD') {
      response.writeHead(200, { 'content-length': lengthBytes, 'last-modified': modified }).end();
      return;
    }
    const match = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    if (match === null) {
      response.writeHead(200, { 'content-length': lengthBytes }).end(await readFile(object.path));
      return;
    }
    const start = Number(match[1]);
    if (start >= lengthBytes) return fail(response, 416, 'InvalidRange');
    const part = Buffer.alloc(Math.min(Number(match[2]), lengthBytes - 1) - start + 1);
    const file = await open(object.path);
    await file.read(part, 0, part.length, start);
    await file.close();
    const range = `bytes ${start}-${start + part.length - 1}/${lengthBytes}`;
    response.writeHead(206, { 'content-length': part.length, 'content-range': range }).end(part);
  };

  const list = (query: URLSearchParams, response: ServerResponse): void => {
    const prefix = query.get('prefix') ?? '';
    const after = query.get('continuation-token') ?? query.get('start-after') ?? '';
    const max = Number(query.get('max-keys') ?? 1000);
    const keys = [...objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
    const page = keys.slice(0, max);
    const truncated = keys.length > max;
    const entries = page.map((key) => {
      const object = objects.get(key);
      return `<Contents><Key>${key}</Key><Size>${object?.lengthBytes ?? 0}</Size><LastModified>${object?.modified ?? ''}</LastModified></Contents>`;
    });
    const next = truncated ? `<NextContinuationToken>${page.at(-1) ?? ''}</NextContinuationToken>` : '';
    response.writeHead(200, { 'content-type': 'application/xml' });
    response.end(
      `<?xml version="1.0"?><ListBucketResult><IsTruncated>${truncated}</IsTruncated>${entries.join('')}${next}</ListBucketResult>`,
    );
  };

  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const [, , ...rest] = decodeURIComponent(url.pathname).split('/');
    const key = rest.join('/');
    const isList = request.method === 'GET' && key === '';
    requests.push({
      method: (isList ? 'LIST' : request.method) as DiskS3Request['method'],
      key: isList ? (url.searchParams.get('prefix') ?? '') : key,
    });
    const answer = async (): Promise<void> => {
      if (request.method === 'PUT') return put(key, request, response);
      if (request.method === 'DELETE') {
        if (refuseDeletes !== undefined) return fail(response, ...refuseDeletes);
        const object = objects.get(key);
        objects.delete(key);
        if (object !== undefined) await unlink(object.path);
        response.writeHead(204).end();
        return;
      }
      if (key === '') return list(url.searchParams, response);
      return get(key, request, response);
    };
    answer().catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    port,
    keys: () => [...objects.keys()],
    requests,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function fail(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'content-type': 'application/xml' });
  response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>no</Message></Error>`);
}
