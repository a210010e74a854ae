/** The client's side of the handshake against bytes from the protocol document, and against servers that break its rules. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError, ProtocolError } from '../../../src/base/errors.js';
import { askInfo, negotiateGo } from '../../../src/nbd-client/negotiation.js';
import type { DialedConnection } from '../../../src/ports/nbd-device.js';
import { SeededRandom } from '../../fake/random.js';

const greeting = '4e42444d41474943 49484156454f5054 0003';
const reply = (type: string, data = '', asked = '00000007'): string => {
  const lengthBytes = hex(data).length.toString(16).padStart(8, '0');
  return `0003e889045565a9 ${asked} ${type} ${lengthBytes} ${data}`;
};
/** NBD_INFO_EXPORT: 1 MiB; HAS_FLAGS, SEND_FLUSH, CAN_MULTI_CONN. */
const exportInfo = '0000 0000000000100000 0105';
const ack = '00000001';
const infoReply = '00000003';

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(' ', ''), 'hex');
}

/** Plays a server that says all of this, whatever it is told. */
function playing(text: string | Buffer): DialedConnection & { readonly sent: Buffer[]; left: () => number } {
  let bytes = typeof text === 'string' ? hex(text) : text;
  const sent: Buffer[] = [];
  return {
    sent,
    left: () => bytes.length,
    read: (lengthBytes) => {
      if (bytes.length < lengthBytes) return Promise.reject(new GatewayError('gateway-unreachable', 'the end'));
      const part = bytes.subarray(0, lengthBytes);
      bytes = bytes.subarray(lengthBytes);
      return Promise.resolve(part);
    },
    write: (part) => sent.push(Buffer.from(part)),
    secure: undefined,
    detach: () => Promise.reject(new Error('not here')),
    close: () => undefined,
  };
}

describe('the negotiation of a kernel client', () => {
  it('sends NBD_OPT_GO and nothing else, and takes size and flags from the answer', async () => {
    const connection = playing(`${greeting} ${reply(infoReply, exportInfo)} ${reply(ack)}`);
    const negotiated = await negotiateGo(connection, 'vol');
    assert.deepEqual(negotiated, { sizeBytes: 1 << 20, flags: 0x105, readOnly: false, canMultiConn: true });
    assert.deepEqual(
      Buffer.concat(connection.sent),
      hex('00000003 49484156454f5054 00000007 00000009 00000003 766f6c 0000'),
    );
    assert.equal(connection.left(), 0, 'transmission follows, which is the kernel’s');
  });

  it('asks for TLS first where the connection is to be encrypted, and says nothing else in clear', async () => {
    const connection = playing(
      `${greeting} ${reply(ack, '', '00000005')} ${reply(infoReply, exportInfo)} ${reply(ack)}`,
    );
    let inClear: Buffer | undefined;
    const secure = (): Promise<void> => {
      inClear = Buffer.concat(connection.sent.splice(0));
      return Promise.resolve();
    };
    await negotiateGo({ ...connection, secure }, 'vol');
    assert.deepEqual(inClear, hex('00000003 49484156454f5054 00000005 00000000'));
    assert.deepEqual(Buffer.concat(connection.sent), hex('49484156454f5054 00000007 00000009 00000003 766f6c 0000'));
    for (const type of ['80000001', '80000002', infoReply]) {
      const refusing = playing(`${greeting} ${reply(type, '', '00000005')}`);
      await assert.rejects(
        negotiateGo({ ...refusing, secure: () => Promise.reject(new Error('not reached')) }, 'vol'),
        (error) => error instanceof GatewayError && error.code === 'not-supported',
      );
      assert.equal(Buffer.concat(refusing.sent).includes('vol'), false, 'the volume is not named in clear');
    }
  });

  it('asks with NBD_OPT_INFO where it only wants to know, and takes its leave', async () => {
    const connection = playing(`${greeting} ${reply(infoReply, exportInfo, '00000006')} ${reply(ack, '', '00000006')}`);
    assert.equal((await askInfo(connection, '')).sizeBytes, 1 << 20);
    assert.deepEqual(
      Buffer.concat(connection.sent),
      hex('00000003 49484156454f5054 00000006 00000006 00000000 0000 49484156454f5054 00000002 00000000'),
    );
  });

  it('accepts only the client flags that the server offered', async () => {
    const connection = playing(`${greeting.replace(/0003$/, '0001')} ${reply(infoReply, exportInfo)} ${reply(ack)}`);
    await negotiateGo(connection, '');
    assert.deepEqual(connection.sent[0], hex('00000001'));
  });

  it('passes over other information', async () => {
    const name = reply(infoReply, '0001 766f6c');
    const connection = playing(`${greeting} ${name} ${reply(infoReply, exportInfo)} ${name} ${reply(ack)}`);
    assert.equal((await negotiateGo(connection, 'vol')).sizeBytes, 1 << 20);
  });

  for (const [what, code, type] of [
    ['an unknown export', 'not-found', '80000006'],
    ['one that another client has', 'volume-in-use', '80000002'],
    ['TLS that is required', 'not-supported', '80000005'],
    ['a server that is stopping', 'gateway-unreachable', '80000007'],
    ['a server that is too old', 'not-supported', '80000001'],
  ] as const) {
    it(`tells ${what} from the others`, async () => {
      const connection = playing(`${greeting} ${reply(type, '68690a1b5b')}`);
      await assert.rejects(negotiateGo(connection, 'vol'), (error) => {
        assert(error instanceof GatewayError);
        assert.equal(error.code, code);
        assert.doesNotMatch(error.message, /\p{Cc}/u, 'a server’s text cannot move the cursor');
        return true;
      });
    });
  }

  for (const [what, text] of [
    ['is no NBD server', '485454502f312e31203430302042616420 00'],
    ['is oldstyle', '4e42444d41474943 0000420281861253 0003'],
    ['is not fixed newstyle', greeting.replace(/0003$/, '0000')],
    ['answers another option', `${greeting} ${reply(ack, '', '00000003')}`],
    ['never says the size', `${greeting} ${reply(ack)}`],
    ['says the size in too few bytes', `${greeting} ${reply(infoReply, exportInfo.slice(0, -2))} ${reply(ack)}`],
    ['says a size beyond 2^53', `${greeting} ${reply(infoReply, '0000 0020000000000000 0105')} ${reply(ack)}`],
    ['has no flags', `${greeting} ${reply(infoReply, '0000 0000000000100000 0104')} ${reply(ack)}`],
    ['sends a reply of 4 GiB', `${greeting} 0003e889045565a9 00000007 00000003 ffffffff`],
    ['never comes to an end', `${greeting} ${reply(infoReply, exportInfo).repeat(40)}`],
    ['answers an unknown error', `${greeting} ${reply('80000fff')}`],
  ] as const) {
    it(`ends the connection to a server that ${what}`, async () => {
      await assert.rejects(negotiateGo(playing(text), 'vol'), ProtocolError);
    });
  }

  it('ends in one of the two kinds of error, or in an export, whatever bytes come', async () => {
    const proper = hex(`${greeting} ${reply(infoReply, exportInfo)} ${reply(ack)}`);
    const random = new SeededRandom(7);
    for (let round = 0; round < 3000; round++) {
      const bytes = Buffer.from(proper);
      for (let count = 1 + random.below(3); count > 0; count--) bytes[random.below(bytes.length)] = random.below(256);
      const cut = random.below(4) === 0 ? bytes.subarray(0, random.below(bytes.length)) : bytes;
      await negotiateGo(playing(cut), 'vol').catch((error: unknown) => {
        assert(error instanceof GatewayError || error instanceof ProtocolError, String(error));
      });
    }
  });
});
