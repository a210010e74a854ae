/** What kind of segment has just arrived in a bucket: its owner alone can tell, so its key is looked up there. */
import { openVolumeSealer } from '../../src/remote/key.js';
import { ObjectNames, uuidOfKey } from '../../src/remote/name.js';
import type { ObjectSealer } from '../../src/remote/seal.js';
import type { SegmentRole } from '../../src/remote/segment-index.js';
import { openSegmentHead } from '../../src/remote/segment-reader.js';
import { SeededRandom } from '../fake/random.js';
import { master } from './host.js';
import { Life, Scheduler } from './scheduler.js';
import type { SimBucket } from './store.js';

export class ArrivedSegments {
  private readonly sealers = new Map<string, ObjectSealer>();

  /** undefined: it is something else. To be awaited while nothing happens in the bucket's world. */
  async roleOf(bucket: SimBucket, key: string, body: Uint8Array): Promise<SegmentRole | undefined> {
    const uuid = uuidOfKey(key);
    const name = uuid === undefined ? undefined : new ObjectNames(uuid).parse(key);
    if (uuid === undefined || name?.kind !== 'segment') return undefined;
    const sealer = this.sealers.get(uuid) ?? (await openSealer(bucket, uuid));
    this.sealers.set(uuid, sealer);
    const head = openSegmentHead(sealer, name, body);
    return head.kind === 'segment' ? head.index.role : undefined;
  }
}

async function openSealer(bucket: SimBucket, uuid: string): Promise<ObjectSealer> {
  const random = new SeededRandom(1);
  const world = new Scheduler();
  const life = new Life(world);
  const store = bucket.copy(world, random.fork()).attach(life);
  const sealer = await world.drive(openVolumeSealer(store, { uuid, masters: [master], random }));
  life.end();
  return sealer;
}
