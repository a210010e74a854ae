/** The FrameCipher port over the native addon, which has it wherever Node has an OpenSSL of its own. */
import type { FrameCipher } from '../ports/frame-cipher.js';
import { loadAddon } from './addon.js';

export function nativeFrameCipher(): FrameCipher | undefined {
  const addon = loadAddon();
  return addon.sealFrame === undefined ? undefined : (addon as FrameCipher);
}
