/** libiscsi's own tests of the transport: command and data numbers, residual counts both ways, task management. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { requiredTool } from '../tool/clients.js';
import { TestGateway } from '../tool/gateway.js';
import { run } from '../tool/process.js';
import { suite } from '../tool/suite.js';

/** Of libiscsi 1.19. */
const tests = 15;
const rounds = process.env['KEEPGATE_TEST_LONG'] === '1' ? 10 : 1;

suite('iscsi-test-cu: the transport', ['iscsi-test-cu'], () => {
  it(`passes whole, ${rounds} times in a row`, async () => {
    const gateway = await TestGateway.start({
      volumes: [
        { name: 'disk', size: '256MiB', access: 'shared', replicate: { enabled: false }, buffer: { size: '256MiB' } },
      ],
    });
    try {
      const url = gateway.iscsiUrl('disk');
      for (let round = 0; round < rounds; round++) {
        const said = await run(requiredTool('iscsi-test-cu'), ['-d', '-S', '-n', '-t', 'iSCSI', url, url]);
        // Run Summary: tests: total, ran, passed, failed, inactive.
        assert.match(said, new RegExp(`^ +tests +${tests} +${tests} +${tests} +0 +0$`, 'm'), said);
        assert.doesNotMatch(said, /SKIPPED/, said);
      }
    } finally {
      await gateway.dispose();
    }
  });
});
