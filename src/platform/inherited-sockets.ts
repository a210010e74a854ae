/**
 * Sockets that the service manager listens on and hands over at the start (systemd's socket activation, sd_listen_fds(3)):
 * LISTEN_FDS of them, from descriptor 3 on, named by LISTEN_FDNAMES, and meant for the process LISTEN_PID alone. They live
 * on while the gateway restarts: clients that connect meanwhile wait instead of being refused.
 */
import { fstatSync, readFileSync } from 'node:fs';
import { GatewayError } from '../base/errors.js';
import type { InheritedSocket } from '../ports/stream.js';

const firstDescriptor = 3;
const socketsMax = 256;

/** All that carry that name. @throws GatewayError listen-refused where there is none, saying what there is */
export function inheritedSockets(
  name: string,
  setting: string,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): readonly InheritedSocket[] {
  const { LISTEN_PID: pid, LISTEN_FDS: count, LISTEN_FDNAMES: names = '' } = environment;
  const refuse = (why: string): never => {
    throw new GatewayError('listen-refused', `systemd handed over no socket named ${name} (${setting}): ${why}`);
  };
  if (pid === undefined || count === undefined) return refuse('there is no LISTEN_FDS; start it by its socket unit');
  if (Number(pid) !== process.pid) {
    return refuse(`LISTEN_PID is ${pid}, this process ${process.pid}; let the unit start node itself, without a shell`);
  }
  const given = names.split(':');
  const found: InheritedSocket[] = [];
  for (let index = 0; index < Math.min(Number(count), socketsMax); index++) {
    if ((given[index] ?? '') === name) found.push({ kind: 'inherited', name, fd: firstDescriptor + index });
  }
  if (found.length === 0)
    return refuse(`there is ${names === '' ? 'no name' : given.join(', ')} (FileDescriptorName=)`);
  return found;
}

/** Where a Unix socket listens that somebody else has bound; "" where it has no name. */
export function unixPathOf(fd: number): string {
  const { ino } = fstatSync(fd);
  // Num RefCount Protocol Flags Type St Inode Path
  for (const line of readFileSync('/proc/net/unix', 'utf8').split('\n')) {
    const match = /^\S+ \S+ \S+ \S+ \S+ \S+ +(\d+) (.+)$/.exec(line);
    if (match !== null && Number(match[1]) === ino) return match[2] ?? '';
  }
  return '';
}
