/**
 * Keeps the process below limits.memoryBytesTarget. Call it first, before the heap has grown.
 *
 * Two things keep memory that nobody uses: V8 lets the young generation of each thread grow to 48 MiB, although what
 * dies on the data path dies young; and glibc keeps freed buffers for the thread that freed them.
 */
import { setFlagsFromString } from 'node:v8';
import { loadAddon } from './addon.js';

export function boundProcessMemory(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
  loadAddon().returnFreedMemory();
}
