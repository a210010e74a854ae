/** `keepgate restore VOLUME --from URL --full`: from the bucket and the key into a stopped gateway's data directory. */
import type { Clock } from '../ports/clock.js';
import type { Random } from '../ports/random.js';
import { refuseLater } from './later-command.js';
import type { ExitCode } from './exit-code.js';
import type { StoreFlags } from './remote-access.js';
import type { Terminal } from './terminal.js';

export interface RestoreFlags extends StoreFlags {
  readonly from: string;
  readonly full?: boolean;
  readonly as?: string;
  readonly takeOver?: boolean;
  readonly snapshot?: string;
  readonly receipt?: string;
  readonly acceptLoss?: boolean;
  readonly dataDir?: string;
}

export interface RestoreOptions {
  readonly volume: string;
  readonly flags: RestoreFlags;
  readonly terminal: Terminal;
  readonly random: Random;
  readonly clock: Clock;
}

export function restore(_options: RestoreOptions): Promise<ExitCode> {
  return Promise.resolve(refuseLater('restore', 'wait for it'));
}
