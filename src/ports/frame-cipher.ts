/**
 * AES-256-GCM for frames on their way out. What key, nonce and associated data are is for its caller to say
 * (remote/seal.ts); every implementation gives the same bytes.
 */
export interface FrameCipher {
  /**
   * Writes the ciphertext and behind it the tag of 16 bytes to target[targetStart…]. `key` has 32 bytes, `nonce` 12.
   * Encrypted is all of `plain`; or, given `blocks`, its blocks of 4096 bytes with these numbers, in this order.
   */
  sealFrame(
    key: Uint8Array,
    nonce: Uint8Array,
    associated: Uint8Array,
    plain: Uint8Array,
    blocks: Uint32Array | undefined,
    target: Uint8Array,
    targetStart: number,
  ): void;
}
