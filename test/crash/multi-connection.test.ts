/**
 * What CAN_MULTI_CONN promises ("Transmission flags" of the NBD protocol's document): what was written on one connection is
 * read on another as soon as it is acknowledged, and what another flushes is there after the death of the process. (After
 * a loss of power too: power-loss.test.ts flushes on any connection what any other wrote.)
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { runLoad } from './load.js';
import { contentsOf, sectorBytes } from './ledger.js';
import { CrashRig } from './rig.js';
import { chosenSeed, withSeed } from './seed.js';

const rounds = process.env['KEEPGATE_TEST_LONG'] === '1' ? 50 : 3;
const writesMax = 800;
const sectors = 24;

describe('several NBD connections to one volume', () => {
  it(`${rounds} times: written on one, read and flushed on another, SIGKILL, all there`, () =>
    withSeed(chosenSeed(), async (seed) => {
      const rig = await CrashRig.start({ seed });
      const { ledger } = rig;
      try {
        for (let round = 1; round <= rounds; round += 1) {
          const [writer, other] = [await rig.connect('nbd'), await rig.connect('nbd')];
          const enough = rig.draw(writesMax);
          await runLoad({
            clients: [writer],
            ledger,
            random: rig.random,
            requestsPerClient: 16,
            sectorsPerWriteMax: 48,
            flushShare: 0,
            onAcknowledged: (count) => count < enough,
          });
          const first = rig.draw(1000);
          const number = ledger.begin(first, sectors);
          const data = contentsOf(first, sectors, number);
          await writer.write(first * sectorBytes, data);
          ledger.acknowledge(first, sectors);
          assert.deepEqual(await other.read(first * sectorBytes, data.length), data, rig.explain());
          await other.flush();
          await rig.gateway.kill();
          for (const client of [writer, other]) client.destroy();
          await rig.gateway.startAgain();
          await rig.verify('nbd', `after kill ${round}`);
        }
      } finally {
        await rig.gateway.dispose();
      }
    }));
});
