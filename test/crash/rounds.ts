/**
 * Rounds of: load, SIGKILL at a random moment, start again, compare every sector with what was acknowledged. At the end
 * the volume is drained, its data directory deleted, and what the bucket gives back is compared too.
 */
import assert from 'node:assert/strict';
import type { Settings } from '../tool/gateway.js';
import { CrashRig, type Protocol } from './rig.js';

export type { Protocol } from './rig.js';

export interface CrashOptions {
  readonly rounds: number;
  readonly seed: number;
  readonly say: (line: string) => void;
  readonly sizeMiB?: number;
  /** Taken in turn, one for each round. */
  readonly protocols?: readonly Protocol[];
  /** Default: a directory store. */
  readonly store?: {
    readonly settings: Settings;
    readonly url: string;
    readonly env: Readonly<Record<string, string>>;
  };
  readonly bandwidth?: Settings;
}

const killAfterWritesMax = 6000;

export async function crashRounds(options: CrashOptions): Promise<void> {
  const { rounds, seed, say, sizeMiB, protocols = ['nbd', 'iscsi'], store, bandwidth } = options;
  const rig = await CrashRig.start({
    seed,
    ...(sizeMiB === undefined ? {} : { sizeMiB }),
    ...(store === undefined ? {} : { store: store.settings, env: store.env }),
    ...(bandwidth === undefined ? {} : { bandwidth }),
  });
  let acknowledged = 0;
  try {
    for (let round = 1; round <= rounds; round += 1) {
      const protocol = protocols[(round - 1) % protocols.length] ?? 'nbd';
      await rig.verify(protocol, `round ${round}`);
      const written = await rig.loadAndKill(protocol, rig.draw(killAfterWritesMax));
      acknowledged += written;
      say(`round ${round}: killed after ${written} writes acknowledged over ${protocol}`);
      await rig.gateway.startAgain();
    }
    await rig.verify('nbd', 'after the last round');
    say(`${rounds} rounds: each of ${acknowledged} acknowledged writes was there`);
    if (bandwidth !== undefined) await rig.gateway.reconfigure({ bandwidth: { upload: 'unlimited' } });
    await rig.loseDataDirectory();
    const restored = await rig.restore(store === undefined ? {} : { from: store.url });
    assert.equal(restored.status, 0, `${restored.stdout}${restored.stderr}`);
    await rig.gateway.startAgain();
    await rig.verify('nbd', 'restored');
    say('restored from the store: every acknowledged write is there');
  } finally {
    await rig.gateway.dispose();
  }
}
