/**
 * What a failed operation of the disk means to the engine (P1, docs/durability.md, "When the disk fails").
 *
 * A write that found no space changed nothing that counts, and is tried again; after any other failed write nobody knows
 * what the disk holds. A failed sync loses durability whatever its errno: the kernel has marked the pages clean, so that
 * a second sync succeeds and lies. Failed reads pass as they are: they promise nothing.
 */
import { DurabilityLostError, GatewayError } from '../base/errors.js';

/** Passes disk-full; every other failure is a DurabilityLostError. */
export async function written<T>(what: string, action: Promise<T>): Promise<T> {
  try {
    return await action;
  } catch (cause) {
    if (cause instanceof DurabilityLostError || isDiskFull(cause)) throw cause;
    throw lost(what, cause);
  }
}

/** Every failure is a DurabilityLostError. */
export async function synced<T>(what: string, action: Promise<T>): Promise<T> {
  try {
    return await action;
  } catch (cause) {
    throw lost(what, cause);
  }
}

export function isDiskFull(error: unknown): error is GatewayError {
  return error instanceof GatewayError && error.code === 'disk-full';
}

function lost(what: string, cause: unknown): DurabilityLostError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new DurabilityLostError(`${what} failed: ${why}`, { cause });
}
