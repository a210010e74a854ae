/** The bucket's own settings, as `keepgate doctor` judges them: what would eat objects, and what costs. */
import type { BucketRules, Unknown } from '../platform/s3-bucket-rules.js';

export interface BucketFinding {
  readonly verdict: 'ok' | 'note' | 'wrong';
  readonly what: string;
  readonly text: string;
}

function isUnknown(value: unknown): value is Unknown {
  return typeof value === 'object' && value !== null && 'unknown' in value;
}

export function* bucketFindings(found: BucketRules): Generator<BucketFinding> {
  yield* lifeCycle(found);
  yield versioning(found);
  yield lock(found);
}

function* lifeCycle({ rules }: BucketRules): Generator<BucketFinding> {
  const what = 'life-cycle rules';
  if (isUnknown(rules)) {
    yield unread(
      what,
      rules,
      's3:GetLifecycleConfiguration',
      'that no rule deletes or archives what is under the prefix',
    );
    return;
  }
  if (rules.length === 0) yield { verdict: 'ok', what, text: 'none touches the objects under the prefix' };
  for (const { name, effect, detail } of rules) {
    const rule = `rule "${name}"`;
    if (effect === 'deletes') {
      const text = `${rule} deletes objects ${detail}, also those that a restore needs: limit it to another prefix`;
      yield { verdict: 'wrong', what, text };
    } else if (effect === 'archives') {
      const text = `${rule} moves objects ${detail}, where they cannot be read at once: a restore would fail. Limit it to another prefix`;
      yield { verdict: 'wrong', what, text };
    } else {
      const text = `${rule} moves objects ${detail}: reading them costs more, and so does deleting them early`;
      yield { verdict: 'note', what, text };
    }
  }
}

function versioning({ versioning: state, oldVersionsExpire }: BucketRules): BucketFinding {
  const what = 'versioning';
  if (isUnknown(state)) return unread(what, state, 's3:GetBucketVersioning', 'what it keeps');
  if (state === 'off') return { verdict: 'ok', what, text: 'off: what is deleted is gone, and costs nothing more' };
  return oldVersionsExpire
    ? {
        verdict: 'ok',
        what,
        text: 'on, and old versions expire by a rule; until then they cost as much as live objects',
      }
    : {
        verdict: 'note',
        what,
        text: 'on: what compaction deletes stays as an old version and costs as much as before, for ever. Add a rule with NoncurrentVersionExpiration',
      };
}

function lock({ lock: state }: BucketRules): BucketFinding {
  const what = 'object lock';
  if (isUnknown(state)) return unread(what, state, 's3:GetBucketObjectLockConfiguration', 'whether objects are locked');
  if (state === undefined) return { verdict: 'ok', what, text: 'off: whoever has the credentials can delete' };
  if (state === 'without default') {
    return { verdict: 'ok', what, text: 'possible, but no default retention: objects are not locked' };
  }
  return {
    verdict: 'note',
    what,
    text: `${state.mode}, ${state.days} days: nobody deletes an object before, and each costs its storage at least so long, live or not`,
  };
}

function unread(what: string, { unknown }: Unknown, permission: string, look: string): BucketFinding {
  return { verdict: 'note', what, text: `cannot be read (${unknown}): allow ${permission}, or look yourself ${look}` };
}
