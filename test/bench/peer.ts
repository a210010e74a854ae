/**
 * The servers that the gateway is measured beside: each serves an image of its own, of random bytes, on the disk on
 * which the gateway's data lies, pinned to the server's processor.
 */
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect } from 'node:net';
import { once } from 'node:events';
import { requiredTool } from '../tool/clients.js';
import { freePorts } from '../tool/free-port.js';
import { eventually, run, startService, type Service } from '../tool/process.js';

/** Servers run on one processor, clients on the other, so that neither takes the other's time. */
export const serverProcessor = ['taskset', '-c', '0'] as const;
export const clientProcessor = ['taskset', '-c', '1'] as const;

export interface Peer {
  readonly name: string;
  readonly url: string;
  readonly pid: number;
}

export interface Peers {
  readonly nbd: readonly Peer[];
  readonly iscsi: readonly Peer[];
  stop(): Promise<void>;
}

export async function startPeers(folder: string, source: string): Promise<Peers> {
  const services: Service[] = [];
  const nbdServerPidFile = join(folder, 'nbd-server.pid');
  const stop = async (): Promise<void> => {
    // tgtd does not end on SIGTERM while it has a target.
    for (const service of services) await service.stop('SIGKILL');
    const daemon = await readFile(nbdServerPidFile, 'utf8').catch(() => undefined);
    if (daemon !== undefined) process.kill(Number(daemon), 'SIGKILL');
  };
  const image = async (name: string): Promise<string> => {
    const path = join(folder, `${name}.img`);
    await copyFile(source, path);
    return path;
  };
  const start: Start = (args, env) => {
    const [program, ...rest] = [...serverProcessor, ...args];
    const service = startService(program, rest, { env }); // taskset becomes what it starts.
    services.push(service);
    return service.pid;
  };
  try {
    const [nbdkitPort = 0, qemuPort = 0, nbdServerPort = 0, tgtPort = 0] = await freePorts(4);
    const nbdServerSettings = join(folder, 'nbd-server.conf');
    return {
      nbd: [
        await startNbdkit(start, await image('nbdkit'), nbdkitPort),
        await startQemuNbd(start, await image('qemu-nbd'), qemuPort),
        await startNbdServer(nbdServerPidFile, nbdServerSettings, await image('nbd-server'), nbdServerPort),
      ],
      iscsi: [await startTgt(start, await image('tgt'), tgtPort)],
      stop,
    };
  } catch (error) {
    const outputs = services.map((service) => service.output()).join('\n');
    await stop();
    throw new Error(`a peer did not start\n${outputs}`, { cause: error });
  }
}

/** Returns the process. */
type Start = (args: readonly string[], env: Readonly<Record<string, string>>) => number;

async function startNbdkit(start: Start, image: string, port: number): Promise<Peer> {
  const { path, env } = requiredTool('nbdkit');
  const pid = start([path, '-f', '-i', '127.0.0.1', '-p', String(port), 'file', image], env);
  await listening(port);
  return { name: 'nbdkit', url: `nbd://127.0.0.1:${port}/`, pid };
}

async function startQemuNbd(start: Start, image: string, port: number): Promise<Peer> {
  const { path, env } = requiredTool('qemu-nbd');
  const address = ['-b', '127.0.0.1', '-p', String(port)];
  const pid = start([path, '-f', 'raw', ...address, '-e', '16', '-t', '--cache=writeback', image], env);
  await listening(port);
  return { name: 'qemu-nbd', url: `nbd://127.0.0.1:${port}/`, pid };
}

/** It forks into the background: what it does in the foreground serves one client only. */
async function startNbdServer(pidFile: string, configuration: string, image: string, port: number): Promise<Peer> {
  const { path, env } = requiredTool('nbd-server');
  await writeFile(
    configuration,
    `[generic]\nport = ${port}\nlistenaddr = 127.0.0.1\n[bench]\nexportname = ${image}\nflush = true\nfua = true\n`,
  );
  const [program, ...before] = serverProcessor;
  await run({ path: program, env }, [...before, path, '-C', configuration, '-p', pidFile]);
  await listening(port);
  const pid = Number(await readFile(pidFile, 'utf8'));
  return { name: 'nbd-server', url: `nbd://127.0.0.1:${port}/bench`, pid };
}

async function startTgt(start: Start, image: string, port: number): Promise<Peer> {
  const { path, env } = requiredTool('tgtd');
  const control = String((port % 32_000) + 1); // Its control socket is named by a number, up to 32767.
  const target = 'iqn.2026-11.io.keepgate.bench:tgt';
  const pid = start([path, '-f', '--control-port', control, '--iscsi', `portal=127.0.0.1:${port}`], env);
  await listening(port);
  const administer = (args: readonly string[]): Promise<string> =>
    run(requiredTool('tgtadm'), ['--control-port', control, '--lld', 'iscsi', ...args]);
  await administer(['--op', 'new', '--mode', 'target', '--tid', '1', '-T', target]);
  await administer(['--op', 'new', '--mode', 'logicalunit', '--tid', '1', '--lun', '1', '-b', image]);
  await administer(['--op', 'bind', '--mode', 'target', '--tid', '1', '-I', 'ALL']);
  return { name: 'tgt', url: `iscsi://127.0.0.1:${port}/${target}/1`, pid };
}

async function listening(port: number): Promise<void> {
  await eventually(`port ${port} answers`, async () => {
    const socket = connect(port, '127.0.0.1');
    try {
      await once(socket, 'connect');
      return true;
    } catch {
      return false;
    } finally {
      socket.destroy();
    }
  });
}
