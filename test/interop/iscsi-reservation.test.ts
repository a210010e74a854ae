/** libiscsi's own tests of reservations, against a volume that its two initiators share. */
import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import { requiredTool } from '../tool/clients.js';
import { TestGateway } from '../tool/gateway.js';
import { run } from '../tool/process.js';
import { suite } from '../tool/suite.js';

/** Families of tests, and how many each has (libiscsi 1.19). */
const families = {
  PrinReadKeys: 2,
  PrinServiceactionRange: 1,
  PrinReportCapabilities: 1,
  ProutRegister: 1,
  ProutReserve: 13,
  ProutClear: 1,
  ProutPreempt: 1,
  Reserve6: 7,
} as const;

suite('iscsi-test-cu: reservations', ['iscsi-test-cu'], () => {
  let gateway: TestGateway;
  before(async () => {
    gateway = await TestGateway.start({
      volumes: [
        { name: 'disk', size: '256MiB', access: 'shared', replicate: { enabled: false }, buffer: { size: '256MiB' } },
      ],
    });
  });
  after(() => gateway.dispose());

  for (const [family, count] of Object.entries(families)) {
    it(family, async () => {
      const url = gateway.iscsiUrl('disk');
      const args = ['-d', '-S', '-n', '-t', `ALL.${family}`, url, url];
      const said = await run(requiredTool('iscsi-test-cu'), args);
      // Run Summary: tests: total, ran, passed, failed, inactive.
      assert.match(said, new RegExp(`^ +tests +${count} +${count} +${count} +0 +0$`, 'm'), said);
      assert.doesNotMatch(said, /SKIPPED/, said);
    });
  }
});
