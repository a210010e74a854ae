import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createRig, INITIATOR, parse, PREFIX, text } from '../../../fake/iscsi-client.js';
import type { IscsiClient, Pdu } from '../../../fake/iscsi-client.js';
import { settled } from '../../../fake/memory-stream.js';

const names = { InitiatorName: INITIATOR, SessionType: 'Normal', TargetName: `${PREFIX}:demo` };
const status = (pdu: Pdu): number => pdu.header.readUInt16BE(36);
const CONTINUE = 0x40;

async function connect(options: NonNullable<Parameters<typeof createRig>[0]>['options'] = {}): Promise<IscsiClient> {
  return (await createRig({ options })).connect();
}

/** Keys that nobody knows, whose answers are longer than the offers. */
function unknownKeys(count: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, index) => [`X-k${index}`, '1']));
}

describe('the stages of a login', () => {
  // From the first request on: [CSG, NSG] of each; undefined: no transit.
  const orders: readonly (readonly (readonly [number, number | undefined])[])[] = [
    [[0, 3]],
    [[1, 3]],
    [
      [0, 1],
      [1, 3],
    ],
    [
      [0, undefined],
      [0, undefined],
      [0, 3],
    ],
    [
      [0, undefined],
      [0, 1],
      [1, undefined],
      [1, undefined],
      [1, 3],
    ],
  ];
  for (const order of orders) {
    const name = order.map(([csg, nsg]) => `${csg}${nsg === undefined ? '' : `>${nsg}`}`).join(' ');
    it(`may be ${name} (RFC 7143 6.3, 11.12.3)`, async () => {
      const client = await connect();
      for (const [index, [csg, nsg]] of order.entries()) {
        const keys = index === 0 ? names : {};
        const response = client.loginStep(keys, nsg === undefined ? { csg } : { csg, nsg });
        assert.equal(status(response), 0);
        assert.equal(response.flags, (nsg === undefined ? 0 : 0x80 | nsg) | (csg << 2));
      }
      client.nopOut();
      assert.equal(client.one().opcode, 0x20, 'full feature');
    });
  }

  it('are refused in any other order (RFC 7143 6.3, 11.12.3)', async () => {
    const wrong: readonly (readonly (readonly [number, number | undefined])[])[] = [
      [[2, undefined]],
      [[2, 3]],
      [[3, 3]],
      [[0, 0]],
      [[0, 2]],
      [[1, 1]],
      [[1, 0]],
      [
        [0, undefined],
        [1, 3],
      ],
      [
        [0, 1],
        [0, 1],
      ],
      [
        [1, undefined],
        [0, 3],
      ],
    ];
    for (const order of wrong) {
      const client = await connect();
      let last: Pdu | undefined;
      for (const [index, [csg, nsg]] of order.entries()) {
        last = client.loginStep(index === 0 ? names : {}, nsg === undefined ? { csg } : { csg, nsg });
      }
      assert(last);
      assert.equal(status(last), 0x0200, JSON.stringify(order));
      await settled();
      assert.equal(client.stream.destroyed, true);
    }
  });

  it('may not change who is logging in (RFC 7143 11.12.5 to 11.12.7)', async () => {
    const changes: readonly ((client: IscsiClient) => { tsih?: number; cid?: number })[] = [
      (client) => {
        client.isid = '800000000099';
        return {};
      },
      () => ({ tsih: 1 }),
      () => ({ cid: 1 }),
    ];
    for (const change of changes) {
      const client = await connect();
      assert.equal(status(client.loginStep(names, { csg: 1 })), 0);
      assert.equal(status(client.loginStep({}, { csg: 1, nsg: 3, ...change(client) })), 0x0200);
    }
  });

  it('answer anything but a login request with its status, and end (RFC 7143 6.3)', async () => {
    const client = await connect();
    client.loginStep(names, { csg: 1 });
    client.command([0]);
    const response = client.one();
    assert.deepEqual([response.opcode, status(response)], [0x23, 0x020b]);
    assert.equal(response.header.toString('hex', 8, 14), client.isid);
    await settled();
    assert.equal(client.stream.finished, true);
  });

  it('say which session a connection joins, in every response (RFC 7143 11.13.3)', async () => {
    const rig = await createRig();
    const first = rig.connect();
    first.login({ MaxConnections: '2' });
    const second = rig.connect();
    const options = { csg: 0, tsih: first.tsih, cid: 1 };
    for (const response of [second.loginStep(names, options), second.loginStep({}, { ...options, nsg: 3 })]) {
      assert.equal(response.header.readUInt16BE(14), first.tsih);
    }
  });
});

describe('versions', () => {
  it('are compared by the first request (RFC 7143 11.12.4, 11.13.1, 11.13.2)', async () => {
    const client = await connect();
    const header = client.loginHeader({ flags: 0x87, versionMin: 0 });
    header[2] = 7;
    client.send(header, text(names));
    const response = client.one();
    assert.deepEqual([status(response), response.header[2], response.header[3]], [0, 0, 0], 'ours is 0');
    const later = await connect();
    assert.equal(status(later.loginStep(names, { csg: 1, nsg: 3, versionMin: 1 })), 0x0205);
  });
});

describe('text of a login', () => {
  it('is answered in parts where it is longer than 8192 bytes (RFC 7143 6.2, 11.13.6)', async () => {
    const client = await connect();
    const keys = { ...names, ...unknownKeys(600) };
    const parts: Buffer[] = [];
    let response = client.loginStep(keys, { csg: 1, nsg: 3 });
    while ((response.flags & CONTINUE) !== 0) {
      assert.equal(response.flags, CONTINUE | 0x04, 'no transit before the end');
      assert.equal(response.data.length, 8192);
      parts.push(response.data);
      response = client.loginStep('', { csg: 1, nsg: 3 });
    }
    assert.equal(response.flags, 0x87);
    assert.notEqual(response.header.readUInt16BE(14), 0);
    const answers = parse(Buffer.concat([...parts, response.data]));
    assert.equal(Object.keys(answers).length, 601);
    assert(parts.length > 0 && answers['X-k599'] === 'NotUnderstood');
  });

  it('may stay in the stage after an answer in parts (RFC 7143 11.13.6)', async () => {
    const client = await connect();
    let response = client.loginStep({ ...names, ...unknownKeys(600) }, { csg: 1 });
    while ((response.flags & CONTINUE) !== 0) response = client.loginStep('', { csg: 1 });
    assert.equal(response.flags, 0x04);
    assert.equal(client.loginStep({ MaxBurstLength: '65536' }, { csg: 1, nsg: 3 }).flags, 0x87);
  });

  it('may not interrupt its own answer (RFC 7143 6.2)', async () => {
    for (const interruption of [{ keys: { MaxBurstLength: '65536' } }, { keys: '', more: true }]) {
      const client = await connect();
      assert.notEqual(client.loginStep({ ...names, ...unknownKeys(600) }, { csg: 1 }).flags & CONTINUE, 0);
      const { keys, ...rest } = interruption;
      assert.equal(status(client.loginStep(keys, { csg: 1, ...rest })), 0x0200);
    }
  });

  it('of the security stage has no operational keys (RFC 7143 6.3.2)', async () => {
    const client = await connect();
    const response = client.loginStep({ ...names, MaxBurstLength: '65536', 'X-other': '1' }, { csg: 0, nsg: 1 });
    const answers = parse(response.data);
    assert.deepEqual([answers['MaxBurstLength'], answers['X-other']], ['Reject', 'NotUnderstood']);
    assert.equal(
      parse(client.loginStep({ MaxRecvDataSegmentLength: '8192' }, { csg: 1 }).data)['HeaderDigest'],
      undefined,
    );
  });

  it('knows keys that have no place in a login (RFC 7143 6.2)', async () => {
    const client = await connect();
    const keys = ['SendTargets', 'TargetAlias', 'TargetAddress', 'TargetPortalGroupTag', 'AuthMethod', 'CHAP_A'];
    const response = client.loginStep({ ...names, ...Object.fromEntries(keys.map((key) => [key, 'x'])) }, { csg: 1 });
    const pairs = response.data.toString().split('\0');
    for (const key of keys) assert(pairs.includes(`${key}=Reject`), key);
  });
});

describe('result functions', () => {
  const negotiated = async (keys: Record<string, string>, type = 'Normal'): Promise<Record<string, string>> =>
    parse((await connect()).loginStep({ ...names, SessionType: type, ...keys }, { csg: 1 }).data);

  it('call FirstBurstLength irrelevant where nothing may come unasked (RFC 7143 13.14)', async () => {
    const answers = await negotiated({ FirstBurstLength: '8192', InitialR2T: 'Yes', ImmediateData: 'No' });
    assert.equal(answers['FirstBurstLength'], 'Irrelevant', 'whatever the order of the keys');
    assert.equal((await negotiated({ FirstBurstLength: '8192', InitialR2T: 'Yes' }))['FirstBurstLength'], '8192');
    assert.equal(
      (await negotiated({ FirstBurstLength: '8192', InitialR2T: 'No', ImmediateData: 'No' }))['FirstBurstLength'],
      '8192',
    );
  });

  it('keep FirstBurstLength within MaxBurstLength (RFC 7143 13.14)', async () => {
    const answers = await negotiated({ FirstBurstLength: '65536', MaxBurstLength: '4096' });
    assert.deepEqual([answers['FirstBurstLength'], answers['MaxBurstLength']], ['4096', '4096']);
  });

  it('know what a discovery session has no use for (RFC 7143 13)', async () => {
    const irrelevant = ['MaxConnections', 'InitialR2T', 'ImmediateData', 'MaxBurstLength', 'FirstBurstLength'];
    irrelevant.push('MaxOutstandingR2T', 'DataPDUInOrder', 'DataSequenceInOrder', 'TaskReporting');
    const offers = Object.fromEntries(irrelevant.map((key) => [key, '1']));
    const others = { DefaultTime2Wait: '0', DefaultTime2Retain: '20', ErrorRecoveryLevel: '0' };
    const answers = await negotiated({ ...offers, ...others, MaxRecvDataSegmentLength: '512' }, 'Discovery');
    for (const key of irrelevant) assert.equal(answers[key], 'Irrelevant', key);
    assert.equal(answers['DefaultTime2Wait'], '2');
    assert.equal(answers['DefaultTime2Retain'], '0');
    assert.equal(answers['ErrorRecoveryLevel'], '0');
    assert.equal(answers['MaxRecvDataSegmentLength'], '262144');
  });
});
