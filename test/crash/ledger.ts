/**
 * What a volume must hold, kept by its client: for each sector the last write that was acknowledged, and the one whose
 * answer is outstanding. After a crash a sector holds the first, or the second; anything else is lost or invented.
 *
 * A sector's contents tell which write made them: they are drawn from its address and the write's number.
 */
import assert from 'node:assert/strict';

export const sectorBytes = 512;

/** Every eighth write is a write of zeros, so that those are proven too. */
export function isZeroWrite(number: number): boolean {
  return number % 8 === 7;
}

/** What a load enters its requests in. */
export interface WriteLedger {
  readonly sectorCount: number;
  isFree(firstSector: number, count: number): boolean;
  /** Begins a write; returns its number. */
  begin(firstSector: number, count: number): number;
  /** `forced`: it was a FUA write. */
  acknowledge(firstSector: number, count: number, forced: boolean): void;
  /** Notes that a flush is issued; what it returns names the flush. */
  beginFlush(): number;
  acknowledgeFlush(begun: number): void;
}

export class Ledger implements WriteLedger {
  readonly sectorCount: number;
  private readonly acknowledged: Uint32Array;
  private readonly outstanding: Uint32Array;
  private lastNumber = 0;

  constructor(readonly sizeBytes: number) {
    this.sectorCount = sizeBytes / sectorBytes;
    this.acknowledged = new Uint32Array(this.sectorCount);
    this.outstanding = new Uint32Array(this.sectorCount);
  }

  isFree(firstSector: number, count: number): boolean {
    return this.outstanding.subarray(firstSector, firstSector + count).every((number) => number === 0);
  }

  /** Begins a write; returns its number. */
  begin(firstSector: number, count: number): number {
    assert(this.isFree(firstSector, count), 'two writes of one sector at once have no defined order');
    this.lastNumber += 1;
    this.outstanding.fill(this.lastNumber, firstSector, firstSector + count);
    return this.lastNumber;
  }

  acknowledge(firstSector: number, count: number): void {
    const end = firstSector + count;
    this.acknowledged.set(this.outstanding.subarray(firstSector, end), firstSector);
    this.outstanding.fill(0, firstSector, end);
  }

  /** A killed process loses nothing, flushed or not: flushes make no difference. */
  beginFlush(): number {
    return 0;
  }

  acknowledgeFlush(): void {
    // As above.
  }

  /**
   * Compares what was read; then what was read is what counts. Returns one line for each wrong sector, a few at most.
   */
  verify(firstSector: number, contents: Uint8Array): string[] {
    const wrong: string[] = [];
    const expected = Buffer.alloc(sectorBytes);
    for (let index = 0; index < contents.length / sectorBytes; index += 1) {
      const sector = firstSector + index;
      const found = contents.subarray(index * sectorBytes, (index + 1) * sectorBytes);
      const acknowledged = this.acknowledged[sector] ?? 0;
      const outstanding = this.outstanding[sector] ?? 0;
      this.outstanding[sector] = 0;
      fillSector(expected, sector, acknowledged);
      if (expected.equals(found)) continue;
      if (outstanding !== 0) {
        fillSector(expected, sector, outstanding);
        if (expected.equals(found)) {
          this.acknowledged[sector] = outstanding;
          continue;
        }
      }
      if (wrong.length < 5) wrong.push(this.explain(sector, found, acknowledged, outstanding));
    }
    return wrong;
  }

  private explain(sector: number, found: Uint8Array, acknowledged: number, outstanding: number): string {
    return `sector ${sector} holds ${describeSector(found)}; acknowledged is write ${acknowledged}, outstanding ${outstanding || 'none'}`;
  }
}

export function describeSector(content: Uint8Array): string {
  return content.every((byte) => byte === 0) ? 'zeros' : statedWrite(content);
}

/** Which write made these contents of a sector, by what they say. */
export function statedWrite(content: Uint8Array): string {
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  return `write ${view.getUint32(4, true)} of sector ${view.getUint32(0, true)}`;
}

/** The contents that write `number` gives `sector`: both in clear, then numbers drawn from them. */
export function fillSector(target: Uint8Array, sector: number, number: number): void {
  if (number === 0 || isZeroWrite(number)) {
    target.fill(0);
    return;
  }
  const view = new DataView(target.buffer, target.byteOffset, sectorBytes);
  view.setUint32(0, sector, true);
  view.setUint32(4, number, true);
  let state = (Math.imul(sector, 0x9e3779b1) ^ Math.imul(number, 0x85ebca6b)) | 1;
  for (let at = 8; at < sectorBytes; at += 4) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    view.setUint32(at, state, true);
  }
}

export function contentsOf(firstSector: number, count: number, number: number): Buffer {
  const contents = Buffer.alloc(count * sectorBytes);
  for (let index = 0; index < count; index += 1) {
    fillSector(contents.subarray(index * sectorBytes, (index + 1) * sectorBytes), firstSector + index, number);
  }
  return contents;
}
