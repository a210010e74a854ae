/** How a store that sends over a network spreads bodies over time, and says how long it waited for answers. */
export interface Pace {
  /** At the moment; Infinity when nothing is to be spread. */
  readonly bytesPerSecond: number;
  /** True while samples of delay are of use. */
  readonly listens: boolean;
  /** A name for one body; bodies take turns. */
  begin(): string;
  /** Before each piece of at most 64 KiB. undefined: at once; else wait for it. */
  pass(request: string, bytes: number, signal?: AbortSignal): Promise<void> | undefined;
  /** A delay that was seen; what it means is said by its kind. */
  sample(kind: string, delayMs: number): void;
  /** The store asked to be spared, or did not answer. */
  refused(): void;
}

export interface Paces {
  readonly upload: Pace;
  readonly download: Pace;
}
