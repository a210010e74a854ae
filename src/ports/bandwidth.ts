/**
 * What a gateway may send and fetch, as the configuration, the API and the replication thread speak of it. Rates are
 * bytes per second of object bodies, for the whole gateway.
 */

/** No limit. */
export const UNLIMITED = Infinity;

/** Bytes per second (more than 0), UNLIMITED, or 'auto': found by latency. */
export type RateLimit = number | 'auto';

export interface RateLimits {
  readonly upload: RateLimit;
  readonly download: RateLimit;
}

/** Part of each week, by the wall clock of the plan's time zone. */
export interface BandwidthWindow {
  /** 0 is Sunday. The days on which it begins; it may end on the day after. */
  readonly days: readonly number[];
  /** Minutes since midnight, 0 to 1439. */
  readonly fromMinute: number;
  /** 1 to 1440, excluded. At or below fromMinute: on the next day. */
  readonly toMinute: number;
  /** undefined: as the plan says outside of its windows. */
  readonly upload: RateLimit | undefined;
  readonly download: RateLimit | undefined;
}

export interface BandwidthPlan extends RateLimits {
  /** A name of the IANA time zone database. */
  readonly timezone: string;
  /** The first that holds decides. */
  readonly schedule: readonly BandwidthWindow[];
}

/** What the API shows of one direction. */
export interface BandwidthReport {
  readonly limit: RateLimit;
  /** Who set it. */
  readonly by: 'configuration' | 'schedule' | 'api';
  /** What holds at the moment: what 'auto' has found, else the limit. */
  readonly bytesPerSecond: number;
}

export interface BandwidthReports {
  readonly upload: BandwidthReport;
  readonly download: BandwidthReport;
}

/** undefined: as it was; null: what the configuration says again. */
export interface BandwidthChange {
  readonly upload?: RateLimit | null;
  readonly download?: RateLimit | null;
}
