/** Every operation of the disk fails in turn, for want of space or for good; see disk-fault.ts. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { runWithFault, type Fault, type FaultRun } from './disk-fault.js';

const long = process.env['KEEPGATE_TEST_LONG'] === '1';
/** The short run leaves out most of what repeats: opening and creation come first, and all of them are tried. */
const openingOperations = 64;
const shortStride = 12;
const ends = ['kill', 'power loss'] as const;

describe('volume on a failing disk', () => {
  it('does its work when nothing fails', async () => {
    const { outcome, refused } = await runWithFault(0, 'disk-full', 'kill');
    assert.deepEqual([outcome, refused], ['done', []]);
  });

  for (const fault of ['disk-full', 'disk-failed'] as const) {
    for (const end of long ? ends : ([fault === 'disk-full' ? 'kill' : 'power loss'] as const)) {
      it(
        `${long ? 'every operation' : 'many an operation'} ends with ${fault} in turn, then ${end}`,
        { timeout: 600_000 },
        async (t) => {
          const outcomes = new Map<string, number>();
          const { operations } = await runWithFault(0, fault, end);
          for (
            let ordinal = 1;
            ordinal <= operations;
            ordinal += long || ordinal < openingOperations ? 1 : shortStride
          ) {
            const run = await explained(ordinal, fault, end);
            expectRightEnd(run, fault, ordinal);
            outcomes.set(run.outcome, (outcomes.get(run.outcome) ?? 0) + 1);
          }
          t.diagnostic(`${operations} operations: ${JSON.stringify(Object.fromEntries(outcomes))}`);
        },
      );
    }
  }
});

async function explained(ordinal: number, fault: Fault, end: (typeof ends)[number]): Promise<FaultRun> {
  try {
    return await runWithFault(ordinal, fault, end);
  } catch (cause) {
    throw new Error(`with operation ${ordinal} made to end with ${fault}, then ${end}`, { cause });
  }
}

/**
 * A failed sync ends the volume, whatever its errno; so does a failed append. Where space is missing for anything else the
 * volume goes on, but for an opening or a close. What fails for good may end the volume, or no more than one request.
 */
function expectRightEnd(run: FaultRun, fault: Fault, ordinal: number): void {
  const what = `operation ${ordinal}, ${run.failed ?? 'none'}: ${run.outcome}, refused ${run.refused.join()}`;
  if (run.outcome === 'not created' || run.outcome === 'not opened' || run.outcome === 'not closed') return;
  const isSync = /^sync/.test(run.failed ?? '') && run.failed !== 'sync log/new';
  const isAppend = /^write log\/\d/.test(run.failed ?? '');
  if (isSync || isAppend) assert.equal(run.outcome, 'stopped for good', what);
  else if (fault === 'disk-full') assert.equal(run.outcome, 'done', what);
}
