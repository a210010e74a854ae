/** The bytes of linux/nbd-netlink.h, as a little-endian kernel takes and sends them. */
import assert from 'node:assert/strict';
import { endianness } from 'node:os';
import { describe, it } from 'node:test';
import { deadIndex, encodeSettings, isConnected } from '../../../src/platform/nbd-netlink.js';

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(' ', ''), 'hex');
}

describe('netlink attributes of an NBD device', { skip: endianness() !== 'LE' }, () => {
  it('are numbers of 32 and 64 bits, a string with its end, and nested sockets', () => {
    assert.deepEqual(
      Buffer.from(
        encodeSettings({
          index: 3,
          sizeBytes: 0x1_0000_0200,
          blockSizeBytes: 512,
          timeoutSeconds: 0,
          serverFlags: 0x105,
          deadConnectionSeconds: 600,
          backend: 'ab',
          sockets: [7, 0x108],
        }),
      ),
      hex(
        '0800 0100 03000000' +
          '0c00 0200 0002000001000000' +
          '0c00 0300 0002000000000000' +
          '0c00 0400 0000000000000000' +
          '0c00 0500 0501000000000000' +
          '0c00 0800 5802000000000000' +
          '0700 0a00 616200 00' +
          '1c00 0700 0c00 0100 0800 0100 07000000 0c00 0100 0800 0100 08010000',
      ),
    );
    assert.deepEqual(Buffer.from(encodeSettings({ index: 0 })), hex('0800 0100 00000000'));
  });

  it('say whether a device is attached: that device, and no other', () => {
    // NBD_ATTR_DEVICE_LIST with two NBD_DEVICE_ITEM: index 1 attached, index 2 not.
    const item = (index: string, connected: string): string =>
      `1400 0100 0800 0100 ${index} 0500 0200 ${connected}000000`;
    const status = hex(`2c00 0980 ${item('01000000', '01')} ${item('02000000', '00')}`);
    assert.equal(isConnected(status, 1), true);
    assert.equal(isConnected(status, 2), false);
    assert.equal(isConnected(status, 3), false);
    for (let length = 0; length < status.length; length++) {
      assert.equal(isConnected(status.subarray(0, length), 2), false);
    }
  });

  it('say whose connection died', () => {
    assert.equal(deadIndex(hex('0800 0100 05000000')), 5);
    for (const wrong of ['', '0800 0200 05000000', '0600 0100 0500', '0000 0100', 'ffff 0100 05000000']) {
      assert.equal(deadIndex(hex(wrong)), undefined, wrong);
    }
  });
});
