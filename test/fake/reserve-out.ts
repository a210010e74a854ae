/** CDBs and parameter lists of reservations, by their own code: SPC-4 6.15, 6.16, 7.6.4.6. */
export const action = {
  register: 0,
  reserve: 1,
  release: 2,
  clear: 3,
  preempt: 4,
  preemptAndAbort: 5,
  registerAndIgnore: 6,
  registerAndMove: 7,
} as const;

export interface OutFields {
  readonly key?: bigint;
  readonly actionKey?: bigint;
  /** Byte 20; byte 17 of REGISTER AND MOVE. */
  readonly flags?: number;
  readonly transportIds?: Uint8Array;
}

export const flag = { specIPt: 8, allTgPt: 4, aptpl: 1, unreg: 2 } as const;

export function outCdb(service: number, type: number, lengthBytes: number): number[] {
  return [0x5f, service, type, 0, 0, 0, 0, lengthBytes >> 8, lengthBytes & 255, 0];
}

export function outList(fields: OutFields): Buffer {
  const { transportIds } = fields;
  const list = Buffer.alloc(24);
  list.writeBigUInt64BE(fields.key ?? 0n, 0);
  list.writeBigUInt64BE(fields.actionKey ?? 0n, 8);
  list[20] = fields.flags ?? 0;
  if (transportIds === undefined) return list;
  const length = Buffer.alloc(4);
  length.writeUInt32BE(transportIds.length);
  return Buffer.concat([list, length, transportIds]);
}

export function moveList(fields: OutFields & { relativeTargetPort?: number; transportIds: Uint8Array }): Buffer {
  const list = Buffer.alloc(24);
  list.writeBigUInt64BE(fields.key ?? 0n, 0);
  list.writeBigUInt64BE(fields.actionKey ?? 0n, 8);
  list[17] = fields.flags ?? 0;
  list.writeUInt16BE(fields.relativeTargetPort ?? 1, 18);
  list.writeUInt32BE(fields.transportIds.length, 20);
  return Buffer.concat([list, fields.transportIds]);
}

/** `name` with ",i,0x" and an ISID has format 01b. */
export function transportId(name: string): Buffer {
  const text = Buffer.from(`${name}\0`);
  const body = Buffer.alloc(Math.max(20, (text.length + 3) & ~3));
  text.copy(body);
  return Buffer.concat([Buffer.of(name.includes(',i,0x') ? 0x45 : 0x05, 0, body.length >> 8, body.length & 255), body]);
}

export function inCdb(service: number, allocationLength = 0xffff): number[] {
  return [0x5e, service, 0, 0, 0, 0, 0, allocationLength >> 8, allocationLength & 255, 0];
}
