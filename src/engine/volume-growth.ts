/**
 * Makes a volume larger, never smaller. Its size is a record in the log, so that a recovery point knows it; clients see it
 * once that is durable.
 *
 * Invariant: one growth at a time. Of two at once the smaller one could cut off what the other one added.
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, type ByteLength } from '../base/units.js';
import type { VolumeParts } from './volume-open.js';

export interface VolumeGrowthOptions {
  readonly volume: string;
  readonly parts: Pick<VolumeParts, 'log' | 'image' | 'space' | 'size' | 'reclaimer'>;
  readonly isClosed: () => boolean;
  readonly isReadOnly: () => boolean;
  /** Appends what is staged, and acknowledges what was appended. */
  readonly commit: () => void;
  /** Makes all durable that was acknowledged. */
  readonly flush: () => Promise<unknown>;
}

export class VolumeGrowth {
  private readonly options: VolumeGrowthOptions;
  private turn: Promise<void> = Promise.resolve();

  constructor(options: VolumeGrowthOptions) {
    this.options = options;
  }

  /** Durably, once it resolves. size-invalid; read-only; volume-closed; disk-full, where its space is reserved. */
  to(sizeBytes: ByteLength): Promise<void> {
    const grown = this.turn.then(() => this.grow(sizeBytes));
    this.turn = grown.catch(() => undefined);
    return grown;
  }

  private async grow(sizeBytes: ByteLength): Promise<void> {
    const { volume, parts, isClosed, isReadOnly, commit, flush } = this.options;
    const { log, image, space, size, reclaimer } = parts;
    if (isClosed()) throw new GatewayError('volume-closed', `volume ${volume} is closing`);
    if (isReadOnly()) throw new GatewayError('read-only', `volume ${volume} is read-only`);
    if (sizeBytes % BLOCK_BYTES !== 0 || sizeBytes < size.bytes || sizeBytes > limits.volumeBytesMax) {
      throw new GatewayError(
        'size-invalid',
        `volume ${volume} has ${size.bytes} bytes and cannot get ${sizeBytes}: a volume only grows, by whole blocks of ${BLOCK_BYTES}, to ${limits.volumeBytesMax} at most`,
      );
    }
    if (sizeBytes === size.bytes) return;
    await space?.grow(size.bytes, sizeBytes);
    await image.file.truncate(sizeBytes);
    log.stageRecord('resize', 0, sizeBytes, false, false, undefined);
    commit();
    await flush();
    size.bytes = sizeBytes;
    await reclaimer.recordSoon();
  }
}
