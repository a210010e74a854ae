/** One fetch for all who want the same thing at the same time, however each of them waits. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SharedFetch } from '../../../src/remote/shared-fetch.js';

interface Begun {
  readonly signal: AbortSignal | undefined;
  readonly resolve: (value: string) => void;
  readonly reject: (error: Error) => void;
}

class Fetches {
  readonly shared = new SharedFetch<string>();
  readonly begun: Begun[] = [];

  get(key: string, signal?: AbortSignal): Promise<string> {
    return this.shared.get(key, signal === undefined ? {} : { signal }, (request) => {
      return new Promise((resolve, reject) => this.begun.push({ signal: request.signal, resolve, reject }));
    });
  }

  at(index: number): Begun {
    const found = this.begun[index];
    assert.ok(found !== undefined, `fetch ${index} was begun`);
    return found;
  }
}

void test('those who want the same frame at the same time share one fetch, and the next one asks again', async () => {
  const fetches = new Fetches();
  const waiting = [fetches.get('a'), fetches.get('a'), fetches.get('b')];
  assert.equal(fetches.begun.length, 2);
  fetches.at(0).resolve('of a');
  fetches.at(1).resolve('of b');
  assert.deepEqual(await Promise.all(waiting), ['of a', 'of a', 'of b']);
  const again = fetches.get('a');
  assert.equal(fetches.begun.length, 3);
  fetches.at(2).resolve('new');
  assert.equal(await again, 'new');
});

void test('a failed fetch fails all who shared it, and is not remembered', async () => {
  const fetches = new Fetches();
  const waiting = [fetches.get('a'), fetches.get('a')];
  fetches.at(0).reject(new Error('reset'));
  for (const each of waiting) await assert.rejects(each, /reset/);
  const again = fetches.get('a');
  fetches.at(1).resolve('there');
  assert.equal(await again, 'there');
});

void test('one who gives up takes the shared fetch from nobody', async () => {
  const fetches = new Fetches();
  const hasty = new AbortController();
  const first = fetches.get('a', hasty.signal);
  const second = fetches.get('a');
  hasty.abort();
  await assert.rejects(first, { code: 'store-unreachable' });
  assert.equal(fetches.at(0).signal?.aborted, false);
  fetches.at(0).resolve('there');
  assert.equal(await second, 'there');
});

void test('a fetch that everybody has given up is ended, and one who comes then gets a new one', async () => {
  const fetches = new Fetches();
  const hasty = new AbortController();
  const waiting = [fetches.get('a', hasty.signal), fetches.get('a', hasty.signal)];
  hasty.abort();
  for (const each of waiting) await assert.rejects(each, { code: 'store-unreachable' });
  assert.equal(fetches.at(0).signal?.aborted, true);
  const late = fetches.get('a');
  assert.equal(fetches.begun.length, 2);
  // The end of the first one must not take the second one's place from it.
  fetches.at(0).reject(new Error('aborted'));
  const joined = fetches.get('a');
  await assert.rejects(fetches.get('a', hasty.signal), { code: 'store-unreachable' });
  assert.equal(fetches.begun.length, 2);
  fetches.at(1).resolve('there');
  assert.deepEqual(await Promise.all([late, joined]), ['there', 'there']);
});
