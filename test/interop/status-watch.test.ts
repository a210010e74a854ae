/** `keepgate status --watch` in a terminal of its own, while its gateway is killed and started again; Ctrl-C ends it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { it } from 'node:test';
import { visible } from '../unit/cli/recorded-terminal.js';
import { requiredTool } from '../tool/clients.js';
import { keepgatePath, TestGateway } from '../tool/gateway.js';
import { eventually } from '../tool/process.js';
import { suite } from '../tool/suite.js';

suite('status --watch', ['script'], () => {
  it('outlives its gateway, and gives the terminal back at Ctrl-C', async () => {
    const gateway = await TestGateway.start({
      volumes: [{ name: 'disk0', size: '16MiB', buffer: { size: '64MiB' } }],
    });
    // Ctrl-C goes to the shell as well, which with a trap says how the command ended and does not end of it. It stays until
    // that was read: when all of a terminal's processes are gone, `script` does not wait long for what they left in it.
    const command = `'${process.execPath}' '${keepgatePath}' status --watch`;
    const line = `trap : INT; stty rows 12 cols 60; ${command}; echo "exit code $?"; read -r seen`;
    const child = spawn(requiredTool('script').path, ['-qfc', line, '/dev/null'], {
      env: { ...process.env, TERM: 'xterm', NO_COLOR: '', KEEPGATE_CONFIG: gateway.configFile },
    });
    let shown = '';
    child.stdout.on('data', (chunk: Buffer) => (shown += visible(chunk.toString('utf8'))));
    const closed = once(child, 'close');
    /** Something new on the screen. */
    const shows = async (what: RegExp): Promise<void> => {
      await eventually(`it shows ${String(what)}`, () => what.test(shown), { explain: () => shown });
      shown = '';
    };
    try {
      const online = '␛\\[32monline␛\\[39m';
      await shows(new RegExp(`␛\\[\\?1049h[^]*${online}`));
      await gateway.kill();
      await shows(/unreachable, trying again: no gateway answers/);
      await gateway.startAgain();
      await eventually('it is back', () => new RegExp(`␛\\[HVOLUME[^]*${online}`).test(shown), {
        explain: () => shown,
      });
      child.stdin.write('\u0003');
      await eventually('it has ended', () => /exit code \d+\r\n$/.test(shown), { explain: () => shown });
      // The first screen again, with the cursor, and on it the last table.
      assert.match(shown, /␛\[\?25h␛\[\?1049lVOLUME [^]*disk0 [^]*exit code 0\r\n$/);
      child.stdin.write('\n');
      await closed;
    } finally {
      child.kill('SIGKILL');
      await gateway.dispose();
    }
  });
});
