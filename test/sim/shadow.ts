/**
 * The shadow of one volume: it knows every record that went into the log, what each block was after it, and so every
 * state that the volume may be in. It judges each record against what clients asked for, each read, each recovery (P1)
 * and each restore (P2). Records are read from the bytes that the disk was given, by docs/formats.md alone.
 */
import type { Inode } from './inode.js';

export const BLOCK = 4096;

/** Found something that must never be. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

export interface ClientWrite {
  readonly kind: 'write' | 'trim' | 'zero';
  readonly offset: number;
  readonly lengthBytes: number;
  /** undefined: zeros. */
  readonly bytes: Uint8Array | undefined;
}

interface Outstanding extends ClientWrite {
  readonly first: number;
  readonly end: number;
  /** Blocks that have a record. */
  readonly recorded: Set<number>;
  readonly zeros: boolean;
  lastLsn: number;
}

export type Ticket = Outstanding;

interface Version {
  readonly lsn: number;
  readonly page: Uint8Array;
}

interface Batch {
  readonly file: Inode;
  /** Its name when the batch was written: a file that was renamed since is used again. */
  readonly path: string | undefined;
  readonly position: number;
  readonly lengthBytes: number;
  readonly lastLsn: number;
}

const zeroPage = new Uint8Array(BLOCK);
const kinds = { write: 1, trim: 2, zero: 3, resize: 4, snapshot: 5 } as const;

export interface ShadowOptions {
  readonly sizeBytes: number;
  /** What a restored volume begins with, and the LSN of its recovery point. */
  readonly base?: { readonly contents: Uint8Array; readonly lsn: number };
  /** Where a file of the disk is now. */
  readonly pathOf: (file: Inode) => string | undefined;
  /** Writes may go astray, so that what lies in a batch's place says nothing about it. */
  readonly astray: boolean;
}

export class Shadow {
  /** Newest record in the log. */
  appendedLsn: number;
  /** A scrub in this life heals the bucket: the gateway may write a block again as it is. */
  rewrites = false;
  /** A process kill must keep everything up to here: acknowledged, or seen by a read. */
  promisedLsn: number;
  /** A power loss must keep everything up to here: flushed, or acknowledged with FUA. */
  durableLsn: number;
  /** Acknowledged snapshots whose end nobody asked for, and their LSNs. */
  readonly snapshots = new Map<string, number>();
  private highestLsn: number;
  /** What batches say to be durable. */
  private claims: { readonly lsn: number; readonly durableLsn: number }[] = [];
  /** The first crash since the volume was last judged. */
  private death: { readonly atLsn: number; readonly powerLost: boolean } | undefined;
  private readonly options: ShadowOptions;
  private readonly versions = new Map<number, Version[]>();
  private readonly baseLsn: number;
  private outstanding: Outstanding[] = [];
  /** Ends of batches: the states that a crash may leave. */
  private cuts: number[];
  private sizes: { readonly lsn: number; readonly sizeBytes: number }[];
  /** Batches that were not yet seen to be on the platter. */
  private undurable: Batch[] = [];

  constructor(options: ShadowOptions) {
    this.options = options;
    const { base } = options;
    this.baseLsn = base?.lsn ?? 0;
    this.appendedLsn = this.promisedLsn = this.durableLsn = this.highestLsn = this.baseLsn;
    this.cuts = [this.baseLsn];
    this.sizes = [{ lsn: this.baseLsn, sizeBytes: options.sizeBytes }];
    if (base === undefined) return;
    for (let block = 0; block * BLOCK < base.contents.length; block++) {
      const page = base.contents.slice(block * BLOCK, (block + 1) * BLOCK);
      if (Buffer.compare(page, zeroPage) !== 0) this.versions.set(block, [{ lsn: this.baseLsn, page }]);
    }
  }

  get sizeBytes(): number {
    return this.sizes.at(-1)?.sizeBytes ?? 0;
  }

  // Clients

  /** A client hands a write over; its records may come from now on. */
  begin(write: ClientWrite): Ticket {
    const first = Math.floor(write.offset / BLOCK);
    const end = Math.ceil((write.offset + write.lengthBytes) / BLOCK);
    const zeros = write.bytes?.every((byte) => byte === 0) ?? true;
    const ticket = { ...write, first, end, recorded: new Set<number>(), zeros, lastLsn: 0 };
    this.outstanding.push(ticket);
    return ticket;
  }

  acknowledged(ticket: Ticket, forceUnitAccess: boolean): void {
    this.forget(ticket);
    if (ticket.recorded.size !== ticket.end - ticket.first)
      throw new Violation(`${describe(ticket)} was acknowledged before it was in the log`);
    this.promisedLsn = Math.max(this.promisedLsn, ticket.lastLsn);
    if (forceUnitAccess) this.flushed(ticket.lastLsn, `${describe(ticket)} with FUA`);
  }

  /** Nothing came over the blocks of an update between what it saw and what it wrote. */
  judgeUpdate(ticket: Ticket, seenLsn: number): void {
    for (let block = ticket.first; block < ticket.end; block++) {
      const between = this.versions.get(block)?.find(({ lsn }) => lsn > seenLsn && lsn < ticket.lastLsn);
      if (between !== undefined)
        throw new Violation(
          `${describe(ticket)} saw block ${block} before LSN ${between.lsn}, and was written behind it`,
        );
    }
  }

  /** Of two requests that make the same block zero at once, records could not tell which one they belong to. */
  zeroesAlready({ offset, lengthBytes, bytes }: ClientWrite): boolean {
    if (bytes?.some((byte) => byte !== 0) === true) return false;
    return this.outstanding.some(
      (other) => other.zeros && other.first * BLOCK < offset + lengthBytes && offset < other.end * BLOCK,
    );
  }

  /** The request was refused or failed: nothing more of it may come. */
  forget(ticket: Ticket): void {
    this.outstanding = this.outstanding.filter((other) => other !== ticket);
  }

  /** A flush was acknowledged that was asked for when `promisedLsn` was `lsn`. */
  flushed(lsn: number, what = 'a flush'): void {
    if (lsn <= this.durableLsn) return;
    this.checkDurable(lsn, what);
    this.durableLsn = lsn;
  }

  /** A snapshot was acknowledged that was asked for when `promisedLsn` was `promisedLsn`. */
  snapshotTaken(name: string, lsn: number, promisedLsn: number): void {
    if (lsn <= promisedLsn)
      throw new Violation(`snapshot ${name} is LSN ${lsn}, and LSN ${promisedLsn} was acknowledged before its call`);
    if (lsn > this.appendedLsn) throw new Violation(`snapshot ${name} is LSN ${lsn}, which is not in the log`);
    this.flushed(lsn, `snapshot ${name}`);
    this.snapshots.set(name, lsn);
  }

  /** Everything up to lsn must have reached the platter. */
  checkDurable(lsn: number, what: string): void {
    while (this.undurable[0] !== undefined && this.undurable[0].lastLsn <= lsn) {
      const { file, path, position, lengthBytes, lastLsn } = this.undurable[0];
      // What a file held that is used again is in the image.
      if (!this.options.astray && this.options.pathOf(file) === path && !file.isDurable(position, lengthBytes))
        throw new Violation(`${what} says that LSN ${lsn} is durable, and the batch of LSN ${lastLsn} is not`);
      this.undurable.shift();
    }
  }

  /** A read that began when `appendedLsn` was `fromLsn` gave these bytes. */
  judgeRead(offset: number, bytes: Uint8Array, fromLsn: number): void {
    for (let at = offset; at < offset + bytes.length;) {
      const block = Math.floor(at / BLOCK);
      const until = Math.min(offset + bytes.length, (block + 1) * BLOCK);
      const found = bytes.subarray(at - offset, until - offset);
      const admissible = this.versionsFrom(block, fromLsn);
      const seen = admissible.find(
        ({ page }) => Buffer.compare(page.subarray(at - block * BLOCK, until - block * BLOCK), found) === 0,
      );
      if (seen === undefined)
        throw new Violation(
          `a read of block ${block} from LSN ${fromLsn} on gave ${sample(found)}; admissible: ${admissible.map(({ lsn, page }) => `LSN ${lsn} ${sample(page.subarray(at - block * BLOCK))}`).join(', ')}`,
        );
      this.promisedLsn = Math.max(this.promisedLsn, seen.lsn);
      at = until;
    }
  }

  /** The blocks of these bytes were said to be zero, in answer to a question that was asked when `appendedLsn` was `fromLsn`. */
  judgeZero(offset: number, lengthBytes: number, fromLsn: number): void {
    const end = Math.ceil((offset + lengthBytes) / BLOCK);
    for (let block = Math.floor(offset / BLOCK); block < end; block++) {
      const admissible = this.versionsFrom(block, fromLsn);
      if (!admissible.some(({ page }) => Buffer.compare(page, zeroPage) === 0))
        throw new Violation(
          `block ${block} was said to be zero from LSN ${fromLsn} on; admissible: ${admissible.map(({ lsn, page }) => `LSN ${lsn} ${sample(page)}`).join(', ')}`,
        );
    }
  }

  // The log

  /** A batch was written to a log file; one that `failed` may be there or not, and nobody may hear of it. */
  appended(file: Inode, bytes: Uint8Array, position: number, failed: boolean): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (view.getUint32(0, true) !== 0x424c_474b) throw new Violation('the log was given something that is no batch');
    const u64 = (at: number): number => Number(view.getBigUint64(at, true));
    const firstLsn = u64(16);
    this.checkDurable(u64(24), `the batch of LSN ${firstLsn}`);
    this.claims.push({ lsn: firstLsn, durableLsn: u64(24) });
    if (firstLsn <= this.highestLsn) throw new Violation(`LSN ${firstLsn} is used again, after ${this.highestLsn}`);
    if (firstLsn <= this.appendedLsn) this.neverWas(firstLsn);
    const count = view.getUint32(40, true);
    let payloadAt = view.getUint16(6, true) * BLOCK;
    for (let i = 0; i < count; i++) {
      const d = 64 + 32 * i;
      const kind = view.getUint8(d);
      const blocks = view.getUint32(d + 4, true);
      const payload = bytes.subarray(payloadAt, payloadAt + blocks * BLOCK);
      payloadAt += blocks * BLOCK;
      if (kind === kinds.write) this.record('write', firstLsn + i, u64(d + 8), blocks, payload);
      else if (kind === kinds.trim) this.record('trim', firstLsn + i, u64(d + 8), u64(d + 16), undefined);
      else if (kind === kinds.zero) this.record('zero', firstLsn + i, u64(d + 8), u64(d + 16), undefined);
      else if (kind === kinds.resize) this.sizes.push({ lsn: firstLsn + i, sizeBytes: u64(d + 16) });
    }
    const lastLsn = firstLsn + count - 1;
    // An epoch that was lost before it counted may begin at the same place again.
    const data = Object.values(kinds).some((kind) => kind === view.getUint8(64));
    if (!failed && data) this.highestLsn = lastLsn;
    this.appendedLsn = lastLsn;
    this.cuts.push(lastLsn);
    this.undurable.push({ file, path: this.options.pathOf(file), position, lengthBytes: bytes.length, lastLsn });
  }

  /** The batch that failed is not there: its LSNs are given out once more. */
  private neverWas(fromLsn: number): void {
    const lasts = (entry: { readonly lsn: number }): boolean => entry.lsn < fromLsn;
    for (const [block, versions] of this.versions) this.versions.set(block, versions.filter(lasts));
    this.cuts = this.cuts.filter((cut) => cut < fromLsn);
    this.sizes = this.sizes.filter(lasts);
    if (this.death !== undefined) this.death = { ...this.death, atLsn: Math.min(this.death.atLsn, fromLsn - 1) };
  }

  /** One record: it must be what a client asked for, laid over what was there. */
  private record(
    kind: ClientWrite['kind'],
    lsn: number,
    first: number,
    count: number,
    payload: Uint8Array | undefined,
  ): void {
    const asked = this.outstanding.find((ticket) => this.fits(ticket, kind, first, count, payload));
    if (asked === undefined && this.isRewrite(kind, first, count, payload)) {
      this.put(first, lsn, new Uint8Array(payload ?? zeroPage));
      return;
    }
    if (asked === undefined)
      throw new Violation(
        `the ${kind} of LSN ${lsn}, blocks ${first} to ${first + count}, is nothing that a client asked for`,
      );
    for (let block = first; block < first + count; block++) {
      asked.recorded.add(block);
      const at = (block - first) * BLOCK;
      this.put(block, lsn, payload === undefined ? zeroPage : new Uint8Array(payload.subarray(at, at + BLOCK)));
    }
    asked.lastLsn = lsn;
  }

  /** One block, exactly as every record before left it. */
  private isRewrite(kind: ClientWrite['kind'], block: number, count: number, payload: Uint8Array | undefined): boolean {
    if (!this.rewrites || kind !== 'write' || count !== 1 || payload === undefined) return false;
    return Buffer.compare(this.pageAt(block, Infinity), payload) === 0;
  }

  private fits(
    ticket: Outstanding,
    kind: ClientWrite['kind'],
    first: number,
    count: number,
    payload: Uint8Array | undefined,
  ): boolean {
    if (first < ticket.first || first + count > ticket.end) return false;
    // The ends of a trim or zero that are no whole blocks are ordinary writes.
    if (kind !== ticket.kind && !(kind === 'write' && ticket.kind !== 'write')) return false;
    for (let block = first; block < first + count; block++) {
      if (ticket.recorded.has(block)) return false;
      const whole = ticket.offset <= block * BLOCK && ticket.offset + ticket.lengthBytes >= (block + 1) * BLOCK;
      if (payload === undefined) {
        if (!whole) return false;
        continue;
      }
      const found = payload.subarray((block - first) * BLOCK, (block - first + 1) * BLOCK);
      if (Buffer.compare(this.laidOver(ticket, block), found) !== 0) return false;
    }
    return true;
  }

  /** A block as a write leaves it. */
  private laidOver(ticket: Outstanding, block: number): Uint8Array {
    const start = block * BLOCK;
    const from = Math.max(ticket.offset, start);
    const to = Math.min(ticket.offset + ticket.lengthBytes, start + BLOCK);
    const data = ticket.bytes?.subarray(from - ticket.offset, to - ticket.offset) ?? zeroPage.subarray(0, to - from);
    if (to - from === BLOCK) return data;
    const page = new Uint8Array(this.pageAt(block, Infinity));
    page.set(data, from - start);
    return page;
  }

  // Crashes and restores

  /** The process, or the machine, is gone: what was outstanding will not come any more. */
  died(powerLost: boolean): void {
    this.outstanding = [];
    this.rewrites = false;
    this.undurable = [];
    // A crash during a recovery adds to the one before.
    this.death ??= { atLsn: this.appendedLsn, powerLost };
    if (powerLost) this.death = { ...this.death, powerLost };
  }

  /**
   * After a crash the volume has these contents: a state of the log that keeps all that was promised. Whatever is newer
   * never was. `keeps`: what a process kill keeps: everything; after a failed sync only what was flushed; where bits
   * rot, what a later durable record says to be durable (a rotten last one looks as if it was never finished).
   */
  judgeRecovery(
    contents: Uint8Array,
    keeps: 'all' | 'flushed' | 'claimed',
    unreadable: ReadonlySet<number> = new Set(),
  ): void {
    const { atLsn, powerLost } = this.death ?? { atLsn: this.appendedLsn, powerLost: false };
    this.death = undefined;
    const flushedLsn = keeps === 'claimed' ? this.claimedLsn() : this.durableLsn;
    const leastLsn = powerLost || keeps !== 'all' ? flushedLsn : this.promisedLsn;
    // An opening may have grown the volume before anybody read it.
    const grown = this.sizes.some(({ lsn, sizeBytes }) => lsn > atLsn && sizeBytes === contents.length);
    const fitsSize = (sizeBytes: number): boolean =>
      grown ? sizeBytes < contents.length : sizeBytes === contents.length;
    const lsn = this.match('the recovered volume', contents, leastLsn, atLsn, fitsSize, unreadable);
    const lasts = (entry: { readonly lsn: number }): boolean => entry.lsn <= lsn || entry.lsn > atLsn;
    for (const [block, versions] of this.versions) this.versions.set(block, versions.filter(lasts));
    this.cuts = this.cuts.filter((cut) => cut <= lsn || cut > atLsn);
    this.sizes = this.sizes.filter(lasts);
    this.promisedLsn = this.durableLsn = lsn;
    // The opening wrote a superblock that says so.
    this.claims = [{ lsn, durableLsn: lsn }];
  }

  /** What a durable batch says to be durable. */
  private claimedLsn(): number {
    const durable = this.claims.filter(({ lsn }) => lsn <= this.durableLsn);
    return Math.max(this.baseLsn, ...durable.map(({ durableLsn }) => durableLsn));
  }

  /** A restore gave these contents and said that they are the state at `lsn`. */
  judgeRestore(contents: Uint8Array, lsn: number, lost: ReadonlySet<number> = new Set()): void {
    this.checkDurable(Math.min(lsn, this.appendedLsn), 'the bucket');
    this.match('what the bucket gives back', contents, lsn, lsn, (size) => size === contents.length, lost);
  }

  /** Of a machine that is cloned while it is off. */
  clone(pathOf: ShadowOptions['pathOf']): Shadow {
    const copy = new Shadow({ ...this.options, pathOf });
    for (const [block, versions] of this.versions) copy.versions.set(block, [...versions]);
    for (const [name, lsn] of this.snapshots) copy.snapshots.set(name, lsn);
    copy.cuts = [...this.cuts];
    copy.sizes = [...this.sizes];
    copy.appendedLsn = this.appendedLsn;
    copy.promisedLsn = this.promisedLsn;
    copy.durableLsn = this.durableLsn;
    copy.highestLsn = this.highestLsn;
    copy.claims = [...this.claims];
    copy.death = this.death;
    return copy;
  }

  private match(
    what: string,
    contents: Uint8Array,
    leastLsn: number,
    mostLsn: number,
    fitsSize: (sizeBytes: number) => boolean,
    unknown: ReadonlySet<number>,
  ): number {
    let candidates = this.cuts.filter((cut) => cut >= leastLsn && cut <= mostLsn && fitsSize(this.sizeAt(cut)));
    const explain = (why: string): Violation =>
      new Violation(
        `${what} (${contents.length} bytes) is no state of the volume from LSN ${leastLsn} to ${mostLsn}: ${why}`,
      );
    if (candidates.length === 0) throw explain('none has this size');
    for (let block = 0; block * BLOCK < contents.length; block++) {
      if (unknown.has(block)) continue;
      const found = contents.subarray(block * BLOCK, (block + 1) * BLOCK);
      const versions = this.versions.get(block) ?? [];
      const before = candidates;
      const equal = versions.map(({ page }) => Buffer.compare(page, found) === 0);
      const atFirst = Buffer.compare(zeroPage, found) === 0;
      if (equal.every(Boolean) && atFirst) continue;
      candidates = candidates.filter((cut) => {
        const index = lastAtMost(versions, cut);
        return index < 0 ? atFirst : equal[index];
      });
      if (candidates.length === 0)
        throw explain(
          `block ${block} holds ${sample(found)} (${versions
            .map(({ lsn }, i) => `LSN ${lsn}${equal[i] === true ? ' =' : ''}`)
            .join(', ')}); before it LSNs ${before[0]} to ${before.at(-1)} were left`,
        );
    }
    return candidates.at(-1) ?? 0;
  }

  private sizeAt(lsn: number): number {
    return this.sizes[lastAtMost(this.sizes, lsn)]?.sizeBytes ?? 0;
  }

  private put(block: number, lsn: number, page: Uint8Array): void {
    const versions = this.versions.get(block);
    if (versions === undefined) this.versions.set(block, [{ lsn, page }]);
    else versions.push({ lsn, page });
  }

  private pageAt(block: number, lsn: number): Uint8Array {
    const versions = this.versions.get(block) ?? [];
    return versions[lastAtMost(versions, lsn)]?.page ?? zeroPage;
  }

  /**
   * Blocks that records after `lsn`, up to `throughLsn`, made different from what they were at `lsn`. Where they left a block as
   * it was, a power cut may have taken them all, which its contents cannot tell.
   */
  changedWithin(lsn: number, throughLsn: number): number[] {
    return [...this.versions.keys()].filter(
      (block) => Buffer.compare(this.pageAt(block, throughLsn), this.pageAt(block, lsn)) !== 0,
    );
  }

  private versionsFrom(block: number, lsn: number): Version[] {
    const versions = this.versions.get(block) ?? [];
    const index = lastAtMost(versions, lsn);
    return index < 0 ? [{ lsn: this.baseLsn, page: zeroPage }, ...versions] : versions.slice(index);
  }
}

function lastAtMost(entries: readonly { readonly lsn: number }[], lsn: number): number {
  let index = entries.length - 1;
  while (index >= 0 && (entries[index]?.lsn ?? 0) > lsn) index--;
  return index;
}

function describe({ kind, offset, lengthBytes }: ClientWrite): string {
  return `the ${kind} of bytes ${offset} to ${offset + lengthBytes}`;
}

function sample(bytes: Uint8Array): string {
  return Buffer.from(bytes.subarray(0, 16)).toString('hex');
}

/** The payload of a client's write: each aligned 8 bytes name the write and their block. */
export function payloadOf(id: number, offset: number, lengthBytes: number): Buffer {
  const firstBlock = Math.floor(offset / BLOCK);
  const endBlock = Math.ceil((offset + lengthBytes) / BLOCK);
  const whole = Buffer.alloc((endBlock - firstBlock) * BLOCK);
  const mark = Buffer.alloc(8);
  for (let block = firstBlock; block < endBlock; block++) {
    mark.writeUInt32LE(id, 0);
    mark.writeUInt32LE(block + 1, 4);
    const at = (block - firstBlock) * BLOCK;
    whole.fill(mark, at, at + BLOCK);
  }
  const start = offset - firstBlock * BLOCK;
  return whole.subarray(start, start + lengthBytes);
}
