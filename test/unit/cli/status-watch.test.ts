/** `keepgate status --watch`: what it draws, and that neither a gateway that is away nor a small terminal ends it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { VolumeReport } from '../../../src/api/volume-report.js';
import { GatewayError } from '../../../src/base/errors.js';
import { watchStatus } from '../../../src/cli/status-watch.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedTerminal, visible } from './recorded-terminal.js';
import { report } from './report.js';

type Answer = readonly VolumeReport[] | GatewayError;

const away = new GatewayError('gateway-unreachable', 'no gateway answers at 127.0.0.1:9470 (ECONNREFUSED)');

/** Watches while the gateway gives these answers, one a second, and is interrupted after the last. */
async function watch(terminal: RecordedTerminal, answers: readonly Answer[], json = false) {
  const clock = new ManualClock();
  const stop = new AbortController();
  let connections = 0;
  let next = 0;
  const get = (): Promise<unknown> => {
    const answer = answers[next];
    next += 1;
    if (answer === undefined) {
      // As a request that is interrupted.
      stop.abort();
      return Promise.reject(away);
    }
    return answer instanceof GatewayError ? Promise.reject(answer) : Promise.resolve(answer);
  };
  const connect = () => {
    connections += 1;
    return Promise.resolve({ get });
  };
  let ended = false;
  const watching = watchStatus({ connect, terminal, clock, json, signal: stop.signal });
  const end = (): void => void (ended = true);
  watching.then(end, end);
  while (!ended) {
    await new Promise((turn) => setImmediate(turn));
    clock.advance(1000);
  }
  return { code: await watching, connections };
}

/** What a write leaves on an empty screen, line by line. */
const drawnLines = (text: string): string[] =>
  visible(text)
    .replaceAll(/␛\[[\d?;]*[a-zA-Z]/g, '')
    .trimEnd()
    .split('\n');

describe('status --watch on a terminal', () => {
  it('draws each table over the one before, in one write that clears no whole screen', async () => {
    const terminal = new RecordedTerminal({ rows: 24 });
    const { code } = await watch(terminal, [[report({})], [report({ state: 'hydrating' })]]);
    assert.equal(code, 0);
    const [enter = '', first = '', second = '', leave = ''] = terminal.drawn;
    assert.equal(terminal.drawn.length, 4);
    assert.match(visible(enter), /␛\[\?1049h.*␛\[\?25l/);
    for (const [frame, state] of [
      [first, 'online'],
      [second, 'hydrating'],
    ] as const) {
      assert.ok(frame.startsWith('\u001b[H'));
      assert.ok(frame.endsWith('\u001b[J'));
      assert.ok(!frame.includes('\u001b[2J'));
      assert.match(drawnLines(frame)[1] ?? '', new RegExp(`^disk0 {3}${state} `));
      assert.match(drawnLines(frame).at(-1) ?? '', /^\d\d:\d\d:\d\d UTC; Ctrl-C ends it$/);
    }
    assert.match(visible(leave), /␛\[\?25h␛\[\?1049l/);
  });

  it('leaves the last table standing when it ends', async () => {
    const terminal = new RecordedTerminal({ rows: 24 });
    await watch(terminal, [[report({})]]);
    assert.match(terminal.printed.join('\n'), /^VOLUME .*\ndisk0 .*$/);
  });

  it('uses one line less than the terminal has, and says what it left out', async () => {
    const volumes = Array.from({ length: 40 }, (_, at) => report({ name: `disk${at}` }));
    const terminal = new RecordedTerminal({ rows: 10 });
    await watch(terminal, [volumes]);
    const frame = terminal.drawn[1] ?? '';
    assert.equal(frame.split('\n').length - 1, 9);
    // A head, 40 volumes, an empty line and the time, of which 8 are there.
    assert.equal(drawnLines(frame).at(-1), '… 35 more lines: make the terminal higher');
    const tiny = new RecordedTerminal({ rows: 1 });
    await watch(tiny, [volumes]);
    assert.ok((tiny.drawn[1] ?? '').split('\n').length <= 2);
  });

  it('says that the gateway is unreachable above the last table, and finds it again', async () => {
    const terminal = new RecordedTerminal({ rows: 24, coloured: true });
    const { code, connections } = await watch(terminal, [[report({})], away, [report({ state: 'failed' })]]);
    assert.equal(code, 0);
    assert.equal(connections, 2);
    const [, , gone, back] = terminal.drawn.map(drawnLines);
    assert.match(gone?.[0] ?? '', /^\d\d:\d\d:\d\d UTC unreachable, trying again: no gateway answers at 127/);
    assert.match(gone?.join('\n') ?? '', /\ndisk0 +online/);
    assert.match(back?.[1] ?? '', /^disk0 +failed/);
  });

  it('waits for a gateway that is not there yet', async () => {
    const terminal = new RecordedTerminal({ rows: 24 });
    const { code } = await watch(terminal, [away, [report({})]]);
    assert.equal(code, 0);
    assert.match(drawnLines(terminal.drawn[2] ?? '')[1] ?? '', /^disk0/);
  });

  it('ends at what no waiting mends, with the terminal as it was', async () => {
    const terminal = new RecordedTerminal({ rows: 24 });
    const wrong = new GatewayError('unauthorized', 'the token is wrong');
    await assert.rejects(watch(terminal, [wrong]), /the token is wrong/);
    assert.match(visible(terminal.drawn.at(-1) ?? ''), /␛\[\?1049l/);
  });
});

describe('status --watch elsewhere', () => {
  it('prints tables one after the other, and an outage as one line', async () => {
    const terminal = new RecordedTerminal();
    await watch(terminal, [[report({})], away, away, [report({})], away]);
    assert.equal(terminal.printed.length, 2);
    const line = 'keepgate: unreachable, trying again: no gateway answers at 127.0.0.1:9470 (ECONNREFUSED)';
    assert.deepEqual(terminal.noted, [line, line]);
    assert.doesNotMatch(visible(terminal.printed.join('')), /␛/);
  });

  it('prints a line of JSON each time, also on a terminal', async () => {
    const terminal = new RecordedTerminal({ rows: 24, coloured: true });
    await watch(terminal, [[report({})], [report({})]], true);
    assert.deepEqual(terminal.printed, [JSON.stringify([report({})]), JSON.stringify([report({})])]);
    assert.deepEqual(terminal.drawn, []);
  });
});
