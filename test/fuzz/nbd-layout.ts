/** The bytes of a step, as the connection's form has them. */
import { extendedRequest, filterPayload } from '../fake/nbd-chunk.js';
import { clientFlags, CMD, FLAG, optionBytes, requestBytes } from '../fake/nbd-client.js';
import type { RequestStep, SendStep, Wide } from './nbd-case.js';
import { template } from './nbd-world.js';

/** Longer payloads are begun only. */
const PAYLOAD_SENT_MAX = 6 * 1024 * 1024;
const PAYLOAD_BEGUN = 64 * 1024;
/** Of payloads that are sent again and again. */
const REPEATED_BYTES_MAX = 4 * 1024 * 1024;
const U32_MAX = 0xffff_ffff;
const U64_MAX = 0xffff_ffff_ffff_ffffn;

/** `cookie` gives a new one for each request. */
export function layOut(step: SendStep, extended: boolean, cookie: () => bigint): Buffer {
  switch (step.kind) {
    case 'flags':
      return clientFlags(step.flags);
    case 'raw':
      return Buffer.from(step.hex, 'hex');
    case 'option': {
      const data = Buffer.from(step.data, 'hex');
      const bytes = optionBytes(step.option, data, (data.length + (step.lengthOff ?? 0)) >>> 0);
      return corrupted(bytes, step.wrongMagic);
    }
    case 'request':
      return requests(step, extended, cookie);
  }
}

function requests(step: RequestStep, extended: boolean, cookie: () => bigint): Buffer {
  const parts: Buffer[] = [];
  let sentBytes = 0;
  for (let left = step.times ?? 1; left > 0 && sentBytes <= REPEATED_BYTES_MAX; left--) {
    const bytes = request(step, extended, cookie());
    sentBytes += bytes.length;
    parts.push(bytes);
  }
  return Buffer.concat(parts);
}

function request(step: RequestStep, extended: boolean, cookie: bigint): Buffer {
  const { type } = step;
  const offset = wide(step.offset);
  const length = wide(step.length);
  const filters = extended && type === CMD.BLOCK_STATUS && step.filter !== undefined;
  const filter = filters ? filterPayload(wide(step.filter.lengthBytes), step.filter.ids) : undefined;
  const payload = filter ?? (type === CMD.WRITE ? written(offset, length) : Buffer.alloc(0));
  const hasPayload = (filters || type === CMD.WRITE) !== (step.wrongPayloadFlag === true);
  const flags = step.flags | (extended && hasPayload ? FLAG.PAYLOAD_LEN : 0);
  const fields = { type, flags, cookie, offset };
  const head = extended
    ? extendedRequest({ ...fields, length: filter === undefined ? length : BigInt(filter.length) })
    : requestBytes({ ...fields, length: Number(length > BigInt(U32_MAX) ? BigInt(U32_MAX) : length) });
  return Buffer.concat([corrupted(head, step.wrongMagic), withSurplus(payload, step.surplus ?? 0)]);
}

/** What belongs there, and where nothing does, something. */
function written(offset: bigint, length: bigint): Buffer {
  const count = length <= BigInt(PAYLOAD_SENT_MAX) ? Number(length) : PAYLOAD_BEGUN;
  if (offset + BigInt(count) <= BigInt(template.length))
    return template.subarray(Number(offset), Number(offset) + count);
  return Buffer.alloc(count, 0xab);
}

function withSurplus(payload: Buffer, surplus: number): Buffer {
  if (surplus <= 0) return payload.subarray(0, Math.max(0, payload.length + surplus));
  return Buffer.concat([payload, Buffer.alloc(surplus, 0xcd)]);
}

function corrupted(bytes: Buffer, wrong: boolean | undefined): Buffer {
  if (wrong === true) bytes[3] = (bytes[3] ?? 0) ^ 0x10;
  return bytes;
}

function wide(value: Wide): bigint {
  const number = BigInt(value);
  return number > U64_MAX ? U64_MAX : number;
}
