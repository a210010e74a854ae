/** Reads back the indexes of staged segments that take effect (staged.ts), a few at a time. */
import { GatewayError } from '../base/errors.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { ObjectSealer } from './seal.js';
import { readSegmentHead } from './segment-reader.js';
import type { OpenedSegment } from './segment-reader.js';

const HEADS_AT_ONCE = 8;

export interface StagedReadOptions {
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly request: StoreRequest;
  /** Of the history, by segment number. */
  readonly epochOf: (number: number) => number;
}

/** Those from `first` to before `end`, in order. object-missing, object-damaged; store errors. */
export async function* readStaged(
  first: number,
  end: number,
  options: StagedReadOptions,
): AsyncGenerator<OpenedSegment, void, undefined> {
  for (let from = first; from < end; from += HEADS_AT_ONCE) {
    const numbers = Array.from({ length: Math.min(HEADS_AT_ONCE, end - from) }, (_, next) => from + next);
    yield* await Promise.all(numbers.map((number) => readOne(number, options)));
  }
}

async function readOne(number: number, { store, sealer, request, epochOf }: StagedReadOptions): Promise<OpenedSegment> {
  const key = { epoch: epochOf(number), number };
  const head = await readSegmentHead(store, sealer, key, request);
  if (head.kind === 'segment' && head.index.role === 'staged') return head;
  const name = sealer.names.segment(key);
  const code = head.kind === 'absent' ? 'object-missing' : 'object-damaged';
  throw new GatewayError(code, `${name}: the staged segment is not there`, { context: { object: name } });
}
