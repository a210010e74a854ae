import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatReceipt, issueReceipt, parseReceipt } from '../../../src/remote/receipt.js';
import { RECEIPTS_FILE } from '../../../src/remote/receipt-keeper.js';
import { listCheckpoints, readCheckpoint } from '../../../src/remote/restore-checkpoint.js';
import { samePoint } from '../../../src/remote/chain.js';
import { SeededRandom } from '../../fake/random.js';
import { Rig, ticks } from '../../fake/replication-rig.js';

async function live(rig: Rig, batches: number, seed = 3): Promise<void> {
  const random = new SeededRandom(seed);
  rig.start();
  for (let batch = 0; batch < batches; batch++) {
    rig.writeRandom(random);
    await rig.drain();
  }
}

/** How a start ends that has something to refuse. */
async function refusal(rig: Rig): Promise<{ code: string; message: string }> {
  rig.start();
  await rig.until(() => rig.ended() !== undefined);
  const ended = rig.ended();
  await rig.kill();
  assert.ok(ended?.type === 'fatal', JSON.stringify(ended));
  return ended;
}

async function starts(rig: Rig): Promise<void> {
  rig.start();
  await rig.until(() => rig.messages.some(({ type }) => type === 'attached'));
  await rig.drain();
  await rig.kill();
}

const withReceipts = (rig: Rig, ...knownReceipts: string[]): Rig => {
  Object.assign(rig.config, { knownReceipts });
  return rig;
};

describe('receipts of an owner', () => {
  it('are kept durably before anybody sees them, and are not made twice of one point', async () => {
    const rig = new Rig();
    await live(rig, 3);
    const text = await rig.receipt();
    assert.equal(await rig.receipt(), text);
    await rig.kill();
    const kept = Buffer.from(await rig.disk.readSmall(RECEIPTS_FILE)).toString('utf8');
    assert.ok(kept.endsWith(text));
    assert.equal(kept.split(text).length, 2);
    assert.equal(parseReceipt(text, 'r').number, rig.state.segmentNumber);
  });

  it('are issued by themselves while there is something new, and not while the volume is idle', async () => {
    const rig = new Rig({ config: { receiptEveryMs: 60_000 } });
    const due = (): number => rig.messages.filter((message) => message.type === 'receipt').length;
    await live(rig, 1);
    await rig.until(() => due() === 1);
    rig.writeRandom(new SeededRandom(4));
    await rig.drain();
    assert.equal(due(), 1, 'the next one is due in a minute');
    await rig.until(() => due() === 2);
    const calls = rig.store.calls.length;
    rig.clock.advance(3_600_000);
    await ticks(20);
    assert.equal(due(), 2);
    assert.equal(rig.store.calls.length, calls);
    await rig.kill();
  });

  it('stand in every later checkpoint', async () => {
    const rig = new Rig({ config: { segmentBytes: 4096 } });
    await live(rig, 4);
    const receipt = parseReceipt(await rig.receipt(), 'r');
    const random = new SeededRandom(8);
    const sealer = await rig.sealer();
    const newestCheckpoint = async () => {
      for (const key of await listCheckpoints(rig.store, sealer, {})) {
        if (key.number <= receipt.number) return undefined;
        return readCheckpoint(rig.store, sealer, key, {}, (error) => assert.ifError(error));
      }
      return undefined;
    };
    const listed: number[] = [];
    for (let batch = 0; batch < 60; batch++) {
      rig.writeRandom(random);
      await rig.drain();
      const checkpoint = await newestCheckpoint();
      if (checkpoint === undefined) continue;
      assert.ok(checkpoint.receipts.some((issued) => samePoint(issued, receipt)));
      listed.push(checkpoint.recoveryPoint.number);
    }
    assert.ok(new Set(listed).size > 1, 'more than one checkpoint was written');
    await rig.kill();
  });

  it('let a running owner notice that its bucket was rolled back', async () => {
    const rig = new Rig({ config: { receiptEveryMs: 60_000 } });
    await live(rig, 2);
    const old = rig.store.snapshot();
    rig.writeRandom(new SeededRandom(4));
    await rig.drain();
    rig.store.restore(old);
    await rig.until(() => rig.ended() !== undefined);
    const ended = rig.ended();
    assert.ok(ended?.type === 'fatal' && ended.code === 'remote-vanished', JSON.stringify(ended));
    await rig.kill();
  });
});

describe('a start with a receipt that was kept elsewhere', () => {
  it('goes on where the bucket descends from it, through checkpoints and other owners', async () => {
    const rig = new Rig({ config: { segmentBytes: 4096 } });
    await live(rig, 3);
    const early = await rig.receipt();
    await rig.kill();
    for (let life = 0; life < 3; life++) {
      await live(rig, 30, 20 + life);
      await rig.kill();
    }
    // As if it had been issued by somebody else, or long ago.
    await rig.disk.remove(RECEIPTS_FILE);
    await starts(withReceipts(rig, early));
    for (const key of rig.store.keys(`${rig.config.uuid}/checkpoints/`)) rig.store.poke(key, undefined);
    await starts(withReceipts(rig, early));
  });

  it('refuses a bucket that was rolled back, and says how much is missing', async () => {
    const rig = new Rig();
    await live(rig, 3);
    const old = rig.store.snapshot();
    await live2(rig, 4);
    const receipt = await rig.receipt();
    await rig.kill();
    rig.store.restore(old);
    const { code, message } = await refusal(withReceipts(rig, receipt));
    assert.equal(code, 'remote-vanished');
    assert.match(message, /at least 4 segments and \d+ LSNs are missing: what is left ends \d{4}-/);
  });

  it('refuses a bucket and a directory that were rolled back together', async () => {
    const rig = new Rig();
    await live(rig, 3);
    const { state } = rig;
    const old = rig.store.snapshot();
    await live2(rig, 4);
    const receipt = await rig.receipt();
    await rig.kill();
    rig.store.restore(old);
    rig.state = state;
    await rig.disk.remove(RECEIPTS_FILE);
    // The log still has what was lost: only its superblock is old.
    const { code, message } = await refusal(withReceipts(rig, receipt));
    assert.equal(code, 'receipt-unmet');
    assert.match(message, /older than the receipt: at least 4 segments \(\d+ LSNs, \d+ s\) are missing/);
    // Without it nobody could know, and the log would be sent once more.
    await starts(withReceipts(rig));
    assert.equal(rig.state.replicatedLsn, rig.log.lastLsn);
  });

  it('does not take for a rollback that the history went on, and what led to the directory’s head was deleted', async () => {
    const rig = new Rig({ blocks: 129, config: { graceMs: 4000 } });
    const random = new SeededRandom(9);
    const churn = async (groups: number): Promise<void> => {
      for (let group = 0; group < groups; group++) {
        const ops = Array.from({ length: 12 }, () => ({
          kind: 'write' as const,
          firstBlock: random.below(128),
          data: random.bytes(4096),
        }));
        rig.write(ops);
        await rig.drain();
        const untilMs = rig.clock.nowMs() + 500;
        await rig.until(() => rig.clock.nowMs() >= untilMs);
      }
    };
    rig.start();
    await churn(30);
    // A segment that stays, since nothing in it is ever overwritten.
    rig.write([{ kind: 'write', firstBlock: 128, data: random.bytes(4096) }]);
    await rig.drain();
    const { state } = rig;
    await churn(3);
    await rig.receipt();
    await churn(60);
    await rig.kill();
    rig.state = state;
    const { code, message } = await refusal(rig);
    assert.equal(code, 'remote-ahead', message);
    assert.match(message, /was deleted since/);
  });

  it('refuses a history that does not descend from it', async () => {
    const rig = new Rig();
    await live(rig, 3);
    const fork = rig.store.snapshot();
    const { state } = rig;
    await live2(rig, 2);
    const receipt = await rig.receipt();
    await rig.kill();
    // The provider shows this directory the bucket of the fork, where it goes on.
    rig.store.restore(fork);
    rig.state = state;
    await rig.disk.remove(RECEIPTS_FILE);
    await live(rig, 5, 77);
    await rig.kill();
    const { code, message } = await refusal(withReceipts(rig, receipt));
    assert.equal(code, 'receipt-unmet');
    assert.match(message, /does not descend from the receipt/);
  });

  it('refuses a directory that is older than it', async () => {
    const rig = new Rig();
    await live(rig, 2);
    const receipt = parseReceipt(await rig.receipt(), 'r');
    await rig.kill();
    const later = issueReceipt(await rig.sealer(), { ...receipt, lsn: rig.log.lastLsn + 1 });
    assert.equal((await refusal(withReceipts(rig, formatReceipt(later)))).code, 'remote-ahead');
  });

  it('refuses one that was changed', async () => {
    const rig = new Rig();
    await live(rig, 2);
    const receipt = await rig.receipt();
    await rig.kill();
    assert.equal((await refusal(withReceipts(rig, receipt.replace('"epoch":1', '"epoch":2')))).code, 'receipt-invalid');
    assert.equal((await refusal(withReceipts(rig, 'nonsense'))).code, 'receipt-invalid');
  });

  it('holds the bucket to the directory’s own receipt where the superblock is behind', async () => {
    const rig = new Rig();
    await live(rig, 3);
    const { state } = rig;
    const old = rig.store.snapshot();
    await live2(rig, 1);
    await rig.receipt();
    await rig.kill();
    rig.state = state;
    rig.store.restore(old);
    assert.equal((await refusal(rig)).code, 'receipt-unmet');
  });
});

/** Goes on in the same life. */
async function live2(rig: Rig, batches: number): Promise<void> {
  const random = new SeededRandom(55);
  for (let batch = 0; batch < batches; batch++) {
    rig.writeRandom(random);
    await rig.drain();
  }
}
