/** The real ports of a thread: the machine's time, randomness, disks and checksums. */
import { NativeDisk } from '../platform/native-disk.js';
import { nativeChecksums } from '../platform/checksum.js';
import { readBootId } from '../platform/process-rights.js';
import { SystemClock } from '../platform/system-clock.js';
import { SystemRandom } from '../platform/system-random.js';
import type { Checksums } from '../ports/checksum.js';
import type { Clock } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { Random } from '../ports/random.js';

export interface SystemPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly checksums: Checksums;
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
    openDisk: (directory) => new NativeDisk(directory),
    bootId: readBootId(),
  };
}
