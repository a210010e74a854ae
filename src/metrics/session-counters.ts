/** Logins and rejections of clients, counted where volumes are handed out. */
export class SessionCounters {
  readonly #logins = new Map<string, number>();
  readonly #rejections = new Map<string, { frontend: string; reason: string; count: number }>();

  login(frontend: string): void {
    this.#logins.set(frontend, (this.#logins.get(frontend) ?? 0) + 1);
  }

  /** `reason` is an error code, so that the label set stays small. */
  reject(frontend: string, reason: string): void {
    const key = `${frontend} ${reason}`;
    const entry = this.#rejections.get(key) ?? { frontend, reason, count: 0 };
    entry.count++;
    this.#rejections.set(key, entry);
  }

  logins(frontend: string): number {
    return this.#logins.get(frontend) ?? 0;
  }

  rejections(): Iterable<{ readonly frontend: string; readonly reason: string; readonly count: number }> {
    return this.#rejections.values();
  }
}
