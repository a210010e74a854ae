import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createRig, NO_TAG, parse, PREFIX, text } from '../../../fake/iscsi-client.js';
import { MemoryDevice, MemoryDirectory, MemoryVolume } from '../../../fake/memory-device.js';

describe('SendTargets', () => {
  const volumes = ['alpha', 'beta', 'gamma'].map(
    (name) =>
      new MemoryVolume(
        new MemoryDevice({ name, sizeBytes: 4096 }),
        name === 'gamma' ? { iscsi: { initiators: ['iqn.2026-11.test:other'] } } : {},
      ),
  );
  const directory = new MemoryDirectory(...volumes);
  const target = (name: string): string => `TargetName=${PREFIX}:${name}\0`;
  const address = 'TargetAddress=127.0.0.1:10809,1\0';

  it('lists in a discovery session what the initiator may have, where it reached the target', async () => {
    const client = (await createRig({ directory })).connect();
    client.discover();
    client.text(text({ SendTargets: 'All' }));
    const response = client.one();
    assert.equal(response.opcode, 0x24);
    assert.equal(response.flags, 0x80);
    assert.equal(response.data.toString(), target('alpha') + address + target('beta') + address);
    client.text(text({ SendTargets: `${PREFIX}:beta` }));
    assert.equal(client.one().data.toString(), target('beta') + address);
    client.text(text({ SendTargets: `${PREFIX}:gamma` }));
    assert.equal(client.one().data.length, 0);
  });

  it('gives out the addresses that are configured', async () => {
    const options = { advertise: ['192.0.2.1:3260', '[2001:db8::1]:3260'] };
    const client = (await createRig({ directory, options })).connect();
    client.discover();
    client.text(text({ SendTargets: `${PREFIX}:alpha` }));
    const expected = `${target('alpha')}TargetAddress=192.0.2.1:3260,1\0TargetAddress=[2001:db8::1]:3260,1\0`;
    assert.equal(client.one().data.toString(), expected);
  });

  it('tells a normal session about its own target only', async () => {
    const client = (await createRig({ directory })).connect();
    client.login({}, `${PREFIX}:alpha`);
    client.text(text({ SendTargets: '' }));
    assert.equal(client.one().data.toString(), target('alpha') + address);
    client.text(text({ SendTargets: 'All' }));
    assert.deepEqual(parse(client.one().data), { SendTargets: 'Reject' });
    client.text(text({ SendTargets: `${PREFIX}:beta` }));
    assert.equal(client.one().data.length, 0);
  });

  it('comes in parts where it is long, and takes requests in parts', async () => {
    const many = new MemoryDirectory(
      ...Array.from(
        { length: 300 },
        (_, index) => new MemoryVolume(new MemoryDevice({ name: `v${index}`, sizeBytes: 4096 })),
      ),
    );
    const client = (await createRig({ directory: many })).connect();
    client.discover();
    client.text(Buffer.from('Send'), { flags: 0x40 });
    let response = client.one();
    assert.notEqual(response.header.readUInt32BE(20), NO_TAG);
    client.text(Buffer.from('Targets=All\0'), { ttt: response.header.readUInt32BE(20) });
    const parts: Buffer[] = [];
    for (;;) {
      response = client.one();
      assert(response.data.length <= 8192);
      parts.push(response.data);
      const ttt = response.header.readUInt32BE(20);
      if (ttt === NO_TAG) break;
      assert.equal(response.flags, 0x40);
      client.text(Buffer.alloc(0), { ttt });
    }
    assert.equal(Buffer.concat(parts).toString().split('TargetName=').length - 1, 300);
  });

  it('is all that a discovery session does', async () => {
    const client = (await createRig({ directory })).connect();
    client.discover();
    client.command([0]);
    const reject = client.one();
    assert.deepEqual([reject.opcode, reject.header[2]], [0x3f, 5]);
    client.logout();
    assert.equal(client.one().opcode, 0x26);
  });
});
