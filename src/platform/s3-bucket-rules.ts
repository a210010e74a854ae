/**
 * What a bucket's own settings do to the objects that Keepgate keeps there: life-cycle rules, versioning, object lock.
 * Reads only; a store or credentials that do not tell are 'unknown', with the reason.
 */
import {
  GetBucketLifecycleConfigurationCommand,
  GetBucketVersioningCommand,
  GetObjectLockConfigurationCommand,
} from '@aws-sdk/client-s3';
import type { LifecycleRule } from '@aws-sdk/client-s3';
import { createS3Client } from './s3-client.js';
import type { S3ClientOptions } from './s3-client.js';
import { s3Failure } from './s3-failure.js';
import { parseS3Url } from './s3-store.js';

/** A rule that concerns objects under the prefix. */
export interface BucketRule {
  readonly name: string;
  /** `deletes`: current objects go; `archives`: they can no longer be read at once; `moves`: to another class. */
  readonly effect: 'deletes' | 'archives' | 'moves';
  /** "after 30 days", "on 2027-01-01", "to DEEP_ARCHIVE after 30 days". */
  readonly detail: string;
}

export interface Unknown {
  readonly unknown: string;
}

export interface BucketRules {
  readonly rules: readonly BucketRule[] | Unknown;
  /** 'off' also while it is suspended: nothing more is kept. */
  readonly versioning: 'on' | 'off' | Unknown;
  /** Whether old versions go by a rule. */
  readonly oldVersionsExpire: boolean;
  /** undefined: none. */
  readonly lock: { readonly mode: string; readonly days: number } | 'without default' | undefined | Unknown;
}

const unreadableClasses: ReadonlySet<string> = new Set(['GLACIER', 'DEEP_ARCHIVE']);

export async function readBucketRules(
  options: S3ClientOptions & { readonly url: string; readonly expectedBucketOwner?: string | undefined },
  signal: AbortSignal,
): Promise<BucketRules> {
  const { bucket, prefix } = parseS3Url(options.url);
  const client = createS3Client(options);
  const { expectedBucketOwner } = options;
  const input = {
    Bucket: bucket,
    ...(expectedBucketOwner === undefined ? {} : { ExpectedBucketOwner: expectedBucketOwner }),
  };
  const abort = { abortSignal: signal };
  try {
    const lifecycle = await told(
      async () => (await client.send(new GetBucketLifecycleConfigurationCommand(input), abort)).Rules ?? [],
      { NoSuchLifecycleConfiguration: [] },
    );
    const versioning = await told<'on' | 'off'>(async () => {
      const { Status } = await client.send(new GetBucketVersioningCommand(input), abort);
      return Status === 'Enabled' ? 'on' : 'off';
    }, {});
    const lock = await told<Exclude<BucketRules['lock'], Unknown>>(
      async () => {
        const answer = await client.send(new GetObjectLockConfigurationCommand(input), abort);
        const { ObjectLockEnabled, Rule } = answer.ObjectLockConfiguration ?? {};
        if (ObjectLockEnabled !== 'Enabled') return undefined;
        const retention = Rule?.DefaultRetention;
        if (retention === undefined) return 'without default';
        return { mode: retention.Mode ?? 'GOVERNANCE', days: retention.Days ?? (retention.Years ?? 0) * 365 };
      },
      { ObjectLockConfigurationNotFoundError: undefined },
    );
    const concerning = 'unknown' in lifecycle ? [] : lifecycle.filter((rule) => concerns(rule, prefix));
    return {
      rules: 'unknown' in lifecycle ? lifecycle : concerning.flatMap(effectsOf),
      versioning,
      oldVersionsExpire: concerning.some((rule) => rule.NoncurrentVersionExpiration !== undefined),
      lock,
    };
  } finally {
    client.destroy();
  }
}

/** Its answer; what a known refusal means; else why there is none. */
async function told<Answer>(
  ask: () => Promise<Answer>,
  meanings: Readonly<Record<string, Answer>>,
): Promise<Answer | Unknown> {
  try {
    return await ask();
  } catch (error) {
    const name = error instanceof Error ? error.name : '';
    if (name in meanings) return meanings[name] as Answer;
    return { unknown: s3Failure({ operation: 'settings', where: 'the bucket', error }).message };
  }
}

/** Enabled, and for keys under the prefix. Keepgate's objects carry no tags, so rules for tags are for others. */
function concerns(rule: LifecycleRule, prefix: string): boolean {
  if (rule.Status !== 'Enabled') return false;
  const { Filter } = rule;
  if (Filter?.Tag !== undefined || (Filter?.And?.Tags ?? []).length > 0) return false;
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- older rules say it there, and stores still answer so
  const of = Filter?.Prefix ?? Filter?.And?.Prefix ?? rule.Prefix ?? '';
  const own = prefix === '' ? '' : `${prefix}/`;
  return own.startsWith(of) || of.startsWith(own);
}

function effectsOf(rule: LifecycleRule): BucketRule[] {
  const name = rule.ID ?? 'without a name';
  const effects: BucketRule[] = [];
  const { Days, Date: date } = rule.Expiration ?? {};
  if (Days !== undefined || date !== undefined) effects.push({ name, effect: 'deletes', detail: when(Days, date) });
  for (const transition of rule.Transitions ?? []) {
    const to = transition.StorageClass ?? 'another class';
    effects.push({
      name,
      effect: unreadableClasses.has(to) ? 'archives' : 'moves',
      detail: `to ${to} ${when(transition.Days, transition.Date)}`,
    });
  }
  return effects;
}

function when(days: number | undefined, date: Date | undefined): string {
  return date === undefined ? `after ${days ?? 0} days` : `on ${date.toISOString().slice(0, 10)}`;
}
