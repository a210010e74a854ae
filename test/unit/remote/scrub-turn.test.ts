import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BookKeeper } from '../../../src/remote/book-keeper.js';
import { scrubRemote } from '../../../src/remote/remote-scrub.js';
import { plainChecksums } from '../../fake/checksums.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { writtenRig } from '../../fake/replication-rig.js';

describe('the turns of a scrub at the book', () => {
  it('says of every block that lives what its sum is, and takes its turn at the book once for many segments', async () => {
    const rig = await writtenRig(3, 120);
    const { remoteEpoch: epoch, segmentNumber: number, chainHead: link } = rig.state;
    await rig.kill();
    const options = {
      store: rig.store,
      sealer: await rig.sealer(),
      checksums: plainChecksums,
      createdSizeBytes: rig.log.createdSizeBytes,
      request: {},
    };
    const head = { epoch, number, link };
    const keeper = new BookKeeper({ ...options, disk: new MemoryDisk(), log: new RecordedLog(), head: () => head });
    let turns = 0;
    const use = keeper.use.bind(keeper);
    keeper.use = (work) => {
      turns++;
      return use(work);
    };
    const told = new Map<number, number>();
    let segments = 0;
    const { blocks, damages } = await scrubRemote({
      ...options,
      keeper,
      progress: () => segments++,
      live: (found, sums) => found.forEach((block, at) => told.set(block, sums[at] ?? 0)),
    });
    await keeper.close();
    assert.deepEqual(damages, []);
    assert.ok(blocks > 0 && segments > 8, `${segments} segments`);
    assert.ok(turns <= 2 + Math.ceil(segments / 8), `${turns} turns for ${segments} segments`);
    const image = rig.log.imageAt(rig.log.lastLsn);
    const isZero = (block: number): boolean =>
      image.subarray(block * 4096, (block + 1) * 4096).every((byte) => byte === 0);
    const expected = Array.from({ length: image.length / 4096 }, (_, block) => block).filter((block) => !isZero(block));
    assert.deepEqual(
      [...told.keys()].sort((left, right) => left - right),
      expected,
    );
    for (const [block, sum] of told)
      assert.equal(plainChecksums.verifyBlocks(image, block * 4096, 1, block, Uint32Array.of(sum), 0), -1, `${block}`);
  });
});
