import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { SeededRandom } from '../fake/random.js';
import { busyHour, peakOf } from './fleet.js';
import { report } from './report.js';

const project = resolve(import.meta.dirname, '../../..');

describe('the simulation of many gateways', () => {
  it('gives the same tables for the same seed, and others for another', () => {
    const first = report(1);
    assert.deepEqual(report(1), first);
    assert.notDeepEqual(report(2), first);
  });

  it('is what docs/scale.md shows', () => {
    const page = readFileSync(join(project, 'docs/scale.md'), 'utf8');
    assert.ok(
      page.includes(report(1).join('\n')),
      'run npm run scale -- --seed 1, and put its tables into docs/scale.md',
    );
  });

  it('asks ten times as much of the store for ten times as many gateways', () => {
    const mean = (volumes: number): number => peakOf(busyHour(volumes, new SeededRandom(1)).writes).mean;
    const ratio = mean(2000) / mean(200);
    assert.ok(ratio > 9 && ratio < 11, `${ratio}`);
  });
});
