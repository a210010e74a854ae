import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import type { SegmentRole } from '../../../src/remote/segment-index.js';
import { afterSegment } from '../../../src/remote/staged.js';
import type { StagedRound } from '../../../src/remote/staged.js';

const waits: StagedRound = { round: 7, firstNumber: 20, blocks: 5 };
const key = { epoch: 3, number: 25 };
const segment = (role: SegmentRole, round?: number) => ({
  role,
  payloadBlocks: 4,
  ...(round === undefined ? {} : { round }),
});

describe('staged segments', () => {
  it('wait together, and take effect with the apply group of their round', () => {
    assert.deepEqual(afterSegment(undefined, key, segment('staged', 7)), {
      waits: { round: 7, firstNumber: 25, blocks: 4 },
      ended: undefined,
    });
    assert.deepEqual(afterSegment(waits, key, segment('staged', 7)), {
      waits: { ...waits, blocks: 9 },
      ended: undefined,
    });
    assert.deepEqual(afterSegment(waits, key, segment('apply', 7)), {
      waits: undefined,
      ended: { firstNumber: 20, as: 'applied' },
    });
  });

  it('are void once another round, or a group of the log, follows', () => {
    assert.deepEqual(afterSegment(waits, key, segment('staged', 8)), {
      waits: { round: 8, firstNumber: 25, blocks: 4 },
      ended: { firstNumber: 20, as: 'void' },
    });
    assert.deepEqual(afterSegment(waits, key, segment('data')), {
      waits: undefined,
      ended: { firstNumber: 20, as: 'void' },
    });
    assert.deepEqual(afterSegment(undefined, key, segment('data')), { waits: undefined, ended: undefined });
  });

  it('are followed neither by the apply group of another round nor by compaction', () => {
    for (const [before, next] of [
      [undefined, segment('apply', 7)],
      [waits, segment('apply', 8)],
      [waits, segment('compaction')],
    ] as const) {
      assert.throws(
        () => afterSegment(before, key, next),
        (error) => error instanceof GatewayError && error.code === 'remote-forked' && error.message.includes('3-25'),
      );
    }
    assert.deepEqual(afterSegment(undefined, key, segment('compaction')), { waits: undefined, ended: undefined });
  });
});
