/**
 * SANITIZE (SBC-3 4.11): all that a volume holds is made unreadable. Offered only where that can be true: a volume that
 * replicates has no sanitizer, since its bucket would keep the data.
 *
 * While one runs, and after one failed, every request to the device of every protocol is refused with volume-sanitizing.
 */
export interface SanitizeOrder {
  readonly method: 'overwrite' | 'blockErase';
  /** Of an overwrite: repeated through each logical block. Empty: zeros. */
  readonly pattern: Uint8Array;
  /** Of an overwrite, at least 1. */
  readonly passes: number;
  /** The pattern is inverted from pass to pass. */
  readonly inverts: boolean;
  /** A failure may be ended without another sanitize. */
  readonly mayExitFailure: boolean;
}

export interface VolumeSanitizer {
  /** running: also after a restart in the middle, which begins it anew. failed: until it is ended. */
  readonly state: 'none' | 'running' | 'failed';
  /** Of the one that runs: from 0 to 1. */
  readonly progress: number;
  /**
   * Requests are refused from this call on. `begun`: it goes on whatever happens to this process; rejects where it has
   * not begun at all. `ended`: whether it succeeded; never, where the gateway stops before.
   */
  begin(order: SanitizeOrder): { readonly begun: Promise<void>; readonly ended: Promise<boolean> };
  /** Serves again what is there, although it is not sanitized. False: its order did not allow that. */
  exitFailure(): Promise<boolean>;
}
