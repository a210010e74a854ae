/**
 * The mode pages of a unit, their current values and which bits an initiator may change (SPC-4 7.5, SBC-3 6.5).
 *
 *   08h caching                     byte 2: WCE (bit 2)
 *   0Ah control                     byte 2: D_SENSE (bit 2), GLTSD (bit 1); byte 3: unrestricted reordering;
 *                                   byte 4: SWP (bit 3); bytes 8, 9: busy time-out unknown
 *   0Ah/01h control extension       byte 4: IALUAE (bit 0): the state of a port changes, if it does, by itself
 *   1Ch informational exceptions    byte 2: DEXCPT (bit 3): none are reported
 *
 * Nothing is saved: a logical unit reset brings the defaults back.
 */
import { writeU16 } from './big-endian.js';

interface Page {
  readonly code: number;
  /** 0: the page has the short format, without a subpage code. */
  readonly subpage: number;
  readonly defaults: Uint8Array;
  readonly changeable: Uint8Array;
  readonly current: Uint8Array;
}

export const allPages = 0x3f;
export const allSubpages = 0xff;
export const pageControl = { current: 0, changeable: 1, default: 2, saved: 3 } as const;

const CACHING = 0x08;
const CONTROL = 0x0a;
const EXCEPTIONS = 0x1c;
const SUBPAGE_FORMAT = 0x40;
const WCE = 0x04;
const D_SENSE = 0x04;
const SWP = 0x08;

/** Bytes before a page's parameters: code and length; code, subpage and length in the subpage format. */
export function pageHeaderBytes(firstByte: number): number {
  return (firstByte & SUBPAGE_FORMAT) === 0 ? 2 : 4;
}

/** `lengthBytes`: of the parameters. `subpage` other than 0: a page in the subpage format (SPC-4 7.5.7). */
function page(
  { code, subpage = 0 }: { readonly code: number; readonly subpage?: number },
  lengthBytes: number,
  defaults: Record<number, number>,
  changeable: Record<number, number>,
): Page {
  const make = (values: Record<number, number>): Uint8Array => {
    const first = code | (subpage === 0 ? 0 : SUBPAGE_FORMAT);
    const bytes = new Uint8Array(pageHeaderBytes(first) + lengthBytes);
    bytes[0] = first;
    if (subpage === 0) {
      bytes[1] = lengthBytes;
    } else {
      bytes[1] = subpage;
      writeU16(bytes, 2, lengthBytes);
    }
    for (const [at, value] of Object.entries(values)) bytes[Number(at)] = value;
    return bytes;
  };
  return { code, subpage, defaults: make(defaults), changeable: make(changeable), current: make(defaults) };
}

export class ModePages {
  readonly #pages: readonly Page[] = [
    page({ code: CACHING }, 0x12, { 2: WCE }, { 2: WCE }),
    page({ code: CONTROL }, 0x0a, { 2: 0x02, 3: 0x10, 8: 0xff, 9: 0xff }, { 2: D_SENSE, 4: SWP }),
    page({ code: CONTROL, subpage: 0x01 }, 0x1c, { 4: 0x01 }, {}),
    page({ code: EXCEPTIONS }, 0x0a, { 2: 0x08 }, {}),
  ];

  /** False: every write is durable before its status. */
  writeCacheEnabled = true;
  descriptorSense = false;
  softwareWriteProtect = false;

  /** The pages that MODE SENSE asks for, as it gives them out; `allPages`, `allSubpages` stand for every one (SPC-4 table 167). */
  select(code: number, subpage: number, control: number): Uint8Array[] {
    return this.#pages
      .filter((each) => code === allPages || each.code === code)
      .filter((each) => subpage === allSubpages || each.subpage === subpage)
      .map((each) => values(each, control));
  }

  /** The first bit of `wanted` (a whole page) that may not be changed and was, or undefined. */
  refusedBit(wanted: Uint8Array): { readonly byte: number; readonly bit: number } | undefined {
    const found = this.#find(wanted);
    if (found === undefined) return { byte: 0, bit: 5 };
    const headerBytes = pageHeaderBytes(wanted[0] ?? 0);
    for (let byte = 1; byte < found.current.length; byte++) {
      const mayChange = byte < headerBytes ? 0 : (found.changeable[byte] ?? 0);
      const differs = ((wanted[byte] ?? 0) ^ (found.current[byte] ?? 0)) & ~mayChange;
      if (differs !== 0) return { byte, bit: 31 - Math.clz32(differs & 0xff) };
    }
    return undefined;
  }

  /** Takes over a page that `refusedBit` found nothing wrong with; returns whether it changed anything. */
  change(wanted: Uint8Array): boolean {
    const found = this.#find(wanted);
    if (found === undefined || found.current.every((value, index) => value === wanted[index])) return false;
    found.current.set(wanted);
    this.#apply();
    return true;
  }

  reset(): void {
    for (const each of this.#pages) each.current.set(each.defaults);
    this.#apply();
  }

  /** The page that a parameter list's page is meant for. */
  #find(wanted: Uint8Array): Page | undefined {
    const isSubpage = ((wanted[0] ?? 0) & SUBPAGE_FORMAT) !== 0;
    return this.#pages.find(
      ({ current, subpage }) => current[0] === wanted[0] && (!isSubpage || subpage === wanted[1]),
    );
  }

  #apply(): void {
    const [caching] = this.select(CACHING, 0, pageControl.current);
    const [control] = this.select(CONTROL, 0, pageControl.current);
    this.writeCacheEnabled = ((caching?.[2] ?? 0) & WCE) !== 0;
    this.descriptorSense = ((control?.[2] ?? 0) & D_SENSE) !== 0;
    this.softwareWriteProtect = ((control?.[4] ?? 0) & SWP) !== 0;
  }
}

function values(page: Page, control: number): Uint8Array {
  if (control === pageControl.changeable) return page.changeable;
  return control === pageControl.default ? page.defaults : page.current;
}
