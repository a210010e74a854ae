/** `keepgate drain VOLUME`: begins the operation, shows how far it is, ends with it. */
import type { ExitCode } from './exit-code.js';
import { operate } from './operation.js';
import type { OperationOptions } from './operation.js';

export interface DrainOptions extends Pick<OperationOptions, 'client' | 'terminal' | 'clock' | 'json'> {
  readonly volume: string;
}

export function drain({ volume, ...options }: DrainOptions): Promise<ExitCode> {
  return operate({
    ...options,
    path: `/v1/volumes/${encodeURIComponent(volume)}/drain`,
    title: `draining ${volume}`,
    done: `${volume}: all that was acknowledged is replicated`,
    failed: `${volume} was not drained: `,
    uncounted: true,
  });
}
