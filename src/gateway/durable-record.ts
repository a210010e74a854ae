/** A record of a volume's directory that is being changed. */
import { DurabilityLostError } from '../base/errors.js';

/** Where nobody knows what the disk holds afterwards, the process has to end; whoever waits hears of any failure. */
export async function keep(change: Promise<void>, onFatal: (error: Error) => void): Promise<void> {
  try {
    await change;
  } catch (error) {
    if (error instanceof DurabilityLostError) onFatal(error);
    throw error;
  }
}
