/**
 * A receipt: what an owner keeps, off the machine, to notice that a bucket was rolled back or replaced. It is a small
 * JSON text; `check` finds typing and copying errors, it is no signature: a receipt is trusted for where it was kept.
 */
import { createHash } from 'node:crypto';
import { GatewayError } from '../base/errors.js';
import { isUuid } from './name.js';
import { LINK_BYTES } from './seal.js';
import type { ChainPoint } from './segment-point.js';

const VERSION = 1;

export interface Receipt extends ChainPoint {
  readonly volume: string;
}

/** One line of JSON, ending with a line feed. */
export function formatReceipt(receipt: Receipt): string {
  const fields = {
    keepgateReceipt: VERSION,
    volume: receipt.volume,
    epoch: receipt.epoch,
    segment: receipt.number,
    link: Buffer.from(receipt.link).toString('hex'),
    lsn: receipt.lsn,
    time: new Date(receipt.wallMs).toISOString(),
  };
  return `${JSON.stringify({ ...fields, check: checkOf(fields) })}\n`;
}

/** `where` names the file in messages. receipt-invalid; format-newer. */
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
  const { check, ...fields } = value as Record<string, unknown>;
  const version = fields['keepgateReceipt'];
  if (typeof version === 'number' && version > VERSION) {
    throw new GatewayError('format-newer', `${where}: receipt version ${version}; this program reads ${VERSION}`);
  }
  if (check !== checkOf(fields)) return invalid(where, 'its check does not fit: it was changed or cut');
  const { volume, epoch, segment, link, lsn, time } = fields;
  const wallMs = typeof time === 'string' ? Date.parse(time) : NaN;
  if (
    typeof volume !== 'string' ||
    !isUuid(volume) ||
    !isCount(epoch) ||
    !isCount(segment) ||
    !isCount(lsn) ||
    typeof link !== 'string' ||
    !/^[0-9a-f]+$/.test(link) ||
    link.length !== 2 * LINK_BYTES ||
    Number.isNaN(wallMs)
  ) {
    return invalid(where, 'a field is missing or malformed');
  }
  return { volume, epoch, number: segment, link: Buffer.from(link, 'hex'), lsn, wallMs };
}

function checkOf(fields: Readonly<Record<string, unknown>>): string {
  return createHash('sha256').update(JSON.stringify(fields)).digest('hex').slice(0, 16);
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function invalid(where: string, reason: string): never {
  throw new GatewayError('receipt-invalid', `${where}: ${reason}`, { context: { file: where } });
}
