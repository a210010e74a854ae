import type { Socket } from 'node:net';

/** The file descriptor of a connection, for what Node cannot ask the kernel. Node has no public name for it; undefined where there is none (yet). */
export function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as { readonly _handle?: { readonly fd?: number } | null };
  return handle?.fd !== undefined && handle.fd >= 0 ? handle.fd : undefined;
}
