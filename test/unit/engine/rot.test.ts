/**
 * One flipped bit anywhere in a volume's directory: whatever happens then, every block is what it was or an error, now,
 * after everything was moved into the image, and after another start. Small structures are changed at every byte.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { decodeSuperblock } from '../../../src/engine/superblock.js';
import { readIdentity } from '../../../src/engine/volume-directory-format.js';
import { plainChecksums } from '../../fake/checksums.js';
import { SeededRandom } from '../../fake/random.js';
import { MIB, settle, VolumeHarness } from './volume-harness.js';

const BLOCK = 4096;
const BLOCKS = 256;

interface Stage {
  readonly harness: VolumeHarness;
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly expected: Uint8Array;
}

interface Outcome {
  /** Why it was not opened. */
  readonly refused: GatewayError | undefined;
  /** Blocks that read as errors. */
  readonly lost: readonly number[];
}

/** Blocks 0 to 99 in the image, 100 to 149 and every tenth of the others in the log, all of it durable and known to be. */
async function stage(): Promise<Stage> {
  const harness = new VolumeHarness(1, MIB);
  await harness.create();
  const { clock } = harness;
  for (let block = 0; block < 100; block++) await harness.write(block * BLOCK, harness.random.bytes(BLOCK));
  await harness.flush();
  clock.advance(6000);
  await settle();
  assert.equal(harness.volume.status().overlayBlocks, 0);
  for (let block = 0; block < 150; block++)
    if (block >= 100 || block % 10 === 0) await harness.write(block * BLOCK, harness.random.bytes(BLOCK));
  await harness.zero(60 * BLOCK, 3 * BLOCK, true);
  await harness.flush();
  clock.advance(1100); // a mark says that it is durable
  await settle();
  const expected = harness.expected(harness.operations.length);
  return { harness, files: harness.disk.snapshot(), expected };
}

async function lostBlocks({ harness, expected }: Stage): Promise<number[]> {
  const lost: number[] = [];
  for (let block = 0; block < BLOCKS; block++) {
    try {
      const found = await harness.read(block * BLOCK, BLOCK);
      const right = expected.subarray(block * BLOCK, (block + 1) * BLOCK);
      assert.equal(Buffer.compare(found, right), 0, `block ${block} reads as something that it never was`);
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      assert.equal(error.code, 'checksum-mismatch');
      assert.match(error.message, new RegExp(`block ${block} `));
      lost.push(block);
    }
  }
  return lost;
}

async function trial(staged: Stage, path: string, at: number, bit: number): Promise<Outcome> {
  const { harness, files } = staged;
  const { disk, clock } = harness;
  disk.restore(files);
  disk.bytesOf(path)[at]! ^= 1 << bit;
  harness.bootId = bit % 2 === 0 ? harness.bootId : harness.random.uuid();
  try {
    await harness.open();
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    return { refused: error, lost: [] };
  }
  const lost = await lostBlocks(staged);
  clock.advance(6000);
  await settle();
  assert.equal(harness.volume.status().overlayBlocks, 0, 'everything that is left went into the image');
  assert.deepEqual(await lostBlocks(staged), lost);
  await harness.volume.close();
  await harness.open();
  assert.deepEqual(await lostBlocks(staged), lost);
  await harness.volume.close();
  return { refused: undefined, lost };
}

function positions(seed: number, count: number, from: number, to: number): { at: number; bit: number }[] {
  const random = new SeededRandom(seed);
  return Array.from({ length: count }, () => ({ at: from + random.below(to - from), bit: random.below(8) }));
}

describe('a flipped bit', () => {
  it('in the image costs the block it is in, or nothing where the block is not used', async () => {
    const staged = await stage();
    for (const { at, bit } of positions(2, 12, 0, 160 * BLOCK)) {
      const { refused, lost } = await trial(staged, 'image', at, bit);
      assert.equal(refused, undefined);
      const block = Math.floor(at / BLOCK);
      const used = block < 100 && block % 10 !== 0 && !(block >= 60 && block < 63);
      assert.deepEqual(lost, used ? [block] : [], `image at ${at}`);
    }
  });

  it('in the checksums, or in the copies of what was written there last, costs at most the blocks of its sector', async () => {
    const staged = await stage();
    const length = staged.files.get('sums')!.length;
    for (const { at, bit } of [...positions(7, 3, 0, 40), ...positions(8, 3, 65_536, 67_000)]) {
      assert.deepEqual(
        await trial(staged, 'sums.redo', at, bit),
        { refused: undefined, lost: [] },
        `sums.redo at ${at}`,
      );
    }
    const { lost: repaired } = await trial(staged, 'sums', 100, 3);
    assert.deepEqual(repaired, [], 'the copy of the last flush is as good');
    const withoutCopy = { ...staged, files: new Map([...staged.files].filter(([path]) => path !== 'sums.redo')) };
    for (const { at, bit } of [...positions(3, 8, 0, 512), ...positions(4, 6, 512, length)]) {
      const { refused, lost } = await trial(withoutCopy, 'sums', at, bit);
      assert.equal(refused, undefined);
      const sector = Math.floor(at / 512);
      assert.ok(
        lost.every((block) => Math.floor(block / 127) === sector),
        `sums at ${at}: ${lost.join()}`,
      );
      if (sector === 0) assert.ok(lost.length > 0);
    }
  });

  it('in the log costs the block whose payload it is in, or refuses the volume where it is in a header', async () => {
    const staged = await stage();
    const log = staged.files.get('log/00000001')!;
    const used = Buffer.from(log).lastIndexOf('KGLB') + BLOCK;
    let headers = 0;
    for (let page = 0; page < used; page += BLOCK) {
      const header = Buffer.from(log.subarray(page, page + 4)).toString('latin1') === 'KGLB';
      if (header) headers++;
      // Every third page; of headers the parts that are used and one that is not.
      if ((page / BLOCK) % 12 !== 0 && page !== used - BLOCK) continue;
      const places = header
        ? [...positions(page, 2, page, page + 100), { at: page + 4000, bit: 3 }]
        : positions(page, 1, page, page + BLOCK);
      for (const { at, bit } of places) {
        const { refused, lost } = await trial(staged, 'log/00000001', at, bit);
        if (refused !== undefined) {
          assert.ok(header, `${at}: ${refused.message}`);
          assert.equal(refused.code, 'log-damaged');
          assert.match(refused.message, /log file 00000001 .* byte/);
        } else assert.ok(lost.length <= (header ? 0 : 1), `log at ${at}: ${lost.join()}`);
      }
    }
    assert.ok(headers > 100);
    for (const { at, bit } of positions(5, 3, used, log.length)) {
      assert.deepEqual(await trial(staged, 'log/00000001', at, bit), { refused: undefined, lost: [] });
    }
  });

  it('in a superblock costs nothing, wherever it is', async () => {
    const staged = await stage();
    for (const path of ['super.0', 'super.1']) {
      for (let at = 0; at < BLOCK; at++) {
        const bytes = staged.files.get(path)!.slice();
        bytes[at]! ^= 1 << (at % 8);
        assert.equal(decodeSuperblock(bytes, plainChecksums, path), undefined, `${path} at ${at}`);
      }
      for (const { at, bit } of positions(6, 5, 0, 300)) {
        assert.deepEqual(await trial(staged, path, at, bit), { refused: undefined, lost: [] }, `${path} at ${at}`);
      }
    }
  });

  it('in volume.json is a refusal, or changes nothing that counts', async () => {
    const { harness, files } = await stage();
    harness.disk.restore(files);
    const { uuid } = (await readIdentity(harness.disk))!;
    const bytes = harness.disk.bytesOf('volume.json');
    let opened = 0;
    for (let at = 0; at < bytes.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const sound = bytes[at]!;
        bytes[at] = sound ^ (1 << bit);
        const where = `volume.json at ${at}, bit ${bit}`;
        try {
          const found = await readIdentity(harness.disk);
          assert.ok(found !== undefined, where);
          assert.deepEqual([found.holes, found.logicalBlockBytes, found.formatVersion], ['zero', 512, 1], where);
          // Another uuid contradicts the superblock, another name the configuration.
          if (found.uuid !== uuid && opened++ % 50 === 0)
            await assert.rejects(harness.open(), { code: 'format-unknown' });
        } catch (error) {
          if (!(error instanceof GatewayError)) throw error;
          assert.ok(['format-unknown', 'format-newer'].includes(error.code), `${where}: ${error.code}`);
          assert.match(error.message, /volume\.json/);
        }
        bytes[at] = sound;
      }
    }
  });
});
