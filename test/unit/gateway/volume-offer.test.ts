import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import type { VolumeConfiguration } from '../../../src/config/configuration.js';
import type { Volume } from '../../../src/engine/volume.js';
import { VolumeAccess } from '../../../src/gateway/access.js';
import { GuardedDevice } from '../../../src/gateway/guarded-device.js';
import type { ReservationLine } from '../../../src/gateway/reservation-line.js';
import type { SanitizeLine } from '../../../src/gateway/sanitize-line.js';
import { VolumeOffer } from '../../../src/gateway/volume-offer.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedLog } from '../../fake/log.js';

const configuration = {
  ...{ name: 'disk0', access: 'exclusive', nbdEnabled: true, iscsiEnabled: false, physicalBlockBytes: 512 },
  nbdUsers: ['host-a'],
} as unknown as VolumeConfiguration;
const control = () => ({ probe: () => Promise.resolve(true), peerHasLeft: () => false, evict: () => undefined });

function stage() {
  const log = new RecordedLog();
  const access = new VolumeAccess({ volume: 'disk0', mode: 'exclusive', clock: new ManualClock(), log });
  const reservations = {} as unknown as ReservationLine;
  const iscsiAccess = { initiators: ['iqn.2026-11.test:a'], chap: undefined };
  return { access, offer: new VolumeOffer({ configuration, iscsiAccess, access, reservations, log }) };
}

describe('what front ends have of a volume', () => {
  it('is nothing before it begins, and then as it is configured', () => {
    const { offer } = stage();
    assert.deepEqual([offer.served], [undefined]);
    const volume = {} as unknown as Volume;
    offer.begin(volume, undefined, true);
    const { served } = offer;
    assert.equal(served?.device, volume);
    assert.deepEqual([served.nbd.enabled, served.nbd.rotational, served.iscsi.enabled], [true, true, false]);
    assert.deepEqual([served.shared, served.sanitizer, served.iscsi.physicalBlockBytes], [false, undefined, 512]);
  });

  it('says who may log in as it is at each login', () => {
    const { offer } = stage();
    offer.begin({} as unknown as Volume, undefined, false);
    const { served } = offer;
    assert.deepEqual([served?.nbd.users, served?.iscsi.initiators], [['host-a'], ['iqn.2026-11.test:a']]);
    offer.nbdUsers = ['host-b'];
    const chap = { user: 'u', secret: new Uint8Array(12) };
    offer.iscsiAccess = { initiators: [], chap };
    assert.deepEqual([served?.nbd.users, served?.iscsi.initiators, served?.iscsi.chap], [['host-b'], [], chap]);
  });

  it('is refused to NBD, not to iSCSI, while the volume is being sanitized', async () => {
    const { offer, access } = stage();
    let refusal: GatewayError | undefined = new GatewayError('volume-sanitizing', 'it is being sanitized');
    offer.begin({} as unknown as Volume, { refusal: () => refusal } as unknown as SanitizeLine, false);
    const { served } = offer;
    assert.ok(served?.device instanceof GuardedDevice);
    const attach = (frontend: 'nbd' | 'iscsi') =>
      served.attach({ key: 'one', frontend, description: 'one' }, control());
    await assert.rejects(attach('nbd'), { code: 'volume-sanitizing' });
    assert.equal(access.clients().length, 0);
    await attach('iscsi');
    refusal = undefined;
    await attach('nbd');
    assert.deepEqual(
      access.clients().map(({ connections }) => connections),
      [2],
    );
  });
});
