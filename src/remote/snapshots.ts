/**
 * The snapshots of a volume as its history tells them, and what they keep in the bucket: pure functions.
 *
 * A snapshot is an event that ends a group; it exists from the moment that group is committed until a group that says it
 * is deleted is. Its content is that of the recovery point at its group's end, its *point*. A checkpoint at exactly that
 * point, its *root*, is written before any checkpoint behind it: so whoever begins at any checkpoint finds either the
 * root named in it, or the way to the point still before him. Late snapshots (segment-event.ts) may share a point, and a
 * root.
 *
 * Births and deaths are counted in segment numbers, never in LSNs: compaction moves blocks in groups without LSNs of
 * their own, so that right behind a snapshot the moved copy would seem to belong to it, and the copy that its root names
 * would not.
 */
import { GatewayError } from '../base/errors.js';
import type { Lsn } from '../base/units.js';
import type { SegmentEvent } from './segment-event.js';
import type { ChainPoint } from './segment-point.js';

/** In a message. */
const NAMED_MAX = 20;

export interface SnapshotRoot {
  /** The checkpoint is named by this epoch and the number of the snapshot's point. */
  readonly epoch: number;
  readonly link: Uint8Array;
  /** Blocks that do not read as zero in the snapshot: its size referenced. */
  readonly mappedBlocks: number;
}

export interface Snapshot {
  readonly name: string;
  /** Of its record, which names it: no two have the same. */
  readonly lsn: Lsn;
  /** End of the group that it ends; its wall time is the snapshot's, and so is its LSN, unless the snapshot came late. */
  readonly point: ChainPoint;
  /** Of the volume then. */
  readonly sizeBytes: number;
  /** undefined: not written yet. */
  readonly root: SnapshotRoot | undefined;
}

/** What of a committed group concerns snapshots. */
export interface SnapshotGroup {
  readonly point: ChainPoint;
  readonly sizeBytes: number;
  readonly segments: readonly { readonly index: { readonly events: readonly SegmentEvent[] } }[];
}

/** The snapshots after a group, oldest first; the very list that was given when the group says nothing of any. */
export function afterGroup(snapshots: readonly Snapshot[], group: SnapshotGroup): readonly Snapshot[] {
  let after = snapshots;
  for (const { index } of group.segments) {
    for (const event of index.events) {
      if (event.kind === 'snapshot' || event.kind === 'lateSnapshot') {
        const { point, sizeBytes } = group;
        after = [...after, { name: event.name, lsn: event.lsn, point, sizeBytes, root: undefined }];
      } else if (event.kind === 'snapshotDeleted') after = without(after, event.snapshotLsn);
    }
  }
  return after;
}

function without(snapshots: readonly Snapshot[], lsn: Lsn): readonly Snapshot[] {
  return snapshots.filter((snapshot) => snapshot.lsn !== lsn);
}

/** The newest of that name. */
export function snapshotNamed(snapshots: readonly Snapshot[], name: string): Snapshot | undefined {
  return snapshots.findLast((snapshot) => snapshot.name === name);
}

/** As snapshotNamed; not-found, naming those that there are. `volume` is its name. */
export function requireSnapshot(snapshots: readonly Snapshot[], name: string, volume: string): Snapshot {
  const snapshot = snapshotNamed(snapshots, name);
  if (snapshot !== undefined) return snapshot;
  const more = snapshots.length - NAMED_MAX;
  const names = snapshots.slice(-NAMED_MAX).map((one) => one.name);
  const there = `it has ${names.join(', ')}${more > 0 ? ` and ${more} older ones` : ''}`;
  const shown = JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name);
  throw new GatewayError(
    'not-found',
    `volume ${volume} has no snapshot ${shown}: ${snapshots.length === 0 ? 'it has none' : there}`,
  );
}

/** The oldest snapshot without a root, whose point lies at or before `number`. */
export function rootless(snapshots: readonly Snapshot[], number: number): Snapshot | undefined {
  return snapshots.find(({ root, point }) => root === undefined && point.number <= number);
}
