/**
 * A restore that reads key by key while owners go on: as walkChain of chain-walk.ts, one request a step. It must neither
 * find a fork nor believe in a loss.
 */
import { emptyChain, extend, followFence, keyText } from '../../src/remote/chain.js';
import { GatewayError } from '../../src/base/errors.js';
import type { Step } from './explorer.js';
import { gapBehind } from './ownership-reader.js';
import type { ReaderState, World } from './ownership-world.js';

export const idleReader: ReaderState = { at: 'idle', chain: emptyChain, visited: [emptyChain.nextKey.epoch] };

export function readerSteps(world: World, reader: ReaderState): Step<World>[] {
  const become = (changed: Partial<ReaderState>): World => {
    const { at, chain, visited } = reader;
    return { ...world, reader: { at, chain, visited, ...changed } };
  };
  const name = keyText(reader.chain.nextKey);
  const found = world.bucket.objects.get(name);
  switch (reader.at) {
    case 'idle':
    case 'walking': {
      if (found === undefined) return [{ what: () => `the reader finds ${name} absent`, to: become({ at: 'behind' }) }];
      const what = (): string => `the reader reads ${name}`;
      try {
        if (found.kind === 'segment') {
          return [{ what, to: become({ at: 'walking', chain: extend(reader.chain, found.index, found.link) }) }];
        }
        const visited = [...reader.visited, found.fence.successorEpoch];
        return [{ what, to: become({ at: 'walking', chain: followFence(reader.chain, found.fence), visited }) }];
      } catch (error) {
        if (!(error instanceof GatewayError)) throw error;
        return [{ what, to: world, problem: `the reader finds a fork: ${error.message}` }];
      }
    }
    case 'behind': {
      const gap = gapBehind(world.bucket, reader.chain, reader.visited);
      const what = (): string => `the reader looks behind ${name}: ${gap ?? 'nothing is lost'}`;
      return [{ what, to: become({ at: gap === undefined ? 'done' : 'doubting' }), mark: 'the reader is done' }];
    }
    case 'doubting': {
      const what = (): string => `the reader looks again at ${name}: ${found === undefined ? 'absent' : 'there'}`;
      if (found !== undefined) return [{ what, to: become({ at: 'walking' }), mark: 'the reader looked again' }];
      return [{ what, to: world, problem: `the reader believes that ${name} was lost` }];
    }
    case 'done':
      return [];
  }
}
