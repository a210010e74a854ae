/** A volume's requests for those who wait for them. */
import type { BlockDevice, Completion } from '../ports/block-device.js';

/** What `start` hands to a device: rejects with what that refuses, or fails with. */
export function requested(start: (completion: Completion) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    start({ done: (error) => (error === undefined ? resolve() : reject(error)) });
  });
}

export async function untilWritable(device: Pick<BlockDevice, 'writable' | 'onceWritable'>): Promise<void> {
  while (!device.writable) await new Promise<void>((resolve) => device.onceWritable(resolve));
}
