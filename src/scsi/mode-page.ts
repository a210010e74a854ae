/**
 * The mode pages of a unit, their current values and which bits an initiator may change (SPC-4 7.5, SBC-3 6.5).
 *
 *   08h caching                     byte 2: WCE (bit 2)
 *   0Ah control                     byte 2: D_SENSE (bit 2), GLTSD (bit 1); byte 3: unrestricted reordering;
 *                                   byte 4: SWP (bit 3); bytes 8, 9: busy time-out unknown
 *   1Ch informational exceptions    byte 2: DEXCPT (bit 3): none are reported
 *
 * Nothing is saved: a logical unit reset brings the defaults back.
 */
interface Page {
  readonly code: number;
  readonly defaults: Uint8Array;
  readonly changeable: Uint8Array;
  readonly current: Uint8Array;
}

export const pageControl = { current: 0, changeable: 1, default: 2, saved: 3 } as const;

const CACHING = 0x08;
const CONTROL = 0x0a;
const EXCEPTIONS = 0x1c;
const WCE = 0x04;
const D_SENSE = 0x04;
const SWP = 0x08;

function page(
  code: number,
  lengthBytes: number,
  defaults: Record<number, number>,
  changeable: Record<number, number>,
): Page {
  const make = (values: Record<number, number>): Uint8Array => {
    const bytes = new Uint8Array(lengthBytes + 2);
    bytes[0] = code;
    bytes[1] = lengthBytes;
    for (const [at, value] of Object.entries(values)) bytes[Number(at)] = value;
    return bytes;
  };
  return { code, defaults: make(defaults), changeable: make(changeable), current: make(defaults) };
}

export class ModePages {
  readonly #pages: readonly Page[] = [
    page(CACHING, 0x12, { 2: WCE }, { 2: WCE }),
    page(CONTROL, 0x0a, { 2: 0x02, 3: 0x10, 8: 0xff, 9: 0xff }, { 2: D_SENSE, 4: SWP }),
    page(EXCEPTIONS, 0x0a, { 2: 0x08 }, {}),
  ];

  /** False: every write is durable before its status. */
  writeCacheEnabled = true;
  descriptorSense = false;
  softwareWriteProtect = false;

  /** The codes that there are, in the order in which "all pages" lists them. */
  codes(): readonly number[] {
    return this.#pages.map(({ code }) => code);
  }

  /** A page as MODE SENSE gives it out. */
  values(code: number, control: number): Uint8Array | undefined {
    const found = this.#pages.find((candidate) => candidate.code === code);
    if (found === undefined) return undefined;
    if (control === pageControl.changeable) return found.changeable;
    return control === pageControl.default ? found.defaults : found.current;
  }

  /** The first bit of `wanted` (a whole page) that may not be changed and was, or undefined. */
  refusedBit(wanted: Uint8Array): { readonly byte: number; readonly bit: number } | undefined {
    const found = this.#pages.find((candidate) => candidate.code === wanted[0]);
    if (found === undefined) return { byte: 0, bit: 5 };
    for (let byte = 1; byte < found.current.length; byte++) {
      const differs =
        ((wanted[byte] ?? 0) ^ (found.current[byte] ?? 0)) & (byte === 1 ? 0xff : ~(found.changeable[byte] ?? 0));
      if (differs !== 0) return { byte, bit: 31 - Math.clz32(differs & 0xff) };
    }
    return undefined;
  }

  /** Takes over a page that `refusedBit` found nothing wrong with; returns whether it changed anything. */
  select(wanted: Uint8Array): boolean {
    const found = this.#pages.find((candidate) => candidate.code === wanted[0]);
    if (found === undefined || found.current.every((value, index) => value === wanted[index])) return false;
    found.current.set(wanted);
    this.#apply();
    return true;
  }

  reset(): void {
    for (const each of this.#pages) each.current.set(each.defaults);
    this.#apply();
  }

  #apply(): void {
    this.writeCacheEnabled = ((this.values(CACHING, pageControl.current)?.[2] ?? 0) & WCE) !== 0;
    const control = this.values(CONTROL, pageControl.current);
    this.descriptorSense = ((control?.[2] ?? 0) & D_SENSE) !== 0;
    this.softwareWriteProtect = ((control?.[4] ?? 0) & SWP) !== 0;
  }
}
