/** The real ports of a thread: the machine's time, randomness, disks and checksums. */
import { NativeDisk } from '../platform/native-disk.js';
import { nativeChecksums } from '../platform/checksum.js';
import { nativeFrameCipher } from '../platform/frame-cipher.js';
import { readBootId } from '../platform/process-rights.js';
import { SystemClock } from '../platform/system-clock.js';
import { SystemRandom } from '../platform/system-random.js';
import type { Checksums } from '../ports/checksum.js';
import type { Clock } from '../ports/clock.js';
import type { FrameCipher } from '../ports/frame-cipher.js';
import type { Disk } from '../ports/disk.js';
import type { Random } from '../ports/random.js';

export interface SystemPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly checksums: Checksums;
  /** undefined: Node has no OpenSSL for the addon to use; what is sealed is sealed with node:crypto then. */
  readonly cipher: FrameCipher | undefined;
  /** Rooted at a directory. */
  openDisk(directory: string): Disk;
  /** Identifies this boot of the kernel. */
  readonly bootId: string;
}

export function createSystemPorts(): SystemPorts {
  return {
    clock: new SystemClock(),
    random: new SystemRandom(),
    checksums: nativeChecksums(),
    cipher: nativeFrameCipher(),
    openDisk: (directory) => new NativeDisk(directory),
    bootId: readBootId(),
  };
}
