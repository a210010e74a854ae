/** The Checksums port over the native addon: its functions themselves, so that a call on the data path has no layer. */
import type { Checksums } from '../ports/checksum.js';
import { loadAddon } from './addon.js';

export function nativeChecksums(): Checksums {
  return loadAddon();
}
