/**
 * libiscsi's conformance tests, all of them, destructive ones and SANITIZE included, over two paths to one unit. A test that
 * skips itself counts as passed there; here only those may that ask for another kind of device: one with a removable medium,
 * a read-only one (they run against one of those), and the cryptographic erase of SANITIZE, which the unit refuses.
 */
import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import { requiredTool } from '../tool/clients.js';
import { TestGateway } from '../tool/gateway.js';
import { attempt } from '../tool/process.js';
import { suite } from '../tool/suite.js';

const isLong = process.env['KEEPGATE_TEST_LONG'] === '1';
const rounds = isLong ? 10 : 1;
const testsOfAll = 230;

/**
 * What cannot pass over two paths to a unit with physical blocks of 4 KiB, and passes where the family is run by itself.
 *
 * GetLBAStatus.UnmapSingle asks for the status of a block in the middle of a physical one, and wants an answer that begins
 * with the next physical one: no unit whose physical blocks are larger can say that and be right. Others skip themselves
 * on any other.
 *
 * Sanitize.Reset follows a test that takes the unit with RESERVE(6) over the second path and never gives it back.
 */
const byItself = ['GetLBAStatus.UnmapSingle', 'Sanitize.Reset'];

interface Verdict {
  /** "Suite.Test" by what it printed. */
  readonly tests: ReadonlyMap<string, string>;
  readonly failed: readonly string[];
  readonly output: string;
}

const maySkip: readonly { readonly test: RegExp; readonly why: RegExp }[] = [
  { test: /^PreventAllow\./, why: /is not removable/ },
  { test: /^StartStopUnit\./, why: /is not removable/ },
  { test: /^ReadOnly\./, why: /is not write-protected/ },
  { test: /^Sanitize\./, why: /CRYPTO_ERASE/ },
  // WSNZ is 1: with 0, WriteSame.UnmapUntilEnd would want a block of ones to read as zeros (SBC-3 5.41, LBPRZ=1).
  { test: /^WriteSame1[06]\.ZeroBlocks/, why: /does not support 0-blocks/ },
];

async function conformance(urls: readonly string[], family: string): Promise<Verdict> {
  // The last of -n and -v counts; -v names each test before what it prints.
  const args = ['-d', '-S', '-n', '-v', '-t', family, ...urls];
  const ended = await attempt(requiredTool('iscsi-test-cu'), args, { timeoutMs: 600_000 });
  const output = ended.stdout + ended.stderr;
  const tests = new Map<string, string>();
  let [group, name] = ['', ''];
  for (const line of ended.stdout.split('\n')) {
    group = /^Suite: (\S+)/.exec(line)?.[1] ?? group;
    const begins = /^ {2}Test: (\S+) \.\.\./.exec(line);
    if (begins !== null) name = `${group}.${begins[1] ?? ''}`;
    if (/^Run Summary/.test(line)) break;
    if (name !== '') tests.set(name, `${tests.get(name) ?? ''}${line}\n`);
  }
  const failed = [...tests].filter(([, printed]) => /^FAILED|\.\.\.FAILED/m.test(printed)).map(([test]) => test);
  const count = Number(/^\s+tests\s+\d+\s+\d+\s+\d+\s+(\d+)/m.exec(ended.stdout)?.[1] ?? NaN);
  assert.equal(failed.length, count, output);
  return { tests, failed, output };
}

function skipped({ tests }: Verdict): string[] {
  return [...tests].flatMap(([name, printed]) =>
    printed
      .split('\n')
      .filter((line) => line.includes('[SKIPPED]'))
      .filter((line) => !maySkip.some(({ test, why }) => test.test(name) && why.test(line)))
      .map((line) => `${name}: ${line.trim()}`),
  );
}

suite('iscsi-test-cu', ['iscsi-test-cu'], () => {
  let gateway: TestGateway;
  before(async () => {
    const local = { replicate: { enabled: false }, buffer: { size: '64MiB' } };
    gateway = await TestGateway.start({
      volumes: [
        { name: 'shared', size: '256MiB', access: 'shared', ...local },
        { name: 'fine', size: '16MiB', iscsi: { physicalBlock: '512B' }, ...local },
        { name: 'protected', size: '16MiB', readOnly: true, ...local },
      ],
    });
  });
  after(async () => {
    await gateway.dispose();
  });

  for (let round = 1; round <= rounds; round++) {
    it(`passes all ${testsOfAll} tests but those that cannot${rounds === 1 ? '' : `, round ${round}`}`, async (t) => {
      const url = gateway.iscsiUrl('shared');
      const verdict = await conformance([url, url], 'ALL');
      assert.deepEqual(verdict.failed, byItself, verdict.output);
      assert.equal(verdict.tests.size, testsOfAll, verdict.output);
      assert.deepEqual(skipped(verdict), []);
      const count = [...verdict.tests.values()].filter((printed) => printed.includes('[SKIPPED]')).length;
      t.diagnostic(`${testsOfAll - count} ran, ${count} are for another kind of device`);
    });
  }

  const single: readonly (readonly [family: string, volume: string, tests: number])[] = [
    ['GetLBAStatus.UnmapSingle', 'fine', 1],
    ['ReadOnly', 'protected', 1],
    // Sleeps for a minute.
    ...(isLong ? [['Sanitize', 'shared', 11] as const] : []),
  ];
  for (const [family, volume, tests] of single) {
    it(`passes ${family} by itself, over one path to a unit of its kind`, async () => {
      const verdict = await conformance([gateway.iscsiUrl(volume)], `ALL.${family}`);
      assert.deepEqual(verdict.failed, [], verdict.output);
      assert.equal(verdict.tests.size, tests, verdict.output);
      assert.deepEqual(skipped(verdict), []);
    });
  }
});
