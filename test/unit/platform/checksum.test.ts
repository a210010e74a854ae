import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { loadAddon } from '../../../src/platform/addon.js';
import { nativeChecksums } from '../../../src/platform/checksum.js';
import { plainChecksums } from '../../fake/checksums.js';

const addon = loadAddon();
const checksums = nativeChecksums();
const BLOCK = 4096;
const kernels = ['portable', 'sse4.2', 'avx512', 'armv8'].filter((name) => addon.forceChecksumKernel(name));
addon.forceChecksumKernel('auto');

/** The definition, bit by bit. */
function naive(bytes: Uint8Array, seed = 0): number {
  let state = ~seed;
  for (const byte of bytes) {
    state ^= byte;
    for (let bit = 0; bit < 8; bit++) state = (state & 1) !== 0 ? (state >>> 1) ^ 0x82f63b78 : state >>> 1;
  }
  return ~state >>> 0;
}

/** The same bytes every time, without a pattern that a stretch of the sum could share with another. */
function sample(lengthBytes: number, seed = 1): Uint8Array<ArrayBuffer> {
  let state = seed;
  return new Uint8Array(lengthBytes).map(() => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
}

function le64(...values: number[]): Uint8Array {
  const bytes = Buffer.alloc(8 * values.length);
  values.forEach((value, index) => bytes.writeBigUInt64LE(BigInt(value), 8 * index));
  return bytes;
}

function eachKernel(test: () => void): void {
  for (const kernel of kernels) {
    addon.forceChecksumKernel(kernel);
    test();
  }
  addon.forceChecksumKernel('auto');
}

describe('crc32c', () => {
  after(() => addon.forceChecksumKernel('auto'));

  it('uses the instruction where the processor has one', () => {
    assert.equal(addon.checksumKernel(), kernels.at(-1));
    assert.equal(addon.forceChecksumKernel('abacus'), false);
    assert.equal(addon.checksumKernel(), kernels.at(-1));
  });

  it('gives the vectors of RFC 3720 B.4 in every implementation', () => {
    const vectors: readonly [Uint8Array, number][] = [
      [new Uint8Array(32), 0x8a9136aa],
      [new Uint8Array(32).fill(0xff), 0x62a8ab43],
      [Uint8Array.from({ length: 32 }, (_, index) => index), 0x46dd794e],
      [Uint8Array.from({ length: 32 }, (_, index) => 31 - index), 0x113fdb5c],
    ];
    eachKernel(() => {
      for (const [bytes, sum] of vectors) assert.equal(checksums.crc32c(0, bytes, 0, bytes.length), sum);
    });
  });

  it('agrees with the definition for every length and split', () => {
    const bytes = sample(300);
    const sums = Array.from({ length: 301 }, (_, end) => naive(bytes.subarray(0, end)));
    eachKernel(() => {
      for (let end = 0; end <= 300; end++) {
        const middle = (end * 7) % (end + 1);
        assert.equal(checksums.crc32c(0, bytes, 0, end), sums[end]);
        assert.equal(checksums.crc32c(checksums.crc32c(0, bytes, 0, middle), bytes, middle, end), sums[end]);
      }
    });
  });

  it('sees a view, not the memory around it', () => {
    const bytes = sample(64);
    assert.equal(checksums.crc32c(0, bytes.subarray(3, 60), 2, 50), naive(bytes.subarray(5, 53)));
  });
});

describe('sums of blocks', () => {
  const blocks = sample(3 * BLOCK);
  const block = (index: number): Uint8Array => blocks.subarray(index * BLOCK, (index + 1) * BLOCK);
  const first = 2 ** 33 + 7;
  const lsn = Number.MAX_SAFE_INTEGER;

  it('follow from the plain sum as if they had been computed over their prefix', () => {
    eachKernel(() => {
      const plain = new Uint32Array(4);
      checksums.sumBlocks(blocks, 0, 3, plain, 1);
      assert.deepEqual([...plain], [0, ...[0, 1, 2].map((index) => naive(block(index)))]);
      const blockSums = plain.slice();
      checksums.toBlockSums(blockSums, 1, 3, first);
      const expected = [0, 1, 2].map((index) => naive(Buffer.concat([le64(first + index), block(index)])));
      assert.deepEqual([...blockSums], [0, ...expected]);
      const logSums = plain.slice();
      checksums.toLogSums(logSums, 1, 3, first, lsn);
      const expectedLog = [0, 1, 2].map((index) => naive(Buffer.concat([le64(lsn, first + index), block(index)])));
      assert.deepEqual([...logSums], [0, ...expectedLog]);
      assert.equal(checksums.verifyLogBlocks(blocks, 0, 3, first, lsn, logSums, 1), -1);
      assert.equal(checksums.verifyLogBlocks(blocks, 0, 3, first, lsn - 1, logSums, 1), 0);
      checksums.logToBlockSums(logSums, 1, 3, first, lsn);
      assert.deepEqual(logSums, blockSums);
      assert.equal(checksums.verifyBlocks(blocks, 0, 3, first, blockSums, 1), -1);
    });
  });

  it('tell the first block that differs, and make zero blocks zero', () => {
    const bytes = blocks.slice();
    const sums = new Uint32Array(3);
    checksums.sumBlocks(bytes, 0, 3, sums, 0);
    checksums.toBlockSums(sums, 0, 3, first);
    assert.equal(checksums.verifyBlocks(bytes, BLOCK, 2, first + 1, sums, 1), -1);
    assert.equal(checksums.verifyBlocks(bytes, 0, 3, first + 1, sums, 0), 0);
    bytes[2 * BLOCK + 4095]! ^= 0x80;
    assert.equal(checksums.verifyBlocks(bytes, 0, 3, first, sums, 0), 2);
    sums[2] = 0;
    assert.equal(checksums.verifyBlocks(bytes, 0, 3, first, sums, 0), -1);
    assert.ok(checksums.isZero(bytes, 2 * BLOCK, 3 * BLOCK));
    assert.ok(!checksums.isZero(bytes, 2 * BLOCK - 64, 3 * BLOCK));
    sums[1] = 1;
    assert.equal(checksums.verifyBlocks(bytes, 0, 3, first, sums, 0), 1);
  });

  it('are checked for many records at once, each by its own LSN', () => {
    eachKernel(() => {
      const bytes = Buffer.concat([blocks, new Uint8Array(BLOCK), blocks.subarray(0, BLOCK)]);
      const numbers = Float64Array.of(first, 5, 0, 7, 8);
      const lsns = Float64Array.of(lsn, 3, 1, 9, 10);
      const plain = new Uint32Array(5);
      checksums.sumBlocks(bytes, 0, 5, plain, 0);
      const sums = plain.slice();
      for (let at = 0; at < 5; at++) checksums.toLogSums(sums, at, 1, numbers[at]!, lsns[at]!);
      const logSums = sums.slice();
      bytes[BLOCK + 77]! ^= 1;
      // As of a record before.
      lsns[4] = 9;
      for (const [name, port] of Object.entries({ checksums, plainChecksums })) {
        const found = logSums.slice();
        const states = new Uint8Array(5).fill(9);
        assert.equal(port.checkLogBlocks(bytes, numbers, lsns, found, states), 2, name);
        assert.deepEqual([...states], [0, 2, 0, 1, 2], name);
        const expected = plain.slice();
        for (let at = 0; at < 5; at++) checksums.toBlockSums(expected, at, 1, numbers[at]!);
        for (const at of [1, 4]) expected[at] = logSums[at]!;
        assert.deepEqual(found, expected, name);
      }
    });
  });

  it('are continued from piece to piece while copying', () => {
    eachKernel(() => {
      for (const piece of [1, 1000, 4096, 12288]) {
        const target = checksums.alignedBuffer(4 * BLOCK).fill(0xee);
        const sums = new Uint32Array(4).fill(99);
        for (let at = 0; at < blocks.length; at += piece) {
          const end = Math.min(at + piece, blocks.length);
          checksums.copyAndSum(blocks, at, end, target, BLOCK + at, sums);
        }
        assert.deepEqual(target.subarray(BLOCK), blocks);
        assert.ok(target.subarray(0, BLOCK).every((byte) => byte === 0xee));
        assert.deepEqual([...sums], [99, ...[0, 1, 2].map((index) => naive(block(index)))]);
      }
    });
  });
});

describe('the bounds at the binding', () => {
  const bytes = new Uint8Array(2 * BLOCK);
  const sums = new Uint32Array(2);
  const range = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' };
  const type = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' };
  const wrong = (value: unknown): never => value as never;

  it('hold for every start, end and count', () => {
    for (const bad of [-1, 0.5, NaN, Infinity, 2 ** 53, 2 ** 64]) {
      assert.throws(() => checksums.crc32c(0, bytes, bad, 8192), range);
      assert.throws(() => checksums.crc32c(0, bytes, 0, bad), range);
      assert.throws(() => checksums.crc32c(bad, bytes, 0, 0), range);
      assert.throws(() => checksums.sumBlocks(bytes, 0, bad, sums, 0), range);
      assert.throws(() => checksums.sumBlocks(bytes, 0, 1, sums, bad), range);
      assert.throws(() => checksums.verifyBlocks(bytes, bad, 1, 0, sums, 0), range);
      assert.throws(() => checksums.verifyBlocks(bytes, 0, 1, bad, sums, 0), range);
      assert.throws(() => checksums.verifyLogBlocks(bytes, 0, 1, 0, bad, sums, 0), range);
      assert.throws(() => checksums.toLogSums(sums, 0, bad, 0, 0), range);
      assert.throws(() => checksums.isZero(bytes, 0, bad), range);
      assert.throws(() => checksums.alignedBuffer(bad), range);
    }
  });

  it('stop one element behind the end', () => {
    assert.throws(() => checksums.crc32c(0, bytes, 0, 8193), range);
    assert.throws(() => checksums.crc32c(0, bytes, 2, 1), range);
    assert.throws(() => checksums.crc32c(0, bytes, 8193, 8193), range);
    assert.equal(checksums.crc32c(5, bytes, 8192, 8192), 5);
    assert.throws(() => checksums.sumBlocks(bytes, 1, 2, sums, 0), range);
    assert.throws(() => checksums.sumBlocks(bytes, 0, 2, sums, 1), range);
    assert.throws(() => checksums.sumBlocks(bytes, 0, Number.MAX_SAFE_INTEGER, sums, 0), range);
    assert.throws(() => checksums.verifyBlocks(bytes, 4097, 1, 0, sums, 0), range);
    assert.throws(() => checksums.verifyLogBlocks(bytes, 0, 1, 0, 0, sums, 2), range);
    assert.throws(() => checksums.toBlockSums(sums, 2, 1, 0), range);
    const target = new Uint8Array(2 * BLOCK);
    assert.throws(() => checksums.copyAndSum(bytes, 0, 8192, target, 1, sums), range);
    assert.throws(() => checksums.copyAndSum(bytes, 0, 8193, target, 0, sums), range);
    assert.throws(() => checksums.copyAndSum(bytes, 0, 4097, target, 0, sums.subarray(0, 1)), range);
    assert.throws(() => checksums.copyAndSum(bytes, 0, 100, bytes, 99, sums), range);
    checksums.copyAndSum(bytes, 0, 100, bytes, 100, sums);
  });

  it('hold for columns', () => {
    const [numbers, states] = [new Float64Array(2), new Uint8Array(2)];
    const check = (...change: [number, unknown][]): number => {
      const all: unknown[] = [bytes, numbers, numbers, sums, states];
      for (const [index, value] of change) all[index] = value;
      return checksums.checkLogBlocks(...(all as Parameters<typeof checksums.checkLogBlocks>));
    };
    assert.throws(() => check([0, bytes.subarray(1)]), range);
    assert.throws(() => check([1, new Float64Array(3)]), range);
    assert.throws(() => check([2, new Float64Array(1)]), range);
    assert.throws(() => check([3, sums.subarray(1)]), range);
    assert.throws(() => check([4, states.subarray(1)]), range);
    for (const bad of [-1, 0.5, NaN, Infinity, 2 ** 53]) {
      assert.throws(() => check([1, Float64Array.of(0, bad)]), range);
      assert.throws(() => check([2, Float64Array.of(bad, 0)]), range);
    }
    for (const index of [0, 1, 2, 3, 4]) assert.throws(() => check([index, [0, 0]]), type);
    assert.equal(
      check(
        [0, new Uint8Array(0)],
        [1, numbers.subarray(2)],
        [2, numbers.subarray(2)],
        [3, sums.subarray(2)],
        [4, states.subarray(2)],
      ),
      0,
    );
  });

  it('hold for the kinds of arguments', () => {
    for (const bad of [
      undefined,
      null,
      {},
      [],
      'x',
      new Uint32Array(8),
      new ArrayBuffer(64),
      new DataView(bytes.buffer),
    ]) {
      assert.throws(() => checksums.crc32c(0, wrong(bad), 0, 0), type);
      assert.throws(() => checksums.copyAndSum(bytes, 0, 0, wrong(bad), 0, sums), type);
      assert.throws(() => checksums.discard(wrong(bad)), type);
    }
    for (const bad of [undefined, new Uint8Array(8), new Int32Array(2), new Float64Array(2)]) {
      assert.throws(() => checksums.sumBlocks(bytes, 0, 1, wrong(bad), 0), type);
    }
    for (const bad of [undefined, null, '1', 1n, {}]) {
      assert.throws(() => checksums.crc32c(0, bytes, wrong(bad), 0), type);
      assert.throws(() => checksums.alignedBuffer(wrong(bad)), type);
    }
  });

  it('know that a buffer was taken away', () => {
    const gone = new Uint8Array(16);
    structuredClone(gone.buffer, { transfer: [gone.buffer] });
    assert.throws(() => checksums.crc32c(0, gone, 0, 1), range);
    assert.equal(checksums.crc32c(0, gone, 0, 0), 0);
  });
});

describe('alignedBuffer', () => {
  it('has the length asked for, and holds what is written', () => {
    for (const length of [0, 1, 4095, 4096, 4097, 1 << 20]) {
      const buffer = checksums.alignedBuffer(length).fill(7);
      assert.equal(buffer.length, length);
      assert.ok(buffer.every((byte) => byte === 7));
    }
  });

  it('gives back the whole pages of a part, and takes memory again', () => {
    const buffer = checksums.alignedBuffer(4 * BLOCK);
    const kept = (): number[] => [0, 1, 2, 3].filter((page) => buffer[page * BLOCK + 100] === 7);
    buffer.fill(7);
    checksums.discard(buffer.subarray(1, 2 * BLOCK - 1));
    assert.deepEqual(kept(), [0, 1, 2, 3]);
    checksums.discard(buffer.subarray(1, 3 * BLOCK + 1));
    assert.deepEqual(kept(), [0, 3]);
    checksums.discard(buffer);
    assert.deepEqual(kept(), []);
    buffer.fill(7);
    assert.deepEqual(kept(), [0, 1, 2, 3]);
    checksums.discard(new Uint8Array(0));
  });

  it('is refused beyond a gibibyte', () => {
    assert.throws(() => checksums.alignedBuffer(2 ** 30 + 1), RangeError);
  });
});
