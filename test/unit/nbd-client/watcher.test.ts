import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, it } from 'node:test';
import type { ErrorCode } from '../../../src/base/errors.js';
import { GatewayError } from '../../../src/base/errors.js';
import {
  ATTEMPT_MS,
  BACKOFF_MS_MAX,
  backendOf,
  LOOK_MS,
  OFFER_MS,
  NbdWatcher,
  SINGLE_REQUEST_MS,
} from '../../../src/nbd-client/watcher.js';
import type { WatchEnd } from '../../../src/nbd-client/watcher.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedLog } from '../../fake/log.js';
import { FakeNbdDevice, FakeNbdServer } from '../../fake/nbd-kernel.js';
import { SeededRandom } from '../../fake/random.js';

const deadConnectionSeconds = 600;
const requestMs = 30_000;

class Rig {
  readonly server = new FakeNbdServer();
  readonly device = new FakeNbdDevice(this.server);
  readonly clock = new ManualClock();
  readonly log = new RecordedLog();
  readonly stop = new AbortController();
  attachedCount = 0;
  watcher!: NbdWatcher;
  ended!: Promise<WatchEnd>;

  constructor(readonly random = new SeededRandom(1)) {}

  async start(connections = 1): Promise<void> {
    const { device, server: dialer, clock, random, log } = this;
    this.watcher = new NbdWatcher({
      ...{ device, dialer, clock, random, log },
      ...{ exportName: 'disk0', connections, deadConnectionSeconds, requestMs },
      onAttached: () => (this.attachedCount += 1),
      onStatus: () => undefined,
    });
    this.ended = this.watcher.run(this.stop.signal);
    this.ended.catch(() => undefined);
    await this.settle();
  }

  /** Lets everything run that waits for nothing but itself. */
  async settle(): Promise<void> {
    for (let round = 0; round < 20; round++) await turn();
  }

  async pass(ms: number): Promise<void> {
    // Coarse where nothing happens for long: what a step sets off is settled before the next.
    const stepMs = ms > 100_000 ? 500 : 50;
    for (let left = ms; left > 0; left -= stepMs) {
      this.clock.advance(Math.min(stepMs, left));
      await turn();
      await turn();
    }
    await this.settle();
  }

  goDown(): void {
    this.server.up = false;
    this.server.life += 1;
    this.device.killAll();
  }

  async end(): Promise<WatchEnd> {
    this.stop.abort();
    return this.ended;
  }
}

function fails(rig: Rig, code: ErrorCode, pattern: RegExp): Promise<void> {
  return assert.rejects(rig.ended, (error) => {
    assert(error instanceof GatewayError);
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
    return true;
  });
}

describe('nbd-watch attaches', { timeout: 20_000 }, () => {
  it('with the connections that were asked for, and keeps no descriptor', async () => {
    const rig = new Rig();
    await rig.start(4);
    assert.equal(rig.device.attached?.sockets.length, 4);
    assert.equal(rig.device.attached.backend, backendOf('disk0', 4));
    assert.deepEqual(rig.device.patience, { deadConnectionSeconds, requestMs });
    assert.equal(rig.server.openCount(), 0);
    assert.equal(rig.attachedCount, 1);
    assert.equal(await rig.end(), 'stopped');
    assert.equal(rig.device.aliveCount(), 4, 'an end leaves the device as it is');
  });

  it('with one connection where the server allows no more, and then looks after requests soon', async () => {
    const rig = new Rig();
    rig.server.multiConn = false;
    await rig.start(4);
    assert.equal(rig.device.attached?.sockets.length, 1);
    assert.deepEqual(rig.device.patience, { deadConnectionSeconds, requestMs: SINGLE_REQUEST_MS });
    await rig.end();
  });

  it('once the gateway is there', async () => {
    const rig = new Rig();
    rig.server.up = false;
    await rig.start();
    await rig.pass(20_000);
    assert.equal(rig.attachedCount, 0);
    rig.server.up = true;
    await rig.pass(BACKOFF_MS_MAX);
    assert.equal(rig.device.aliveCount(), 1);
    await rig.end();
  });

  it('and ends when the volume is unknown or the server wants TLS, which the kernel has not', async () => {
    const unknown = new Rig();
    unknown.server.refusal = 'errUnknown';
    await unknown.start();
    await fails(unknown, 'not-found', /no volume "disk0": because/);
    const secret = new Rig();
    secret.server.refusal = 'errTlsRequired';
    await secret.start();
    await fails(secret, 'not-supported', /TLS/);
  });
});

describe('nbd-watch takes over', { timeout: 20_000 }, () => {
  it('what it attached before, and replaces what died meanwhile', async () => {
    const rig = new Rig();
    rig.device.attachedBefore(4, backendOf('disk0', 4));
    for (const position of [0, 1, 3]) rig.device.dead.add(position);
    await rig.start(1);
    await rig.pass(1000);
    assert.equal(rig.device.aliveCount(), 4);
    assert.equal(rig.server.openCount(), 0);
    assert.equal(rig.attachedCount, 1);
    await rig.end();
  });

  it('what another program attached, with the patience that several connections need', async () => {
    const rig = new Rig();
    rig.device.attachedBefore(2, undefined);
    await rig.start();
    assert.deepEqual(rig.device.patience, { deadConnectionSeconds, requestMs });
    await rig.end();
  });

  it('but no device that belongs to another volume', async () => {
    const rig = new Rig();
    rig.device.attachedBefore(1, backendOf('disk1', 1));
    await rig.start();
    await fails(rig, 'config-invalid', /attached to "disk1", not to "disk0"/);
    assert.equal(rig.device.patience, undefined);
  });
});

describe('nbd-watch replaces connections', { timeout: 20_000 }, () => {
  it('all of them after a restart, as soon as the gateway is back', async () => {
    const rig = new Rig();
    await rig.start(4);
    rig.goDown();
    await rig.pass(60_000);
    assert.equal(rig.device.aliveCount(), 0);
    rig.server.up = true;
    await rig.pass(BACKOFF_MS_MAX + 1000);
    assert.equal(rig.device.aliveCount(), 4);
    assert.equal(rig.server.openCount(), 0);
    assert(rig.log.lines.some((line) => /^info .*connected again after 6\d\.\d s/.test(line)));
    await rig.end();
  });

  it('one that broke alone', async () => {
    const rig = new Rig();
    await rig.start(4);
    rig.device.kill(2);
    await rig.pass(100);
    assert.equal(rig.device.aliveCount(), 4);
    await rig.end();
  });

  it('of a gateway that takes connections and does not answer, when it answers again', async () => {
    const rig = new Rig();
    await rig.start();
    rig.server.mute = true;
    rig.device.killAll();
    await rig.pass(ATTEMPT_MS / 2);
    rig.server.mute = false;
    await rig.pass(ATTEMPT_MS);
    assert.equal(rig.device.aliveCount(), 1);
    assert.equal(rig.server.openCount(), 0);
    await rig.end();
  });

  it('whose death was never told, within minutes, and all at once when the kernel says that it lost messages', async () => {
    const rig = new Rig();
    await rig.start(4);
    rig.device.loseMessages = 5;
    rig.device.kill(0);
    await rig.pass(OFFER_MS + LOOK_MS);
    assert.equal(rig.device.aliveCount(), 4);
    rig.goDown();
    rig.server.up = true;
    rig.device.messagesWereLost();
    await rig.pass(1000);
    assert.equal(rig.device.aliveCount(), 4);
    await rig.end();
  });

  it('not with another disk: smaller, read-only, refused, or no NBD at all', async () => {
    const wrongs: ((server: FakeNbdServer) => void)[] = [
      (server) => (server.sizeBytes -= 4096),
      (server) => (server.readOnly = true),
      (server) => (server.refusal = 'errUnknown'),
      (server) => (server.refusal = 'errPolicy'),
      (server) => (server.answer = (bytes) => bytes.fill(0x20, 0, 4)),
      (server) => (server.answer = (bytes) => bytes.subarray(0, 12)),
    ];
    for (const wrong of wrongs) {
      const rig = new Rig();
      await rig.start();
      rig.goDown();
      rig.server.up = true;
      wrong(rig.server);
      await rig.pass(10_000);
      assert.equal(rig.device.aliveCount(), 0, String(wrong));
      const proper = new FakeNbdServer();
      const { sizeBytes, readOnly, refusal, answer } = proper;
      Object.assign(rig.server, { sizeBytes, readOnly, refusal, answer });
      await rig.pass(BACKOFF_MS_MAX + 100);
      assert.equal(rig.device.aliveCount(), 1, String(wrong));
      assert.equal(rig.server.openCount(), 0);
      await rig.end();
    }
  });

  it('and says when it took too long, once', async () => {
    const rig = new Rig();
    await rig.start();
    rig.goDown();
    await rig.pass((deadConnectionSeconds + 60) * 1000);
    assert.equal(rig.log.lines.filter((line) => line.startsWith('error ')).length, 1);
    await rig.end();
  });
});

describe('nbd-watch carries a new size', { timeout: 20_000 }, () => {
  it('at the next look, or at once when it is told to', async () => {
    const rig = new Rig();
    await rig.start();
    const before = rig.server.sizeBytes;
    rig.server.sizeBytes *= 2;
    await rig.pass(LOOK_MS + 100);
    rig.server.sizeBytes *= 2;
    rig.watcher.lookNow();
    await rig.settle();
    assert.deepEqual(rig.device.sizes, [before, before * 2, before * 4]);
    assert.equal(rig.device.aliveCount(), 1);
    assert.equal(rig.server.infos, 2);
    assert.equal(rig.server.sockets.length, 1, 'a look attaches nothing');
    await rig.end();
  });

  it('only when every connection lives, since a device that changes its size waits for what is in flight', async () => {
    const rig = new Rig();
    await rig.start(2);
    rig.goDown();
    rig.server.up = true;
    rig.server.sizeBytes *= 2;
    const alive: number[] = [];
    const setSize = rig.device.setSize.bind(rig.device);
    rig.device.setSize = (sizeBytes) => {
      alive.push(rig.device.aliveCount());
      return setSize(sizeBytes);
    };
    await rig.pass(1000);
    assert.deepEqual(alive, [2]);
    await rig.end();
  });
});

describe('nbd-watch', { timeout: 60_000 }, () => {
  it('ends when somebody else detaches the device', async () => {
    const rig = new Rig();
    await rig.start();
    await rig.device.detach();
    await rig.pass(LOOK_MS);
    assert.equal(await rig.ended, 'detached');
  });

  it('can be stopped at every moment', async () => {
    for (let steps = 0; steps < 60; steps++) {
      const rig = new Rig();
      rig.server.mute = steps % 3 === 1;
      rig.server.up = steps % 3 !== 2;
      const starting = rig.start(2);
      for (let step = 0; step < steps; step++) await Promise.resolve();
      rig.stop.abort();
      await starting;
      assert.equal(await rig.ended, 'stopped');
      assert.equal(rig.server.openCount(), 0, `after ${steps} steps`);
    }
  });

  it('has every connection alive again after any history of deaths, restarts and lost messages', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const rig = new Rig(new SeededRandom(seed));
      const { device, random, server } = rig;
      const connections = 1 + random.below(4);
      await rig.start(connections);
      for (let step = 0; step < 40; step++) {
        const chance = random.below(6);
        if (chance === 0) rig.goDown();
        else if (chance === 1) server.up = true;
        else if (chance === 2) device.kill(random.below(connections));
        else if (chance === 3) device.loseMessages = random.below(2);
        else if (chance === 4) server.mute = random.below(3) === 0;
        else if (random.below(3) === 0) server.sizeBytes += 4096;
        for (let turns = random.below(8); turns > 0; turns--) await turn();
        if (random.below(2) === 0) await rig.pass(random.below(4000));
      }
      server.up = true;
      server.mute = false;
      device.loseMessages = 0;
      // An offer mends one lost message.
      await rig.pass((connections + 1) * (OFFER_MS + LOOK_MS + ATTEMPT_MS));
      assert.equal(device.aliveCount(), connections, `seed ${seed}`);
      assert.equal(device.attached?.sizeBytes, server.sizeBytes, `seed ${seed}`);
      assert(
        device.attached.sockets.every(({ serverLife }) => serverLife === server.life),
        `seed ${seed}`,
      );
      assert.equal(server.openCount(), 0, `seed ${seed}`);
      assert.equal(await rig.end(), 'stopped');
    }
  });
});
