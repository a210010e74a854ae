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
  const isIn = ({ number, deadAt }: DeadObject, spans: readonly KeptSpan[]): boolean =>
    spans.some(({ from, through }) => number <= through && deadAt > from);
  return all.filter((object) => {
    const { kind, deadAt } = object;
    if (kind === 'other') return true;
    if (deadAt > lowest || isIn(object, kept)) return false;
    return kind === 'checkpoint' || !isIn(object, roots);
  });
}
