/**
 * A gateway with one volume, and the ledger of all that its clients wrote: what every crash test is made of. It uploads
 * small segments all the while, so that most deaths of the process hit some of them half-way.
 */
import assert from 'node:assert/strict';
import { readFile, rm } from 'node:fs/promises';
import { TestGateway, targetPrefix, type GatewayOptions } from '../tool/gateway.js';
import type { Finished } from '../tool/process.js';
import type { SourcePatch } from '../tool/source-patch.js';
import { IscsiClient } from './iscsi-client.js';
import { Ledger } from './ledger.js';
import { runLoad, seededNumbers, verifyAll, type BlockClient, type LoadEnd } from './load.js';
import { NbdClient } from './nbd-client.js';

export type Protocol = 'nbd' | 'iscsi';

export interface RigOptions extends Omit<GatewayOptions, 'volumes'> {
  readonly seed: number;
  readonly sizeMiB?: number;
  readonly bufferMiB?: number;
  /** throttle: what is written is uploaded, write after write. */
  readonly whenFull?: 'track' | 'throttle';
}

const volume = 'crash';
const mebibyte = 1024 * 1024;

export class CrashRig {
  readonly random: () => number;
  readonly ledger: Ledger;
  readonly volume = volume;

  private constructor(
    readonly gateway: TestGateway,
    readonly seed: number,
    sizeMiB: number,
  ) {
    this.random = seededNumbers(seed);
    this.ledger = new Ledger(sizeMiB * mebibyte);
  }

  static async start(options: RigOptions): Promise<CrashRig> {
    const { seed, sizeMiB = 32, bufferMiB = 64, whenFull = 'track', ...others } = options;
    const gateway = await TestGateway.start({
      ...others,
      volumes: [
        {
          name: volume,
          size: `${sizeMiB}MiB`,
          buffer: { size: `${bufferMiB}MiB`, whenFull },
          replicate: { interval: '100ms', segmentSize: '256KiB' },
        },
      ],
    });
    return new CrashRig(gateway, seed, sizeMiB);
  }

  /** A whole number from 1 to `max`. */
  draw(max: number): number {
    return 1 + Math.floor(this.random() * max);
  }

  connect(protocol: Protocol): Promise<BlockClient> {
    const { gateway } = this;
    return protocol === 'nbd'
      ? NbdClient.connect(gateway.nbdPort, volume)
      : IscsiClient.connect(gateway.iscsiPort, `${targetPrefix}:${volume}`, 'iqn.2026-11.test:crash');
  }

  /** Writes until `onAcknowledged` says that it is enough, or the connections are gone. */
  async load(protocol: Protocol, onAcknowledged: (count: number) => boolean): Promise<LoadEnd> {
    // One iSCSI session, several NBD connections: each is one client to a volume with exclusive access.
    const count = protocol === 'nbd' ? 3 : 1;
    const clients: BlockClient[] = [];
    for (let index = 0; index < count; index += 1) clients.push(await this.connect(protocol));
    const { ledger, random } = this;
    const end = await runLoad({
      clients,
      ledger,
      random,
      requestsPerClient: 16,
      sectorsPerWriteMax: 48,
      onAcknowledged,
    });
    for (const client of clients) client.destroy();
    return end;
  }

  /** Writes over a protocol and kills the process after so many acknowledged writes; returns how many there were. */
  async loadAndKill(protocol: Protocol, killAfter: number): Promise<number> {
    let killed: Promise<void> | undefined;
    const end = await this.load(protocol, (acknowledged) => {
      if (acknowledged === killAfter) killed = this.gateway.kill();
      return true; // The load goes on until its connections are gone.
    });
    assert(
      killed !== undefined,
      `a client failed before the kill: ${end.errors.map(String).join('; ')}\n${this.explain()}`,
    );
    await killed;
    return end.acknowledged;
  }

  /** Compares every sector with the ledger. */
  async verify(protocol: Protocol, when: string): Promise<void> {
    const client = await this.connect(protocol);
    const wrong = await verifyAll(client, this.ledger);
    client.destroy();
    assert.deepEqual(wrong, [], `${when}\n${this.explain()}`);
  }

  /** The same with the image of a directory that nobody serves: all of a volume that was just restored. */
  async verifyImage(path: string, when: string): Promise<void> {
    assert.deepEqual(this.ledger.verify(0, await readFile(path)), [], when);
  }

  /** Everything into the bucket, the process ended, the data directory deleted. */
  async loseDataDirectory(): Promise<void> {
    await this.gateway.drain(volume);
    await this.gateway.stop();
    await rm(this.gateway.dataDir, { recursive: true });
  }

  restore(options: { readonly from?: string; readonly patches?: readonly SourcePatch[] } = {}): Promise<Finished> {
    const { from = `file://${this.gateway.storeDirectory}`, patches = [] } = options;
    return this.gateway.command(['restore', volume, '--from', from, '--full', '--take-over'], { patches });
  }

  /** Belongs to every failure: how to see it again, and what the process said. */
  explain(): string {
    return `seed ${this.seed}\n${this.gateway.log()}`;
  }
}
