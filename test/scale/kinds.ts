/** Requests to a bucket, counted by operation and by what they are about. */
import type { DiskS3Request } from '../fake/disk-s3.js';
import type { StoreCall } from '../fake/memory-store.js';

/** "put segments", "list pins", "get volume" … */
export type Counts = ReadonlyMap<string, number>;

export function countKinds(requests: readonly (DiskS3Request | StoreCall)[]): Counts {
  const counts = new Map<string, number>();
  for (const request of requests) {
    const operation = 'method' in request ? request.method.toLowerCase() : request.operation;
    const kind = `${operation} ${aboutOf(request.key)}`;
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return counts;
}

function aboutOf(key: string): string {
  if (/(^|\/)probe-/.test(key)) return 'probe';
  const [, folder, about = 'everything'] = /(^|\/)[0-9a-f-]{36}\/(\w+)?/.exec(key) ?? [];
  return folder === undefined ? 'volumes' : about;
}

/** All of one operation, or of what begins so. */
export function total(counts: Counts, prefix: string): number {
  return [...counts].filter(([kind]) => kind.startsWith(prefix)).reduce((sum, [, count]) => sum + count, 0);
}
