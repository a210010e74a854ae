import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { loadConfiguration } from '../../../src/config/load-configuration.js';
import { RestoreTurn } from '../../../src/gateway/restore-turn.js';
import { createSystemPorts } from '../../../src/gateway/system-ports.js';
import type { VolumeRoster } from '../../../src/gateway/volume-roster.js';
import { RecordedLog } from '../../fake/log.js';

describe('the turn of a restore', () => {
  it('is one’s at a time, and free again once it has failed', async () => {
    const content = 'keyFile: /nowhere/key\nstore: { url: "file:///nowhere" }\nvolumes: [{ name: a, size: 1GiB }]\n';
    const file = { name: 'k.yaml', directory: '/etc/keepgate', content };
    const turn = new RestoreTurn({
      configuration: loadConfiguration({ file, environment: {}, workingDirectory: '/home/u' }),
      ports: createSystemPorts(),
      log: new RecordedLog(),
      stopping: new AbortController().signal,
      roster: { volumes: [], find: () => undefined } as unknown as VolumeRoster,
    });
    turn.requireFree();
    await turn.idle();
    const failing = assert.rejects(
      turn.run({ volume: 'a', from: 'file:///nowhere' }, () => undefined),
      { code: 'key-missing' },
    );
    assert.throws(() => turn.requireFree(), { code: 'invalid-request', message: /another restore runs/ });
    await turn.idle();
    turn.requireFree();
    await failing;
  });
});
