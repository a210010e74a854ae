/**
 * Which dead objects nobody needs, as a pure function of what is known. Every object of a history has a span of recovery
 * points that need it: from its own number to before `deadAt` (born <= point < died). Whoever begins at the recovery point N,
 * and reads on from there, needs what was not dead at N.
 */
import type { ObjectNames } from './name.js';

export interface DeadObject {
  readonly name: string;
  /** other: a pin, or what is no volume's. */
  readonly kind: 'checkpoint' | 'shard' | 'segment' | 'other';
  /** Segment number in its name. */
  readonly number: number;
  /** No recovery point with this segment number, or a higher one, needs it. */
  readonly deadAt: number;
  /** The owner's running time when it was found dead. */
  readonly sinceMs: number;
}

/** What a name says about the span; undefined: nothing of its kind is ever deleted. */
export function deathOf(names: ObjectNames, name: string): Pick<DeadObject, 'name' | 'kind' | 'number'> | undefined {
  const parsed = names.parse(name);
  if (parsed === undefined) return name.startsWith(names.folder) ? undefined : { name, kind: 'other', number: 0 };
  if (parsed.kind === 'pin') return { name, kind: 'other', number: 0 };
  if (parsed.kind !== 'checkpoint' && parsed.kind !== 'shard' && parsed.kind !== 'segment') return undefined;
  return { name, kind: parsed.kind, number: parsed.number };
}

/** Recovery points that stay readable: whoever wants one of them begins at a checkpoint of `from`. */
export interface KeptSpan {
  readonly from: number;
  readonly through: number;
}

export interface Needs {
  /** Oldest recovery point that the owner itself, or a reader without a pin, may begin at. */
  readonly floor: number;
  /** The same of readers with a pin; Infinity: there is none. */
  readonly pinFloor: number;
  /** Of snapshots. */
  readonly kept: readonly KeptSpan[];
}

/**
 * Those of `dead` that nobody needs. While a checkpoint is there, dead or not, so is all that it names: that goes at the next
 * time only. So no one who lists the bucket finds a checkpoint without its shards and blocks.
 */
export function unneeded(dead: Iterable<DeadObject>, { floor, pinFloor, kept }: Needs): DeadObject[] {
  const all = [...dead];
  const roots = all
    .filter(({ kind }) => kind === 'checkpoint')
    .map(({ number }) => ({ from: number, through: number }));
  const lowest = Math.min(floor, pinFloor);
  const [isKept, isNamed] = [touching(kept), touching(roots)];
  return all.filter((object) => {
    const { kind, deadAt } = object;
    if (kind === 'other') return true;
    if (deadAt > lowest || isKept(object)) return false;
    return kind === 'checkpoint' || !isNamed(object);
  });
}

/** Whether any of the spans has a recovery point that needs an object; there may be ten thousand of them. */
function touching(spans: readonly KeptSpan[]): (object: DeadObject) => boolean {
  const ordered = spans.toSorted((left, right) => left.from - right.from);
  // Of all spans up to here.
  let last = -1;
  const through = ordered.map((span) => (last = Math.max(last, span.through)));
  return ({ number, deadAt }) => {
    const before = countBelow(ordered, ({ from }) => from < deadAt);
    return before > 0 && (through[before - 1] ?? -1) >= number;
  };
}

/** How many of an ordered list, from the first on, are so. */
function countBelow<Item>(ordered: readonly Item[], is: (item: Item) => boolean): number {
  let low = 0;
  let high = ordered.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const item = ordered[middle];
    if (item !== undefined && is(item)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * How many bytes of the bucket each snapshot alone keeps: of what is dead, what is born at or before that snapshot, died
 * behind it, and lies so with no other. `snapshots`: segment numbers of their points, ascending, one for each.
 */
export function exclusiveBytes(
  snapshots: readonly number[],
  dead: Iterable<DeadObject>,
  sizeOf: (name: string) => number | undefined,
): Map<number, number> {
  const bytes = new Map(snapshots.map((number) => [number, 0]));
  for (const { name, number, deadAt, kind } of dead) {
    if (kind === 'other') continue;
    const first = countBelow(snapshots, (point) => point < number);
    const [point, next] = [snapshots[first], snapshots[first + 1]];
    if (point === undefined || point >= deadAt || (next !== undefined && next < deadAt)) continue;
    bytes.set(point, (bytes.get(point) ?? 0) + (sizeOf(name) ?? 0));
  }
  return bytes;
}
