/** keepgate(1): that it has everything. Whether it is good roff is asked of mandoc, in test/interop/completion.test.ts. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { examples } from '../../../src/cli/example.js';
import { manPage } from '../../../src/cli/man-page.js';
import { leaves } from '../../../src/cli/program-leaf.js';
import { quietProgram } from './program.js';

const page = manPage(quietProgram(), { version: '1.2.3', wallMs: Date.UTC(2026, 10, 5) });
const escaped = (text: string): string => text.replaceAll('-', '\\-').replaceAll("'", '\\(aq').replaceAll('~', '\\(ti');

describe('the man page', () => {
  it('says what it is of', () => {
    assert.match(page, /^\.TH KEEPGATE 1 2026-11-05 "keepgate 1\.2\.3"/);
  });

  it('has every command, with every option and every example', () => {
    for (const { words, command } of leaves(quietProgram())) {
      const section = page.split(`.SS "${escaped(words)}"\n`)[1]?.split(/^\.S[SH] /m)[0] ?? '';
      for (const { long } of command.options)
        assert.ok(section.includes(escaped(long ?? '')), `${words} ${long ?? ''}`);
      for (const { line } of examples[words] ?? []) assert.ok(section.includes(escaped(line).slice(0, 40)), line);
    }
    assert.doesNotMatch(page, /__complete/);
  });

  it('has every key of the configuration with its variable, and every exit status', () => {
    assert.match(page, /^\.B nbd\.tlsVerifyPeer\ndefault: false; KEEPGATE_NBD_TLS_VERIFY_PEER$/m);
    assert.match(page, /^\.B replicate\.interval\ndefault: 10s$/m);
    for (const code of [0, 1, 2, 3])
      assert.match(page.split('.SH EXIT STATUS')[1] ?? '', new RegExp(`^\\.B ${code}$`, 'm'));
  });

  it('leaves nothing to chance that roff would take for its own', () => {
    for (const line of page.split('\n')) {
      assert.doesNotMatch(line, /^'/);
      assert.match(line, /^(\.(TH|SH|SS|TP|PP|B|BI|BR|I|RI|RS|RE|EX|EE)\b.*|[^.].*)$/);
    }
  });
});
