/**
 * An owner whose machine is lost at the very moment at which its fence is in the bucket. It has committed nothing, so the
 * owner before it, once it meets the fence, must be able to go on by `takeover`, and lose nothing.
 */
import { decodeHeader } from '../../src/remote/seal-header.js';
import type { SimHost } from './host.js';
import type { Scheduler } from './scheduler.js';
import { Violation } from './shadow.js';
import type { SimBucket } from './store.js';

const patienceMs = 3_600_000;

export class LostOwner {
  private readonly bucket: SimBucket;
  private readonly scheduler: Scheduler;
  private readonly lost = new Set<SimHost>();
  private heir: SimHost | undefined;

  constructor(bucket: SimBucket, scheduler: Scheduler) {
    this.bucket = bucket;
    this.scheduler = scheduler;
  }

  /** `newcomer`, which has sent nothing yet, is lost with its first fence; then `onLost` is called. */
  arm(newcomer: SimHost, before: SimHost, onLost: () => void): void {
    const { bucket, lost } = this;
    bucket.onStored = (key, body, life) => {
      if (life !== newcomer.life || !newcomer.alive || !key.includes('/segments/')) return;
      // Whatever it is, from here on it owns the volume.
      bucket.onStored = () => undefined;
      if (decodeHeader(key, body).kind !== 'fence') return;
      newcomer.kill();
      lost.add(newcomer);
      this.heir = before;
      onLost();
    };
  }

  /** Another one owns the volume, or may. */
  forget(): void {
    this.bucket.onStored = () => undefined;
    this.heir = undefined;
  }

  has(host: SimHost): boolean {
    return this.lost.has(host);
  }

  /** Nobody has owned the volume since but the lost one. */
  mayBeSucceededBy(host: SimHost): boolean {
    return host === this.heir && host.alive;
  }

  /** Where this host was fenced by the lost one: takes over, which must succeed. Whether it did. */
  async takenOverBy(host: SimHost): Promise<boolean> {
    const { gateway, life } = host;
    if (host !== this.heir || !host.alive || gateway?.status().state !== 'fenced') return false;
    const gone = new Promise<boolean>((resolve) => life?.onDeath(() => resolve(false)));
    const taken = gateway.takeOver().then(
      () => {
        if (host.alive && gateway.status().state === 'fenced') throw new Violation(`${host.name} stays fenced`);
        return true;
      },
      (error: unknown) => {
        if (!host.alive || host !== this.heir) return false;
        throw new Violation(`${host.name} could not take over from one that committed nothing: ${String(error)}`);
      },
    );
    const tooLong = this.scheduler.sleep(patienceMs).then(() => {
      throw new Violation(`the take-over by ${host.name} does not end`);
    });
    return Promise.race([gone, taken, tooLong]);
  }
}
