/** The FrameCipher port with node:crypto alone: for small objects, for simulations, and where the addon has no other. */
import { createCipheriv } from 'node:crypto';
import { BLOCK_BYTES } from '../base/units.js';
import type { FrameCipher } from '../ports/frame-cipher.js';
import { TAG_BYTES } from './seal-header.js';

const PIECE_BYTES = 32 * 1024;

export const plainFrameCipher: FrameCipher = {
  sealFrame(key, nonce, associated, plain, blocks, target, targetStart) {
    const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
    cipher.setAAD(associated);
    let to = targetStart;
    const seal = (piece: Uint8Array): void => {
      target.set(cipher.update(piece), to);
      to += piece.length;
    };
    if (blocks === undefined) {
      // Each piece gets memory of its own from Node: small ones come from the heap's warm pages, while a whole frame would
      // be mapped, faulted in page by page and unmapped again, at three times the cost of the encryption itself.
      for (let at = 0; at < plain.length; at += PIECE_BYTES) seal(plain.subarray(at, at + PIECE_BYTES));
    } else {
      for (const block of blocks) seal(plain.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES));
    }
    cipher.final();
    target.set(cipher.getAuthTag(), to);
  },
};
