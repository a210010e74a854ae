/**
 * Whether a bucket's history contains a receipt, asked at every start: the newest receipt known is what the bucket must
 * reach. A history is read from the newest checkpoint that lies at or before all that must be met, to its end.
 */
import { equalBytes } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import { keyText, samePoint } from './chain.js';
import { walkFromCheckpoint } from './chain-walk.js';
import type { Checkpoint } from './checkpoint.js';
import type { SegmentKey } from './name.js';
import { deletedSince } from './ownership.js';
import { missingText } from './receipt.js';
import type { Receipt } from './receipt.js';
import { checkpointFrom, listCheckpoints, readCheckpoint } from './restore-checkpoint.js';
import type { ObjectSealer } from './seal.js';
import type { ChainPoint } from './segment-point.js';

export interface ProofOptions {
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly request: StoreRequest;
  readonly log: Log;
  readonly createdSizeBytes: number;
}

/** Whether a checkpoint itself proves that its history contains a receipt. */
export function vouches(checkpoint: Checkpoint, receipt: ChainPoint): boolean {
  return (
    samePoint(checkpoint.recoveryPoint, receipt) ||
    checkpoint.receipts.some((issued) => samePoint(issued, receipt)) ||
    checkpoint.epochs.some(({ epoch, firstNumber, link }) => isThat(receipt, { epoch, number: firstNumber }, link))
  );
}

export function isThat(
  receipt: ChainPoint,
  key: { readonly epoch: number; readonly number: number },
  link: Uint8Array,
): boolean {
  return receipt.epoch === key.epoch && receipt.number === key.number && equalBytes(receipt.link, link);
}

/** What is wrong with a history that ends at `end` and did not meet the receipt. */
export function unmet(end: ChainPoint, receipt: ChainPoint): GatewayError {
  const message =
    end.number < receipt.number
      ? `the bucket is older than the receipt: ${missingText(end, receipt)}`
      : `the bucket’s history, which ends at segment ${keyText(end)}, does not descend from the receipt’s ${keyText(receipt)}`;
  return new GatewayError('receipt-unmet', message);
}

/**
 * Throws receipt-unmet unless one history in the bucket contains both the receipt and `head`, the newest segment that
 * the directory knows (number 0: none); remote-ahead where that cannot be told any more, since it went on without this
 * directory.
 */
export async function proveReceipt(
  receipt: Receipt,
  head: Pick<ChainPoint, 'epoch' | 'number' | 'link'>,
  options: ProofOptions,
): Promise<void> {
  const start = await checkpointBefore(receipt, head.number === 0 ? Infinity : head.number, options);
  let met = start !== undefined && vouches(start, receipt);
  let headMet =
    head.number === 0 || (start?.recoveryPoint.number === head.number && isThat(start.recoveryPoint, head, head.link));
  const end = await walkFromCheckpoint(start, {
    ...options,
    visit: ({ segments }) => {
      met ||= segments.some(({ key, link }) => isThat(receipt, key, link));
      headMet ||= segments.some(({ key, link }) => isThat({ ...head, lsn: 0, wallMs: 0 }, key, link));
    },
  });
  if (met && headMet) return;
  if (head.number > 0 && end.chain.lastGroup.number < head.number) await refuseDeleted(head, options);
  throw unmet(end.chain.lastGroup, receipt);
}

/** The way to the directory's head may be gone because its history went on: another owner needs it no more. */
async function refuseDeleted(head: SegmentKey, { store, sealer, request }: ProofOptions): Promise<void> {
  const ahead = await checkpointFrom(store, sealer, head.number, request);
  if (ahead <= head.number) return;
  const refusal = deletedSince(head, ahead);
  throw new GatewayError(refusal.code, refusal.reason);
}

/** Where the bucket's history ends now, as far as it can be read; undefined: it cannot. For messages. */
export async function historyEnd(options: ProofOptions): Promise<ChainPoint | undefined> {
  try {
    const start = await checkpointBefore(undefined, Infinity, options);
    return (await walkFromCheckpoint(start, { ...options, visit: () => undefined })).chain.lastGroup;
  } catch (error) {
    if (error instanceof GatewayError && !error.code.startsWith('store-')) return undefined;
    throw error;
  }
}

/** undefined: none that helps; the history is read from its beginning. */
async function checkpointBefore(
  receipt: Receipt | undefined,
  headNumber: number,
  options: ProofOptions,
): Promise<Checkpoint | undefined> {
  const { store, sealer, request, log } = options;
  for (const key of await listCheckpoints(store, sealer, request)) {
    if (key.number > headNumber) continue;
    const checkpoint = await readCheckpoint(store, sealer, key, request, (error) =>
      log.warn(`checkpoint ${keyText(key)} is passed over: ${error.message}`),
    );
    if (checkpoint === undefined) continue;
    if (receipt === undefined || receipt.number > checkpoint.recoveryPoint.number || vouches(checkpoint, receipt)) {
      return checkpoint;
    }
  }
  return undefined;
}
