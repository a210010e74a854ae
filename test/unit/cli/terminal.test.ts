/** When there are colours. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { wantsColours } from '../../../src/cli/terminal.js';

describe('colours', () => {
  for (const [environment, onTerminal, elsewhere] of [
    [{ TERM: 'xterm' }, true, false],
    [{ TERM: 'dumb' }, false, false],
    [{ NO_COLOR: '1' }, false, false],
    [{ NO_COLOR: '' }, true, false],
    [{ FORCE_COLOR: '1' }, true, true],
    [{ FORCE_COLOR: '' }, true, true],
    [{ FORCE_COLOR: '0' }, false, false],
    [{ FORCE_COLOR: 'false' }, false, false],
    [{ FORCE_COLOR: '1', NO_COLOR: '1' }, false, false],
    [{ FORCE_COLOR: '1', TERM: 'dumb' }, true, true],
  ] as const) {
    it(`with ${JSON.stringify(environment)} are ${onTerminal} on a terminal, ${elsewhere} elsewhere`, () => {
      assert.equal(wantsColours(environment, true), onTerminal);
      assert.equal(wantsColours(environment, false), elsewhere);
    });
  }
});
