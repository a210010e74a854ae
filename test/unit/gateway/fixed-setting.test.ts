import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { loadConfiguration } from '../../../src/config/load-configuration.js';
import type { Configuration } from '../../../src/config/configuration.js';
import { changedFixed } from '../../../src/gateway/fixed-setting.js';

function load(content: string): Configuration {
  const file = { name: 'k.yaml', directory: '/etc/keepgate', content };
  return loadConfiguration({ file, environment: {}, workingDirectory: '/home/u' });
}

const store = 'store: { url: "file:///s" }\n';
const running = load(`${store}volumes:\n  - { name: a, size: 1GiB }\n  - { name: b, size: 1GiB }\n`);
const changedBy = (content: string): readonly string[] => [...changedFixed(running, running.volumes, load(content))];

describe('what takes a restart', () => {
  it('is nothing where nothing changed, nor bandwidth, sizes, initiators, and which volumes there are', () => {
    assert.deepEqual(changedBy(`${store}volumes:\n  - { name: a, size: 1GiB }\n  - { name: b, size: 1GiB }\n`), []);
    const fresh = `${store}bandwidth: { upload: 1Mbit/s }
volumes:
  - { name: a, size: 2GiB, iscsi: { initiators: ["iqn.2026-11.test:a"] } }
  - { name: c, size: 1GiB }
`;
    assert.deepEqual(changedBy(fresh), []);
  });

  it('is named by its section, and a volume by its name', () => {
    const fresh = `dataDir: /elsewhere
keyFile: /etc/keepgate/other
store: { url: "file:///t" }
volumes:
  - { name: a, size: 1GiB, access: shared }
  - { name: b, size: 1GiB }
`;
    const changed = changedBy(fresh);
    for (const name of ['dataDir', 'keyFile', 'store', 'volumes: a']) assert.ok(changed.includes(name), name);
    assert.ok(!changed.includes('volumes: b'));
  });
});
