/**
 * How long writes wait when the log cannot be emptied: for the volume's fullTimeout; then those that wait fail, and so
 * does every further one at once, until there is room again.
 */
import { GatewayError } from '../base/errors.js';
import type { Clock, Timer } from '../ports/clock.js';
import type { Log as TextLog } from '../ports/log.js';

export interface WriteRefusalOptions {
  readonly volume: string;
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly log: TextLog;
  /** Writes have waited long enough. */
  readonly onRefuse: (error: GatewayError) => void;
}

export class WriteRefusal {
  /** What writes are refused with, once they are. */
  error: GatewayError | undefined;
  private readonly options: WriteRefusalOptions;
  private timer: Timer | undefined;

  constructor(options: WriteRefusalOptions) {
    this.options = options;
  }

  /** `blocker`: why writes cannot go on now; undefined when they can. */
  update(blocker: GatewayError | undefined): void {
    const { volume, clock, log, timeoutMs } = this.options;
    if (blocker === undefined) {
      this.cancel();
      this.error = undefined;
    } else if (this.timer === undefined) {
      log.warn(`volume ${volume} takes no writes: ${blocker.message}`, { volume });
      this.timer = clock.after(timeoutMs, () => {
        this.refuse(blocker);
      });
    }
  }

  cancel(): void {
    this.timer?.cancel();
    this.timer = undefined;
  }

  private refuse(blocker: GatewayError): void {
    const code = blocker.code === 'disk-full' ? 'disk-full' : 'disk-failed';
    this.error = new GatewayError(code, `volume ${this.options.volume} can take no writes: ${blocker.message}`);
    this.options.onRefuse(this.error);
  }
}
