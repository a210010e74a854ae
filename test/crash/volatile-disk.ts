/**
 * A disk with a write-back cache that forgets: what was written since the last flush is held in memory, sector by
 * sector, every version of it. A power cut keeps of each such sector, at random, what was durable or any version that
 * was written later; 512 bytes are old or new, anything longer may be mixed (the assumption of docs/durability.md).
 *
 * What is durable stands in a file. Everything is synchronous, so that a cut falls between two requests and never into one.
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';

const sectorBytes = 512;

export interface CutReport {
  /** Unflushed sectors of which a version survived, and of which none did. */
  readonly kept: number;
  readonly dropped: number;
}

export class VolatileDisk {
  private readonly file: number;
  /** By sector: what was written since the last flush, oldest first. */
  private unflushed = new Map<number, Uint8Array[]>();
  flushes = 0;

  constructor(
    path: string,
    readonly sizeBytes: number,
  ) {
    this.file = openSync(path, 'r+');
  }

  read(offset: number, lengthBytes: number): Buffer {
    const content = Buffer.alloc(lengthBytes);
    readSync(this.file, content, 0, lengthBytes, offset);
    for (let at = 0; at < lengthBytes; at += sectorBytes) {
      const newest = this.unflushed.get((offset + at) / sectorBytes)?.at(-1);
      if (newest !== undefined) content.set(newest, at);
    }
    return content;
  }

  /** `data` is kept, not copied. */
  write(offset: number, data: Uint8Array): void {
    for (let at = 0; at < data.length; at += sectorBytes) {
      const sector = (offset + at) / sectorBytes;
      const version = data.subarray(at, at + sectorBytes);
      const versions = this.unflushed.get(sector);
      if (versions === undefined) this.unflushed.set(sector, [version]);
      else versions.push(version);
    }
  }

  /** Makes durable everything that was written until now. */
  flush(): void {
    this.flushes += 1;
    for (const [sector, versions] of this.unflushed) this.keep(sector, versions.at(-1));
    this.unflushed = new Map();
  }

  /** `survival`: the probability with which anything at all of an unflushed sector survives. */
  cutPower(random: () => number, survival: number): CutReport {
    let kept = 0;
    let dropped = 0;
    for (const [sector, versions] of this.unflushed) {
      if (random() < survival) {
        // Mostly the newest; a cache may as well have written out an older one and not yet the newer.
        const at = random() < 0.8 ? versions.length - 1 : Math.floor(random() * versions.length);
        this.keep(sector, versions[at]);
        kept += 1;
      } else {
        dropped += 1;
      }
    }
    this.unflushed = new Map();
    return { kept, dropped };
  }

  close(): void {
    closeSync(this.file);
  }

  private keep(sector: number, content: Uint8Array | undefined): void {
    if (content !== undefined) writeSync(this.file, content, 0, sectorBytes, sector * sectorBytes);
  }
}
