/**
 * Whether the machine at the other end of a connection is still there. A client of NBD that is idle cannot be asked
 * anything, and its program may rest as long as it likes: what answers is its kernel. While nothing is under way, keepalive
 * asks it, and ends the stream some 15 s after it was last heard of. Keepalive is silent while something is: a reply that
 * nobody takes is then sent again for a quarter of an hour. So whoever leaves unanswered what is sent again, as long as one
 * looks on, is gone.
 */
import { limits } from '../../base/limits.js';
import type { Clock } from '../../ports/clock.js';
import type { Stream } from '../../ports/stream.js';

const LOOK_MS = 250;
/** One packet may be lost, and the one that is sent in its place. */
const UNANSWERED_MIN = 3;

/** At once where the peer owes nothing; else within limits.nbdPeerWatchMs. Where nobody knows, it is taken to be there. */
export async function isPeerThere(stream: Stream, clock: Clock): Promise<boolean> {
  const startMs = clock.nowMs();
  for (;;) {
    if (stream.destroyed) return false;
    const watchedMs = clock.nowMs() - startMs;
    const { unanswered, silentMs } = stream.silence() ?? { unanswered: 0, silentMs: 0 };
    if (unanswered === 0 || silentMs < watchedMs) return true;
    if (watchedMs >= limits.nbdPeerWatchMs) return unanswered < UNANSWERED_MIN;
    await clock.sleep(LOOK_MS);
  }
}
