import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { limits } from '../../../src/base/limits.js';
import type { BlockWrite } from '../../../src/engine/partial-write.js';
import { WriteRoom } from '../../../src/engine/write-room.js';
import { MIB, settle, VolumeHarness } from './volume-harness.js';

type Parts = ConstructorParameters<typeof WriteRoom>[0];

function stage(): {
  readonly room: WriteRoom;
  readonly log: { hasRoom: boolean; hasRoomForZeros: boolean };
  readonly overlay: { isFull: boolean };
  readonly reclaimer: { stalled: GatewayError | undefined };
  readonly volume: { writable: boolean };
} {
  const log = { hasRoom: true, hasRoomForZeros: true };
  const overlay = { isFull: false };
  const reclaimer = { stalled: undefined };
  const volume = { writable: true };
  const room = new WriteRoom({ log, overlay, reclaimer } as unknown as Parts, () => volume.writable);
  return { room, log, overlay, reclaimer, volume };
}

const payload = (heldBytes: number): BlockWrite => ({ heldBytes }) as unknown as BlockWrite;

describe('room for writes', () => {
  it('is there when the log, memory for records and the disk all have some', () => {
    const { room, log, overlay, reclaimer } = stage();
    assert.equal(room.isThere, true);
    log.hasRoom = false;
    assert.equal(room.isThere, false);
    log.hasRoom = true;
    overlay.isFull = true;
    assert.equal(room.isThere, false);
    overlay.isFull = false;
    reclaimer.stalled = new GatewayError('disk-full', 'the disk is full');
    assert.equal(room.isThere, false);
  });

  it('is for trims and zeros only while the disk is full, as long as the log takes those', () => {
    const { room, log, overlay, reclaimer } = stage();
    assert.equal(room.isForZerosOnly, false, 'there is room for all');
    reclaimer.stalled = new GatewayError('disk-full', 'the disk is full');
    log.hasRoom = false;
    assert.equal(room.isForZerosOnly, true);
    overlay.isFull = true;
    assert.equal(room.isForZerosOnly, false);
    overlay.isFull = false;
    log.hasRoomForZeros = false;
    assert.equal(room.isForZerosOnly, false);
  });

  it('wakes who waits, once, when memory for payloads is there again and writes can go on', async () => {
    const { room, volume } = stage();
    const [first, second] = [payload(limits.heldWriteBytesMax), payload(4096)];
    room.hold(first);
    room.hold(second);
    assert.equal(room.hasMemory, false);
    let woken = 0;
    room.onceWoken(() => woken++);
    room.released(second);
    await settle();
    assert.deepEqual([woken, room.hasMemory], [0, false], 'the other one alone is as much as there may be');
    volume.writable = false;
    room.released(first);
    await settle();
    assert.deepEqual([woken, room.hasMemory], [0, true], 'the log is full meanwhile');
    volume.writable = true;
    room.hold(first);
    room.released(first);
    assert.equal(woken, 0, 'not inside the call that gives it back');
    await settle();
    room.wake();
    assert.equal(woken, 1);
  });

  it('of a volume is what its memory allows, and comes back when one payload is through', async () => {
    const h = new VolumeHarness(20, 128 * MIB);
    await h.create();
    const held = [h.volume.openWrite(0, 16 * MIB), h.volume.openWrite(32 * MIB, 16 * MIB)];
    assert.equal(h.volume.writable, false);
    let woken = 0;
    h.volume.onceWritable(() => woken++);
    held[0]?.abandon();
    await settle();
    assert.deepEqual([woken, h.volume.writable], [1, true]);
    held[1]?.abandon();
  });
});
