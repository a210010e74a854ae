/** The bandwidth of a command that works on a bucket by itself: as the configuration says, its schedule included. */
import { BandwidthBudget } from '../bandwidth/budget.js';
import { BandwidthGovernor } from '../bandwidth/governor.js';
import { UNLIMITED } from '../ports/bandwidth.js';
import type { BandwidthPlan, RateLimit } from '../ports/bandwidth.js';
import type { Clock } from '../ports/clock.js';
import type { ObjectStore } from '../ports/object-store.js';
import type { Paces } from '../ports/pace.js';
import { LimitedStore } from '../remote/store-limit.js';

export interface CommandBudget {
  readonly paces: Paces;
  /** One attempt each: retries are counted. */
  limited(store: ObjectStore): ObjectStore;
  close(): void;
}

export function commandBudget(
  plan: BandwidthPlan,
  options: { readonly url: string; readonly clock: Clock },
): CommandBudget {
  const { url, clock } = options;
  // A directory has no delays from which `auto` could learn.
  const found = (limit: RateLimit): RateLimit => (limit === 'auto' && url.startsWith('file:') ? UNLIMITED : limit);
  const governor = new BandwidthGovernor({
    clock,
    plan,
    onChange: ({ upload, download }) => {
      paces.upload.setLimit(found(upload));
      paces.download.setLimit(found(download));
    },
  });
  const budget = (limit: RateLimit): BandwidthBudget =>
    new BandwidthBudget({ clock, limit: found(limit), onRate: () => undefined });
  const paces = { upload: budget(governor.limits.upload), download: budget(governor.limits.download) };
  const limits = { upload: paces.upload.admission, download: paces.download.admission };
  return {
    paces,
    limited: (store) => new LimitedStore(store, { ...limits, lane: 'command' }),
    close: () => governor.close(),
  };
}
