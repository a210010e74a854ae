import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { foldStacks, type Frame } from '../../bench/folded-stacks.js';
import { flameSvg, shares } from '../../bench/flame-svg.js';

/** As perf prints it: leaf first. */
function sample(thread: string, ...frames: readonly string[]): string[] {
  return [thread, ...frames.map((frame) => `\t${frame}`), ''];
}

const send = 'ffffffff81a00000 tcp_sendmsg ([kernel.kallsyms])';
const main = '    5d9a10 node::Start(int, char**) (/usr/local/bin/node)';
const request = '7f00d000 JS:*request file:///opt/keepgate/dist/src/frontends/nbd/server.js:12:3 (/tmp/perf-7.map)';
const stream = '7f00d100 JS:^onStreamRead node:internal/stream_base_commons:167:23 (/tmp/perf-7.map)';
const baseline = '7f00d200 JS:~request file:///opt/keepgate/dist/src/frontends/nbd/server.js:12:3 (/tmp/perf-7.map)';
const sum =
  '7f00e000 (anonymous namespace)::sum<(Way)1>(unsigned char const*) (/opt/keepgate/build/Release/keepgate.node)';
const copy = '7f00f000 __memmove_avx512 (/usr/lib/x86_64-linux-gnu/libc.so.6)';
const lost = '7f00f100 [unknown] (/usr/lib/x86_64-linux-gnu/libc.so.6)';

function child(frame: Frame | undefined, ...names: readonly string[]): Frame | undefined {
  const [first, ...rest] = names;
  if (first === undefined) return frame;
  return child(
    frame?.called.find(({ name }) => name === first),
    ...rest,
  );
}

describe('folding of stacks', () => {
  it('joins samples at the callers that they share, whatever the compiler made of them', async () => {
    const { root } = await foldStacks(
      [...sample('node       7', send, request, main), ...sample('node  7', baseline, main), ...sample('node 7', main)],
      7,
    );
    const start = child(root, 'event loop', 'node::Start');
    assert.equal(start?.samples, 3);
    assert.equal(start.kind, 'Node/V8');
    assert.deepEqual(
      start.called.map(({ name, kind, samples }) => [name, kind, samples]),
      [['request server.js:12', 'JavaScript', 2]],
    );
    assert.deepEqual(child(start, 'request server.js:12', 'tcp_sendmsg')?.kind, 'kernel');
  });

  it("keeps threads apart, by name but for the process's own", async () => {
    const { root } = await foldStacks([...sample('node 7', main), ...sample('keepgate lane 3 9', main)], 7);
    assert.deepEqual(
      root.called.map(({ name }) => name),
      ['event loop', 'thread keepgate lane 3'],
    );
  });

  it('counts each sample for what was running: JavaScript of Node is no JavaScript of ours', async () => {
    const folded = await foldStacks(
      [
        ...sample('node 7', sum, request, main),
        ...sample('node 7', copy, sum, request, main),
        ...sample('node 7', copy, request, main),
        ...sample('node 7', stream, main),
        ...sample('node 7', request, main),
      ],
      7,
    );
    assert.deepEqual(Object.fromEntries(folded.samplesOf), { addon: 2, 'Node/V8': 2, JavaScript: 1 });
    assert.equal(shares(folded), 'kernel 0 %, addon 40 %, Node/V8 40 %, JavaScript 20 %');
    assert.equal(child(folded.root, 'event loop', 'node::Start', 'request server.js:12', 'sum')?.samples, 2);
  });

  it('draws neighbours without a symbol as one, and takes the last sample without an empty line behind it', async () => {
    const { root } = await foldStacks(sample('node 7', lost, lost, lost, main).slice(0, -1), 7);
    assert.deepEqual(child(root, 'event loop', 'node::Start', '[libc.so.6]')?.called, []);
  });
});

describe('flame graph', () => {
  const caption = { title: 'a < b & "c"', lines: ['one', 'two'] };
  const many = Array.from({ length: 3000 }, (_, at) => at);

  function rectangles(svg: string): { readonly x: number; readonly y: number; readonly width: number }[] {
    const found = svg.matchAll(/<rect class="\w" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"/g);
    return [...found].map(([, x, y, width]) => ({ x: Number(x), y: Number(y), width: Number(width) }));
  }

  /** Every element that begins ends, in turn, and nothing but text and elements is there. */
  function assertWellFormed(svg: string): void {
    const open: string[] = [];
    for (const [tag, closing, name, inside] of svg.matchAll(/<(\/?)([a-z]+)((?:\s+[\w:]+="[^"<&]*")*)\s*\/?>/g)) {
      if (closing === '/') assert.equal(open.pop(), name);
      else if (!tag.endsWith('/>')) open.push(name ?? '');
      assert.ok(inside !== undefined);
    }
    assert.deepEqual(open, []);
    const text = svg.replaceAll(/<(\/?)([a-z]+)((?:\s+[\w:]+="[^"<&]*")*)\s*\/?>/g, '');
    assert.doesNotMatch(text, /[<>]|&(?!(amp|lt|gt|quot);)/);
  }

  it('is well-formed whatever a symbol is called, and has no script', async () => {
    const hostile = `7f00e000 operator<=>&"'\u0001 (/opt/keepgate.node)`;
    const svg = flameSvg(await foldStacks(sample('no<de> 9', hostile, main), 7), caption);
    assertWellFormed(svg);
    assert.match(svg, /<title>a &lt; b &amp; &quot;c&quot;<\/title>/);
    assert.match(svg, /thread no&lt;de&gt;, 100\.0 %/);
    assert.doesNotMatch(svg, /script|href/);
    assert.ok(!svg.includes('\u0001'));
  });

  it('gives a frame the width of its share, inside of its caller', async () => {
    const lines = many.flatMap((at) => sample('node 7', `7f00e000 f${at % 3} (/opt/keepgate.node)`, request, main));
    const all = rectangles(flameSvg(await foldStacks(lines, 7), caption));
    const levels = [...new Set(all.map(({ y }) => y))].sort((left, right) => right - left);
    const widths = levels.map((level) => all.filter(({ y }) => y === level).map(({ width }) => width));
    assert.deepEqual(
      widths.map((level) => Math.round(level.reduce((sum, width) => sum + width, 0))),
      [1180, 1180, 1180, 1180, 1180],
    );
    for (const width of widths.at(-1) ?? []) assert.ok(Math.abs(width - 1180 / 3) < 0.2);
    const top = all.filter(({ y }) => y === levels.at(-1)).sort((left, right) => left.x - right.x);
    for (const [at, { x, width }] of top.entries())
      assert.ok(Math.abs(x + width - (top[at + 1]?.x ?? 1190)) < 0.11, 'neither gap nor overlap');
  });

  it('makes one of frames below 0.3 %', async () => {
    const lines = many.flatMap((at) =>
      sample('node 7', `7f00e000 f${at < 2900 ? 'large' : at} (/opt/keepgate.node)`, main),
    );
    const svg = flameSvg(await foldStacks(lines, 7), caption);
    assert.match(svg, /<title>100 small ones, 3\.3 %<\/title>/);
    assert.doesNotMatch(svg, /f2950/);
  });

  it('stays below 150 KB', async () => {
    const lines = many.slice(0, 300).flatMap((at) => {
      const deep = Array.from(
        { length: 60 },
        (_, level) => `7f00e000 step_${at % 150}_of_${level} (/opt/keepgate.node)`,
      );
      return sample('node 7', ...deep, main);
    });
    const svg = flameSvg(await foldStacks(lines, 7), caption);
    assert.ok(Buffer.byteLength(svg) <= 150_000);
    assertWellFormed(svg);
  });
});
