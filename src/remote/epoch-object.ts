/**
 * UUID/epochs/<n>: a process took epoch n (put with If-None-Match, so that one process only can have it). Its index:
 *
 *      0   8  wall time in milliseconds
 *      8  16  incarnation: random, different for every start of a process
 *     24  2+n owner: who took it (a host name), for messages only
 */
import { ByteReader, ByteWriter } from '../base/bytes.js';
import type { ObjectIdentity, ObjectSealer, SealedObject } from './seal.js';

export const INCARNATION_BYTES = 16;

export interface EpochClaim {
  readonly wallMs: number;
  readonly incarnation: Uint8Array;
  readonly owner: string;
}

export function sealEpoch(sealer: ObjectSealer, epoch: number, claim: EpochClaim): SealedObject {
  const writer = new ByteWriter(256);
  writer.u64(claim.wallMs);
  writer.bytes(claim.incarnation);
  writer.text(claim.owner);
  return sealer.seal(epochIdentity(sealer, epoch), writer.finish());
}

export function openEpoch(sealer: ObjectSealer, epoch: number, bytes: Uint8Array): EpochClaim {
  const identity = epochIdentity(sealer, epoch);
  const reader = new ByteReader(sealer.openWhole(identity, bytes).index, identity.name);
  const wallMs = reader.u64();
  const incarnation = reader.bytes(INCARNATION_BYTES).slice();
  const owner = reader.text();
  reader.endOfZeros();
  return { wallMs, incarnation, owner };
}

function epochIdentity(sealer: ObjectSealer, epoch: number): ObjectIdentity {
  return { kind: 'epoch', name: sealer.names.epoch(epoch), epoch, number: 0, part: 0 };
}
