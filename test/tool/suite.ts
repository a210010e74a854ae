/**
 * A suite that needs programs from outside. Where one is missing the suite is left out by name, with the reason; with
 * CI=true that is a failure, so that a machine that lost a tool never looks green.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { tool, type ToolName } from './clients.js';

/** Runs `body` as a suite when every needed program is there, and nothing of `further` speaks against it. */
export function suite(
  name: string,
  needs: readonly ToolName[],
  body: () => void,
  further: () => string | undefined = () => undefined,
): void {
  const missing = needs.map((need) => tool(need)).find((found) => typeof found === 'string') ?? further();
  if (missing === undefined) {
    describe(name, body);
  } else if (process.env['CI'] === 'true') {
    describe(name, () => {
      it('has what it needs', () => assert.fail(missing));
    });
  } else {
    describe(name, { skip: missing }, () => undefined);
  }
}
