/**
 * Who may ask what. A web page in the owner's browser must reach nothing: its requests carry a foreign Host once it
 * rebinds its name (checked here), and cannot carry the token (no CORS). Reading is open where only this machine can
 * connect; every change needs the token, and beyond loopback reading needs it too.
 */
import { isLocal, isLoopbackHost } from '../config/listen-address.js';
import type { ListenAddress } from '../config/listen-address.js';
import { pagePrefix } from './page-route.js';

const probes: ReadonlySet<string> = new Set(['/livez', '/readyz', '/healthz']);
/** The page itself says nothing of the gateway; it asks its reader for the token. */
const isPage = (route: string): boolean => route === '/' || route.startsWith(pagePrefix);

/** True for a Host header that names this gateway: loopback, or what it was told to listen on. */
export function isAllowedHost(header: string | undefined, listen: ListenAddress): boolean {
  // No browser reaches a Unix socket, and its clients send any Host.
  if (listen.kind === 'unix') return true;
  if (header === undefined) return false;
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]]+))(?::\d{1,5})?$/.exec(header);
  const name = (match?.[1] ?? match?.[2])?.toLowerCase();
  if (name === undefined) return false;
  if (isLoopbackHost(name) || name === listen.host.toLowerCase()) return true;
  // A wildcard listens on every address; an address in the Host header cannot have been rebound.
  const wildcard = listen.host === '0.0.0.0' || listen.host === '::';
  return wildcard && (/^[\d.]+$/.test(name) || name.includes(':'));
}

/** `route` as it was registered, such as "/v1/volumes/:name", never what a client wrote; undefined: there is none. */
export function needsToken(method: string, route: string | undefined, listen: ListenAddress): boolean {
  if (method !== 'GET' && method !== 'HEAD') return true;
  return !isLocal(listen) && (route === undefined || (!probes.has(route) && !isPage(route)));
}

/**
 * True for what a browser sends on behalf of a page of another site or port (Fetch Metadata, W3C), a link to the page apart.
 * It could read no answer, but would hold connections and streams. Other clients do not send the header.
 */
export function isForeign(headers: Readonly<Record<string, string | readonly string[] | undefined>>): boolean {
  const site = headers['sec-fetch-site'];
  if (site === undefined || site === 'same-origin' || site === 'none') return false;
  return headers['sec-fetch-mode'] !== 'navigate' || headers['sec-fetch-dest'] !== 'document';
}
