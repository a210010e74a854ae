/** The README says Node 20, and Debian 13 has 20.19: every package of the lock file must be made for it, or `npm ci` warns. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { run } from '../../tool/process.js';
import { projectDirectory } from './page.js';

interface LockFile {
  readonly packages: Readonly<Record<string, { readonly engines?: { readonly node?: string } }>>;
}

const oldest = '20.19.0';

it(`each package of the lock file takes Node ${oldest}`, async () => {
  const { packages } = JSON.parse(readFileSync(join(projectDirectory, 'package-lock.json'), 'utf8')) as LockFile;
  const byRange = new Map<string, string[]>();
  for (const [path, { engines }] of Object.entries(packages)) {
    if (engines?.node !== undefined) byRange.set(engines.node, [...(byRange.get(engines.node) ?? []), path]);
  }
  // The semver that fastify brings; it comes without types, so it runs in a process of its own.
  const judge = `const { satisfies } = require('semver');
    console.log(JSON.stringify(JSON.parse(process.argv[1]).filter((range) => !satisfies('${oldest}', range))));`;
  const args = ['-e', judge, JSON.stringify([...byRange.keys()])];
  const unfit = JSON.parse(await run(process.execPath, args, { cwd: projectDirectory })) as string[];
  assert.ok(byRange.size > 1);
  assert.deepEqual(Object.fromEntries(unfit.map((range) => [range, byRange.get(range)])), {});
});
