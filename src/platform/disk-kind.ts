/** What kind of disk a directory lies on, as the kernel tells in /sys/dev/block. */
import { readFile, stat } from 'node:fs/promises';

/** False where the file system is not on one block device that the kernel knows. */
export async function isRotational(directory: string): Promise<boolean> {
  const found = await stat(directory, { bigint: true }).catch(() => undefined);
  if (found === undefined) return false;
  const device = `/sys/dev/block/${majorOf(found.dev)}:${minorOf(found.dev)}`;
  // A partition has no queue of its own; its directory lies in that of its disk.
  for (const queue of [`${device}/queue`, `${device}/../queue`]) {
    const text = await readFile(`${queue}/rotational`, 'utf8').catch(() => undefined);
    if (text !== undefined) return text.trim() === '1';
  }
  return false;
}

/** As makedev(3) of Linux puts them together. */
export function majorOf(dev: bigint): bigint {
  return ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n);
}

export function minorOf(dev: bigint): bigint {
  return (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n);
}
