/**
 * What one checksum call costs, in processor time, beside what it is made instead of (nothing, or a plain copy), with each
 * kernel that the processor has: `node dist/test/bench/sums-call.js`.
 *
 * Processor time, because it hardly depends on who else uses the machine. Data is in the cache, as it is where the
 * gateway sums it: behind a read into its buffer, or on the way out of the receive buffer.
 */
import { loadAddon } from '../../src/platform/addon.js';
import { BLOCK_BYTES, MIB } from '../../src/base/units.js';

const addon = loadAddon();
const blocks = MIB / BLOCK_BYTES;
const source = addon.alignedBuffer(MIB);
const target = addon.alignedBuffer(MIB);
for (let at = 0; at < MIB; at++) source[at] = (at * 31 + (at >> 9)) & 0xff;
const plain = new Uint32Array(blocks);
addon.sumBlocks(source, 0, blocks, plain, 0);
const sums = plain.slice();
addon.toBlockSums(sums, 0, blocks, 0);

const calls: Readonly<Record<string, (bytes: number) => void>> = {
  verify: (bytes) => addon.verifyBlocks(source, 0, bytes / BLOCK_BYTES, 0, sums, 0),
  'copy and sum': (bytes) => addon.copyAndSum(source, 0, bytes, target, 0, plain),
  'copy alone': (bytes) => target.set(source.subarray(0, bytes), 0),
};

function microseconds(bytes: number, call: (bytes: number) => void): number {
  const turns: number[] = [];
  for (let turn = 0; turn < 7; turn++) {
    const count = bytes === BLOCK_BYTES ? 100_000 : 1000;
    const before = process.cpuUsage();
    for (let i = 0; i < count; i++) call(bytes);
    const { user, system } = process.cpuUsage(before);
    turns.push((user + system) / count);
  }
  return turns.sort((left, right) => left - right)[3] ?? 0;
}

console.log('| kernel | call | 4 KiB, µs | 1 MiB, µs |\n| --- | --- | --- | --- |');
for (const kernel of ['portable', 'sse4.2', 'avx512', 'armv8']) {
  if (!addon.forceChecksumKernel(kernel)) continue;
  for (const [name, call] of Object.entries(calls)) {
    if (name === 'copy alone' && kernel !== 'portable') continue;
    const [small, large] = [BLOCK_BYTES, MIB].map((bytes) => microseconds(bytes, call));
    console.log(`| ${name === 'copy alone' ? '' : kernel} | ${name} | ${small?.toFixed(2)} | ${large?.toFixed(1)} |`);
  }
}
