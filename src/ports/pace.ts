/** How a store that sends over a network spreads bodies over time, and says how long it waited for answers. */
export interface Pace {
  /** At the moment; Infinity when nothing is to be spread. */
  readonly bytesPerSecond: number;
  /** True while samples of delay are of use. */
  readonly listens: boolean;
  /** Bodies take turns. */
  begin(): PacedBody;
  /** A delay that was seen; what it means is said by its kind. */
  sample(kind: string, delayMs: number): void;
  /** The store asked to be spared, or did not answer. */
  refused(): void;
}

export interface PacedBody {
  /** Before each piece of at most 64 KiB. undefined: at once; else wait for it. */
  pass(bytes: number, signal?: AbortSignal): Promise<void> | undefined;
  /** Its last piece was passed, and now the answer came that says that it has arrived. */
  answered(): void;
}

export interface Paces {
  readonly upload: Pace;
  readonly download: Pace;
}
