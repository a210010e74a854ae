/**
 * This machine's /dev/nbdN: the NbdDevice port over generic netlink (nbd-netlink.ts) and sysfs.
 *
 * The request time-out that netlink sets (NBD_ATTR_TIMEOUT) stays 0: any other also limits how long a request may wait to
 * be sent, so that a gateway that throttles writes would lose its connection. queue/io_timeout of sysfs is set instead,
 * which only says when the kernel looks after a request that was sent; netlink resets it, so it is written after.
 */
import { constants } from 'node:fs';
import { open, readFile, readdir, writeFile } from 'node:fs/promises';
import { constants as systemConstants } from 'node:os';
import { GatewayError } from '../base/errors.js';
import type { Log } from '../ports/log.js';
import type { AttachSettings, ConnectedSocket, NbdDevice, Patience } from '../ports/nbd-device.js';
import { loadAddon } from './addon.js';
import type { NetlinkLink } from './addon.js';
import { deadIndex, encodeSettings, isConnected, nbdCommand, nbdFamily } from './nbd-netlink.js';
import type { NbdSettings } from './nbd-netlink.js';

const { errno } = systemConstants;
const SECTOR_BYTES = 512;

/** "/dev/nbd3" or "nbd3": 3. @throws GatewayError config-invalid */
export function parseDeviceName(text: string): number {
  const found = /^(?:\/dev\/)?nbd(\d{1,7})$/.exec(text);
  if (found === null) throw new GatewayError('config-invalid', `"${text}" is no NBD device: it looks like /dev/nbd0`);
  return Number(found[1]);
}

export class KernelNbdDevice implements NbdDevice {
  readonly name: string;
  readonly #index: number;
  readonly #link: NetlinkLink;
  readonly #log: Log;
  /** What the device was attached with; undefined: not read yet, or another program did it. */
  #backend: string | undefined;

  private constructor(index: number, link: NetlinkLink, log: Log) {
    this.name = `nbd${index}`;
    this.#index = index;
    this.#link = link;
    this.#log = log;
  }

  /** @throws GatewayError not-supported where the kernel has no NBD client */
  static open(index: number, log: Log): KernelNbdDevice {
    const link = loadAddon().openNetlink(nbdFamily.name, nbdFamily.group);
    if (typeof link !== 'number') return new KernelNbdDevice(index, link, log);
    if (link === -errno.ENOENT) {
      throw new GatewayError('not-supported', 'this kernel has no NBD client: load it with `modprobe nbd`');
    }
    throw failed('open netlink', link);
  }

  /** Ends what onDead began; the device stays as it is. */
  close(): void {
    loadAddon().cancelNetlink(this.#link);
  }

  async isAttached(): Promise<boolean> {
    return isConnected(await this.#send(nbdCommand.status, {}), this.#index);
  }

  async sizeBytes(): Promise<number> {
    return Number(await this.#read('size')) * SECTOR_BYTES;
  }

  async isReadOnly(): Promise<boolean> {
    return (await this.#read('ro')) === '1';
  }

  async connectionsMin(): Promise<number> {
    // One queue for each connection, but no more than processors.
    const queues = await readdir(`/sys/block/${this.name}/mq`).catch(() => []);
    return Math.max(1, queues.length);
  }

  async backend(): Promise<string | undefined> {
    const text = await this.#read('backend').catch(() => '');
    this.#backend = text === '' ? undefined : text;
    return this.#backend;
  }

  async isInUse(): Promise<boolean> {
    try {
      const device = await open(`/dev/${this.name}`, constants.O_RDONLY | constants.O_EXCL);
      await device.close();
      return false;
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EBUSY') return true;
      throw error;
    }
  }

  async attach(settings: AttachSettings): Promise<void> {
    const { sockets, sizeBytes, flags, backend, patience } = settings;
    await this.#send(nbdCommand.connect, {
      sizeBytes,
      blockSizeBytes: SECTOR_BYTES,
      serverFlags: flags,
      timeoutSeconds: 0,
      deadConnectionSeconds: patience.deadConnectionSeconds,
      backend,
      sockets: sockets.map(({ fd }) => fd),
    });
    await this.backend();
    await this.#setRequestTimeout(patience.requestMs);
  }

  async setPatience({ deadConnectionSeconds, requestMs }: Patience): Promise<void> {
    await this.#reconfigure({ timeoutSeconds: 0, deadConnectionSeconds });
    await this.#setRequestTimeout(requestMs);
  }

  async replaceDead(socket: ConnectedSocket): Promise<void> {
    await this.#reconfigure({ sockets: [socket.fd] });
  }

  async setSize(sizeBytes: number): Promise<void> {
    await this.#reconfigure({ sizeBytes });
  }

  async detach(): Promise<void> {
    await this.#send(nbdCommand.disconnect, {});
  }

  onDead(callback: (which: 'one' | 'all') => void): void {
    const watch = async (): Promise<void> => {
      for (;;) {
        const message = await loadAddon().netlinkNext(this.#link);
        if (message === -errno.ECANCELED) return;
        if (typeof message === 'number') {
          if (message !== -errno.ENOBUFS)
            this.#log.warn(`messages of the kernel: ${failed('receive', message).message}`);
          callback('all');
        } else if (message[0] === nbdCommand.linkDead && deadIndex(message.subarray(1)) === this.#index) {
          callback('one');
        }
      }
    };
    void watch();
  }

  #reconfigure(settings: Omit<NbdSettings, 'index'>): Promise<Uint8Array> {
    return this.#send(nbdCommand.reconfigure, {
      ...settings,
      ...(this.#backend === undefined ? {} : { backend: this.#backend }),
    });
  }

  async #send(command: number, settings: Omit<NbdSettings, 'index'>): Promise<Uint8Array> {
    const attributes = encodeSettings({ index: this.#index, ...settings });
    const answer = await loadAddon().netlinkRequest(this.#link, command, nbdFamily.version, attributes);
    if (typeof answer !== 'number') return answer;
    if (answer === -errno.EPERM) {
      throw new GatewayError('not-supported', `changing /dev/${this.name} needs root (CAP_SYS_ADMIN)`);
    }
    if (answer === -errno.EBUSY) {
      throw new GatewayError('config-invalid', `/dev/${this.name} is attached already: choose another device`);
    }
    if (answer === -errno.EINVAL && command === nbdCommand.reconfigure) {
      throw new GatewayError(
        'gateway-unreachable',
        `the kernel does not change /dev/${this.name}: it is not attached, or was attached without netlink (nbd-client -nonetlink)`,
      );
    }
    throw failed(`change /dev/${this.name}`, answer);
  }

  async #setRequestTimeout(timeoutMs: number): Promise<void> {
    const path = `/sys/block/${this.name}/queue/io_timeout`;
    await writeFile(path, String(timeoutMs)).catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      this.#log.warn(`${path} cannot be written (${reason}): what is in flight at a restart waits for 30 s`);
    });
  }

  /** A device that is detached may take its files with it. */
  async #read(name: string): Promise<string> {
    const path = `/sys/block/${this.name}/${name}`;
    try {
      return (await readFile(path, 'utf8')).trim();
    } catch (cause) {
      throw new GatewayError('gateway-unreachable', `${path} cannot be read: /dev/${this.name} is gone`, { cause });
    }
  }
}

function failed(what: string, result: number): GatewayError {
  return new GatewayError('gateway-unreachable', `cannot ${what}: ${loadAddon().errorText(-result)}`);
}
