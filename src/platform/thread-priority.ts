/** Which threads go first where there are fewer processors than work. */
import { loadAddon } from './addon.js';

/** A third of the share of a thread beside it that does not yield, as long as that has something to do. */
const NICE = 5;

/**
 * For a thread whose work can wait while clients are served: it goes behind, and so do the threads that it starts from now
 * on. Everything stays as it is where the system does not allow that: it is no promise, only a preference.
 */
export function goBehindClients(): void {
  loadAddon().yieldToOthers(NICE);
}
