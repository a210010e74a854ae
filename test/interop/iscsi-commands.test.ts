/** libiscsi's own tests of what a unit says of itself, of copies, and of what is allocated. */
import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import { requiredTool } from '../tool/clients.js';
import { TestGateway } from '../tool/gateway.js';
import { run } from '../tool/process.js';
import { suite } from '../tool/suite.js';

/** Families of tests, or single ones, and how many each has (libiscsi 1.19). */
const families = {
  ExtendedCopy: 6,
  // GetLBAStatus.UnmapSingle asks for block i + 1 and wants an answer about the next physical block: with several logical
  // blocks in a physical one that is not the block it asked for, which SBC-3 5.4 wants first, and so do initiators.
  'GetLBAStatus.Simple': 1,
  'GetLBAStatus.BeyondEol': 1,
  Inquiry: 7,
  Mandatory: 1,
  ModeSense6: 5,
  ReceiveCopyResults: 2,
  ReportSupportedOpcodes: 4,
  Unmap: 3,
} as const;

suite('iscsi-test-cu: commands about the unit', ['iscsi-test-cu'], () => {
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
      const args = ['-d', '-n', '-t', `ALL.${family}`, gateway.iscsiUrl('disk')];
      const said = await run(requiredTool('iscsi-test-cu'), args);
      // Run Summary: tests: total, ran, passed, failed, inactive.
      assert.match(said, new RegExp(`^ +tests +${count} +${count} +${count} +0 +0$`, 'm'), said);
      assert.doesNotMatch(said, /SKIPPED/, said);
    });
  }
});
