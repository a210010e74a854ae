/** What `keepgate doctor` finds, why it matters, and what mends it. */
import { GatewayError, errorCodes } from '../base/errors.js';
import { restrictToOwner } from '../platform/text-file.js';

/** `wrong`: the gateway will not work; `note`: it will, less well. */
export type Verdict = 'ok' | 'note' | 'wrong';

export interface Finding {
  readonly verdict: Verdict;
  readonly what: string;
  readonly text: string;
  readonly repair?: Repair;
}

/** What changes no data and replaces nothing, and is to be looked at again afterwards. */
export interface Repair {
  /** As a command that does the same. */
  readonly command: string;
  readonly run: () => Promise<void>;
  readonly again: () => Promise<Finding>;
}

export function found(verdict: Verdict, what: string, text: string): Finding {
  return { verdict, what, text };
}

/** A check's answer, or what it threw with what to do. */
export async function checked(what: string, check: () => string | Promise<string>): Promise<Finding> {
  try {
    return found('ok', what, await check());
  } catch (error) {
    const text = error instanceof GatewayError ? `${error.message}. ${errorCodes[error.code].action}` : String(error);
    const repair = error instanceof GatewayError ? repairOf(error, () => checked(what, check)) : undefined;
    return { ...found('wrong', what, text), ...(repair === undefined ? {} : { repair }) };
  }
}

/** A secret that others can read is mended by taking their rights away; what they have read meanwhile, they have. */
function repairOf({ code, context }: GatewayError, again: () => Promise<Finding>): Repair | undefined {
  const { path } = context;
  if (code !== 'key-permissions' || typeof path !== 'string') return undefined;
  return { command: `chmod 600 ${path}`, run: () => restrictToOwner(path), again };
}

const reasons: readonly (readonly [RegExp, string])[] = [
  [/^addon$/, 'disks and checksums are reached through it; without it nothing is served'],
  [/^data directory$/, 'every volume has its full copy and its log there'],
  [/^clock$/, 'S3 refuses requests whose time is far off, and receipts and schedules go by it'],
  [
    /^(io-flusher|locked-memory|oom-score)$/,
    'it matters where gateway and client are one machine that may run out of memory',
  ],
  [/\.listen$/, 'clients and commands reach the gateway there'],
  [/^nbd\.tls$/, 'clients over TLS are refused without it'],
  [/^key$/, 'what lies in the bucket opens with this key alone, and whoever has it reads all of it'],
  [/^API token$/, 'whoever has it can change everything over the API'],
  [/^CHAP secret/, 'whoever has it can attach the volume'],
  [/^store$/, 'replication puts, reads and lists there, and If-None-Match keeps two gateways from writing one volume'],
  [/^life-cycle rules$/, 'a missing object is loss: a restore refuses what has a gap'],
  [/^versioning$/, 'what is deleted may go on being billed, and may be a defence'],
  [/^object lock$/, 'what is locked costs its storage, and may be a defence'],
  [/^kernel module /, 'a gateway needs none of them; a client on this machine does'],
];

/** Why anybody should care; undefined: the finding itself says it. */
export function reasonOf({ what }: Finding): string | undefined {
  return reasons.find(([pattern]) => pattern.test(what))?.[1];
}
