import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createPair, read10 } from '../../../fake/iscsi-client.js';
import { settled } from '../../../fake/memory-stream.js';

describe('logout', () => {
  it('of another connection ends that one, after what it is owed (RFC 7143 11.14.1)', async () => {
    const { rig, first, second } = await createPair();
    rig.device.holdReads = true;
    second.command(read10(0, 1), { read: 512 });
    first.logout(1, 1);
    const response = first.one();
    assert.deepEqual([response.opcode, response.header[2]], [0x26, 0]);
    await settled();
    assert.equal(second.stream.finished, true);
    assert.equal(first.stream.destroyed, false);
    rig.device.heldReads.splice(0)[0]!.release();
    rig.device.holdReads = false;
    assert.equal((await first.run([0])).status, 0);
    first.logout(1, 1);
    assert.equal(first.one().header[2], 1, 'CID not found');
  });

  it('of the own connection leaves the others (RFC 7143 11.14.1)', async () => {
    const { rig, first, second } = await createPair();
    first.logout(1, 0);
    assert.equal(first.one().header[2], 0);
    await settled();
    assert.equal(first.stream.finished, true);
    assert.equal((await second.run(read10(0, 1), { read: 512 })).status, 0);
    assert.equal(rig.volume.holders.length, 1);
  });

  it('of the session ends every connection (RFC 7143 11.14.1)', async () => {
    const { rig, first, second } = await createPair();
    second.logout(0, 1);
    assert.equal(second.one().header[2], 0);
    await settled();
    assert.deepEqual([first.stream.finished, second.stream.finished], [true, true]);
    assert.equal(rig.volume.holders.length, 0);
  });

  it('for recovery is refused at error recovery level 0, and nothing ends (RFC 7143 11.15.1)', async () => {
    const { first, second } = await createPair();
    first.logout(2, 1);
    assert.equal(first.one().header[2], 2);
    assert.equal((await second.run([0])).status, 0);
  });

  it('waits for its turn like any command (RFC 7143 4.2.2.1)', async () => {
    const { first, second } = await createPair();
    const late = first.delay(() => void first.command([0]));
    second.logout(1, 1);
    await settled();
    assert.deepEqual(second.pdus(), []);
    late();
    await settled();
    assert.equal(second.one().opcode, 0x26);
    assert.equal(second.stream.finished, true);
  });

  it('with a reason that is none is rejected (RFC 7143 11.14.1)', async () => {
    const { first } = await createPair();
    first.logout(3);
    const reject = first.one();
    assert.deepEqual([reject.opcode, reject.header[2]], [0x3f, 9]);
  });
});
