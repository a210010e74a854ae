/** Randomness: cryptographic in production, seeded in the simulation. */
export interface Random {
  bytes(count: number): Uint8Array;
  /** Uniform in [0, 1). */
  fraction(): number;
  uuid(): string;
}
