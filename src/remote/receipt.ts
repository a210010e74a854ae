/**
 * A receipt: what an owner keeps, off the machine, to notice that a bucket was rolled back or replaced. It is a small
 * JSON text that a person can store. Its MAC is made with a key that derives from the volume key: nobody without that
 * can make a receipt, and a typing or copying error is found. Which receipt is the newest is for its keeper to know.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { GatewayError } from '../base/errors.js';
import { isUuid } from './name.js';
import { LINK_BYTES } from './seal.js';
import type { ObjectSealer } from './seal.js';
import type { ChainPoint } from './segment-point.js';

const VERSION = 2;
const MAC_BYTES = 32;

export interface Receipt extends ChainPoint {
  readonly volume: string;
  readonly mac: Uint8Array;
}

/** For a point that is committed. */
export function issueReceipt(sealer: ObjectSealer, point: ChainPoint): Receipt {
  const { epoch, number, lsn, wallMs } = point;
  const plain = { volume: sealer.names.uuid, epoch, number, link: Uint8Array.from(point.link), lsn, wallMs };
  return { ...plain, mac: macOf(sealer, plain) };
}

/** One line of JSON, ending with a line feed. */
export function formatReceipt(receipt: Receipt): string {
  return `${JSON.stringify({ ...fieldsOf(receipt), mac: Buffer.from(receipt.mac).toString('hex') })}\n`;
}

/** Its form only: `verifyReceipt` says whether it is genuine. `where` names the file in messages. receipt-invalid; format-newer. */
export function parseReceipt(text: string, where: string): Receipt {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return invalid(where, 'it is not JSON');
  }
  if (typeof value !== 'object' || value === null || !('keepgateReceipt' in value)) {
    return invalid(where, 'it is no Keepgate receipt');
  }
  const fields = value as Record<string, unknown>;
  const version = fields['keepgateReceipt'];
  if (typeof version === 'number' && version > VERSION) {
    throw new GatewayError('format-newer', `${where}: receipt version ${version}; this program reads ${VERSION}`);
  }
  const { volume, epoch, segment, lsn, time } = fields;
  const wallMs = typeof time === 'string' ? Date.parse(time) : NaN;
  const link = hex(fields['link'], LINK_BYTES);
  const mac = hex(fields['mac'], MAC_BYTES);
  if (
    version !== VERSION ||
    typeof volume !== 'string' ||
    !isUuid(volume) ||
    !isCount(epoch) ||
    !isCount(segment) ||
    !isCount(lsn) ||
    link === undefined ||
    mac === undefined ||
    Number.isNaN(wallMs) ||
    timeText({ wallMs }) !== time
  ) {
    return invalid(where, 'a field is missing or malformed');
  }
  return { volume, epoch, number: segment, link, lsn, wallMs, mac };
}

/** receipt-unmet: it is another volume's. receipt-invalid: it was changed, or nobody who has the volume's key made it. */
export function verifyReceipt(sealer: ObjectSealer, receipt: Receipt): void {
  const { uuid } = sealer.names;
  if (receipt.volume !== uuid) {
    throw new GatewayError('receipt-unmet', `the receipt is for volume ${receipt.volume}, not for ${uuid}`);
  }
  if (timingSafeEqual(macOf(sealer, receipt), receipt.mac)) return;
  throw new GatewayError(
    'receipt-invalid',
    `the receipt of ${timeText(receipt)} was changed, or the volume’s owner did not make it`,
  );
}

/** How much a history that ends at `end` lacks of what a receipt knew, for people. */
export function missingText(end: ChainPoint, receipt: ChainPoint): string {
  const segments = receipt.number - end.number;
  const last = end.number === 0 ? 'nothing is left' : `its newest recovery point is of ${timeText(end)}`;
  const time = end.number === 0 ? '' : `, ${durationText(receipt.wallMs - end.wallMs)}`;
  return `at least ${segments} segment${segments === 1 ? '' : 's'} (${receipt.lsn - end.lsn} LSNs${time}) are missing: ${last}, the receipt is of ${timeText(receipt)}`;
}

function durationText(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

function timeText({ wallMs }: Pick<ChainPoint, 'wallMs'>): string {
  return new Date(wallMs).toISOString();
}

/** What the MAC covers, in this order. */
function fieldsOf(receipt: Omit<Receipt, 'mac'>) {
  return {
    keepgateReceipt: VERSION,
    volume: receipt.volume,
    epoch: receipt.epoch,
    segment: receipt.number,
    link: Buffer.from(receipt.link).toString('hex'),
    lsn: receipt.lsn,
    time: timeText(receipt),
  };
}

function macOf(sealer: ObjectSealer, receipt: Omit<Receipt, 'mac'>): Uint8Array {
  return createHmac('sha256', sealer.receiptKey())
    .update(JSON.stringify(fieldsOf(receipt)))
    .digest();
}

function hex(value: unknown, lengthBytes: number): Uint8Array | undefined {
  if (typeof value !== 'string' || value.length !== 2 * lengthBytes || !/^[0-9a-f]+$/.test(value)) return undefined;
  return Uint8Array.from(Buffer.from(value, 'hex'));
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function invalid(where: string, reason: string): never {
  throw new GatewayError('receipt-invalid', `${where}: ${reason}`, { context: { file: where } });
}
