/** Time. Monotonic time decides; wall time is only shown and recorded. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Monotonic, milliseconds with a fraction. */
  nowMs(): number;
  /** Milliseconds since 1970; may jump. */
  wallMs(): number;
  /** Calls back once after delayMs; does not keep the process alive. */
  after(delayMs: number, callback: () => void): Timer;
  /** Resolves after delayMs, or rejects when the signal aborts. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}
