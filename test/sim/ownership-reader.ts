/**
 * What a reader makes of the bucket, with the rules that restores go by (chain.ts, chain-evidence.ts): the history from its
 * beginning and from each of its points, and what looking behind its end tells.
 */
import { chainAt, emptyChain, extend, followFence, keyText } from '../../src/remote/chain.js';
import type { ChainState } from '../../src/remote/chain.js';
import { evidenceOf } from '../../src/remote/chain-evidence.js';
import { GatewayError } from '../../src/base/errors.js';
import type { ChainPoint } from '../../src/remote/segment-point.js';
import { chainText, linkId } from './ownership-world.js';
import type { Bucket } from './ownership-world.js';

export interface Reading {
  /** Ends of complete groups, in order. */
  readonly points: readonly ChainPoint[];
  /** linkId of each. */
  readonly links: readonly number[];
  /** The content that a restore gives back. */
  readonly authors: readonly number[];
  /** Epochs that the walk came through, the last one too. */
  readonly visited: readonly number[];
  readonly end: ChainState;
  readonly problem: string | undefined;
}

export function read(bucket: Bucket): Reading {
  bucket.reading ??= readWhole(bucket);
  return bucket.reading;
}

function readWhole(bucket: Bucket): Reading {
  const { checkpoint } = bucket;
  const start = checkpoint?.points.at(-1);
  const walked = walk(bucket, start === undefined ? emptyChain : chainAt(start, 0), checkpoint?.visited ?? []);
  const reading: Reading = {
    ...walked,
    points: [...(checkpoint?.points ?? []), ...walked.points],
    links: [...(checkpoint?.links ?? []), ...walked.links],
    authors: [...(checkpoint?.authors ?? []), ...walked.authors],
  };
  if (reading.problem !== undefined) return reading;
  return { ...reading, problem: gapBehind(bucket, reading.end, reading.visited) ?? staleProblem(bucket, reading) };
}

/** From `start` to the first absent key; `knownEpochs`: those that a checkpoint at `start` lists. */
function walk(bucket: Bucket, start: ChainState, knownEpochs: readonly number[]): Reading {
  let chain = start;
  const points: ChainPoint[] = [];
  const authors: number[] = [];
  const visited = [...new Set([...knownEpochs, start.nextKey.epoch])];
  const end = (problem?: string): Reading => {
    return { points, links: points.map(({ link }) => linkId(link)), authors, visited, end: chain, problem };
  };
  for (;;) {
    const found = bucket.objects.get(keyText(chain.nextKey));
    if (found === undefined) return end();
    try {
      const { nextKey } = chain;
      if (found.kind === 'fence') {
        const { successorEpoch } = found.fence;
        chain = followFence(chain, found.fence);
        if (visited.includes(successorEpoch)) {
          return end(`a reader goes in a circle: the fence at ${keyText(nextKey)} leads back to ${successorEpoch}`);
        }
        visited.push(successorEpoch);
        continue;
      }
      chain = extend(chain, found.index, found.link);
      if (chain.open !== undefined) continue;
      points.push(chain.lastGroup);
      authors.push(...found.authors);
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      return end(`a reader finds a fork: ${error.message}`);
    }
  }
}

/** As ChainWalk.lookBehind: the epoch of the walk's end, and epochs that it did not come through. */
export function gapBehind(bucket: Bucket, end: ChainState, visited: readonly number[]): string | undefined {
  for (const found of bucket.objects.values()) {
    const { epoch, number } = found.key;
    const behind = epoch === end.nextKey.epoch ? number > end.nextKey.number : !visited.includes(epoch);
    if (!behind || number <= end.lastGroup.number) continue;
    const { gap } = evidenceOf(end, found);
    if (gap !== undefined) return `a reader finds a gap: ${gap}`;
  }
  return undefined;
}

/** A restore may begin at the checkpoint of any group, and must come to the same end. */
function staleProblem(bucket: Bucket, whole: Reading): string | undefined {
  for (const [at, point] of whole.points.entries()) {
    if (at + 1 < (bucket.checkpoint?.points.length ?? 0)) continue;
    const known = whole.points.slice(0, at + 1).map(({ epoch }) => epoch);
    const from = walk(bucket, chainAt(point, 0), known);
    const problem = from.problem ?? gapBehind(bucket, from.end, from.visited);
    if (problem !== undefined) return `from the checkpoint at ${keyText(point)}, ${problem}`;
    if (chainText(from.end) !== chainText(whole.end)) return `the checkpoint at ${keyText(point)} leads elsewhere`;
  }
  return undefined;
}
