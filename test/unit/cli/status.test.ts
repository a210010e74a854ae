/** What `keepgate status` prints of what the API says. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { VolumeReport } from '../../../src/api/volume-report.js';
import { status, table } from '../../../src/cli/status.js';
import { RecordedTerminal, visible } from './recorded-terminal.js';
import { report } from './report.js';

const plain = new RecordedTerminal();
const coloured = new RecordedTerminal({ coloured: true });
const withoutColours = (text: string): string => visible(text).replaceAll(/␛\[\d+m/g, '');
/** Told of the API's volumes. */
const answering = (...volumes: VolumeReport[]) => ({ get: () => Promise.resolve(volumes) });

describe('the table of volumes', () => {
  it('has its columns under their heads, coloured or not', () => {
    const volumes = [report({}), report({ name: 'a-much-longer-name', state: 'hydrating' })];
    const [head = '', ...rows] = table(volumes, plain).split('\n');
    assert.match(head, /^VOLUME +STATE +SIZE +CLIENTS +BUFFER USED +REPLICATION +LAG +UPLOAD +TIME TO FULL$/);
    for (const column of ['STATE', 'SIZE', 'CLIENTS', 'BUFFER USED', 'REPLICATION']) {
      const at = head.indexOf(column);
      for (const row of rows) assert.match(row.slice(at - 2, at + 1), /^ {2}\S$/, `${column}: ${row}`);
    }
    assert.equal(withoutColours(table(volumes, coloured)), table(volumes, plain));
  });

  it('shows by a colour whether a state is well, passes, or needs a person', () => {
    for (const [state, code] of [
      ['online', 32],
      ['hydrating', 33],
      ['opening', 33],
      ['failed', 31],
      ['fenced', 31],
      ['stalled', 31],
    ] as const) {
      assert.ok(table([report({ state })], coloured).includes(`\u001b[${code}m${state}\u001b[39m`), state);
    }
    for (const [mode, code] of [
      ['tracking', 33],
      ['blocked', 31],
    ] as const) {
      const { replication } = report({});
      const shown = table([report({ replication: { ...replication, mode } })], coloured);
      assert.ok(shown.includes(`\u001b[${code}m${mode}\u001b[39m`), mode);
    }
    assert.doesNotMatch(visible(table([report({ state: 'failed' })], plain)), /␛/);
  });

  it('is no table where there is nothing', () => {
    assert.equal(table([], plain), 'this gateway has no volumes');
  });

  it('has a line below it for who has a volume reserved', () => {
    const last = (reservation: VolumeReport['reservation']): string | undefined =>
      table([report({ reservation })], plain)
        .split('\n')
        .at(-1);
    assert.doesNotMatch(table([report({})], plain), /reserved/);
    assert.equal(
      last({ type: 'write exclusive', holder: 'iqn.2026-11.test:a', registrations: 1 }),
      'disk0: reserved by iqn.2026-11.test:a (write exclusive), 1 initiator port registered',
    );
    assert.equal(
      last({ type: 'exclusive access, all registrants', holder: null, registrations: 3 }),
      'disk0: reserved by all that are registered (exclusive access, all registrants), 3 initiator ports registered',
    );
    assert.equal(
      last({ type: 'RESERVE(6)', holder: 'iqn.2026-11.test:a', registrations: 0 }),
      'disk0: reserved by iqn.2026-11.test:a (RESERVE(6))',
    );
  });
});

describe('status', () => {
  it('exits with 1 when a volume needs a person', async () => {
    for (const [state, code] of [
      ['online', 0],
      ['hydrating', 0],
      ['stalled', 1],
      ['failed', 1],
      ['fenced', 1],
    ] as const) {
      const client = answering(report({}), report({ state }));
      assert.equal(await status({ client, terminal: plain, json: false }), code, state);
    }
  });

  it('has no colours in its JSON', async () => {
    const terminal = new RecordedTerminal({ coloured: true });
    await status({ client: answering(report({ state: 'failed' })), terminal, json: true });
    assert.deepEqual(JSON.parse(terminal.printed.join('')), [report({ state: 'failed' })]);
    assert.doesNotMatch(visible(terminal.printed.join('')), /␛/);
  });
});
