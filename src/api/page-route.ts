/**
 * The status page at `/`: static files, read once at the start. They hold nothing of this gateway, so that a browser gets
 * them without a token where reading wants one; what they show they ask for like any other client.
 */
import type { FastifyInstance } from 'fastify';

export interface PageFile {
  readonly contentType: string;
  readonly content: Buffer;
}

/** By name in src/page: "index.html", "page.js". */
export type PageFiles = ReadonlyMap<string, PageFile>;

const policy = {
  'default-src': "'none'",
  'script-src': "'self'",
  'style-src': "'self'",
  'img-src': "'self'",
  'connect-src': "'self'",
  'base-uri': "'none'",
  'form-action': "'none'",
  'frame-ancestors': "'none'",
};

export const pageHeaders = {
  'content-security-policy': Object.entries(policy)
    .map(([directive, source]) => `${directive} ${source}`)
    .join('; '),
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-cache',
};

export const pagePrefix = '/page/';

/** No route of the API: the document does not have them. */
export function addPageRoutes(app: FastifyInstance, files: PageFiles): void {
  for (const [name, { contentType, content }] of files) {
    const url = name === 'index.html' ? '/' : `${pagePrefix}${name}`;
    app.get(url, { schema: { hide: true } }, (_, reply) => reply.headers(pageHeaders).type(contentType).send(content));
  }
}
