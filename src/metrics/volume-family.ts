/** Metrics of the volumes themselves: state, buffer, destaging. */
import { volumeStates } from '../ports/volume-status.js';
import { histogramSamples, ioBoundsSeconds } from './family.js';
import type { Family, Sample } from './family.js';
import type { MeteredVolume, MetricsSource } from './source.js';

const flush = 'keepgate_flush_duration_seconds';

function family(
  name: string,
  type: 'counter' | 'gauge',
  help: string,
  value: (volume: MeteredVolume) => number,
): Family<MetricsSource> {
  return {
    name: `keepgate_${name}`,
    help,
    type,
    *samples(source): Iterable<Sample> {
      for (const volume of source.volumes()) yield { labels: { volume: volume.status.name }, value: value(volume) };
    },
  };
}

export const volumeFamilies: readonly Family<MetricsSource>[] = [
  family('volume_size_bytes', 'gauge', 'Size of the volume.', ({ status }) => status.sizeBytes),
  {
    name: 'keepgate_volume_state',
    help: '1 for the state that the volume is in, 0 for the others.',
    type: 'gauge',
    *samples(source) {
      for (const { status } of source.volumes()) {
        for (const state of volumeStates) {
          yield { labels: { volume: status.name, state }, value: status.state === state ? 1 : 0 };
        }
      }
    },
  },
  {
    name: 'keepgate_hydration_remaining_blocks',
    help: 'Blocks of a restored volume that are still to come from its bucket, at most; 0 when everything is here.',
    type: 'gauge',
    *samples(source) {
      for (const { status } of source.volumes()) {
        const { name, hydration } = status;
        // While it is not known, nothing is said.
        const value = hydration === undefined ? 0 : hydration.remainingBlocks;
        if (value !== undefined) yield { labels: { volume: name }, value };
      }
    },
  },
  {
    name: flush,
    help: 'Time of an fdatasync of the log.',
    type: 'histogram',
    *samples(source) {
      for (const { status } of source.volumes()) {
        const { buckets: counts, sumUs } = status.flushes;
        const histogram = { boundsSeconds: ioBoundsSeconds, counts, start: 0, sumSeconds: sumUs / 1e6 };
        yield* histogramSamples(flush, { volume: status.name }, histogram);
      }
    },
  },
  family('buffer_capacity_bytes', 'gauge', 'Size of the log.', ({ status }) => status.bufferCapacityBytes),
  family('buffer_used_bytes', 'gauge', 'Log space that cannot be reused yet.', ({ status }) => status.bufferUsedBytes),
  family(
    'buffer_time_to_full_seconds',
    'gauge',
    'Time until the log is full at the present rate; +Inf when it does not fill.',
    ({ timeToFullSeconds }) => timeToFullSeconds,
  ),
  family(
    'overlay_blocks',
    'gauge',
    'Blocks whose newest version is in the log only.',
    ({ status }) => status.overlayBlocks,
  ),
  family(
    'destaged_bytes_total',
    'counter',
    'Bytes carried from the log to the image.',
    ({ status }) => status.destagedBytes,
  ),
  family(
    'checksum_errors_total',
    'counter',
    'Blocks whose checksum did not match.',
    ({ status }) => status.checksumErrors,
  ),
  family(
    'healed_blocks_total',
    'counter',
    'Blocks that were healed: of the image from the bucket, of the bucket from the local copy; there an object without blocks counts as one.',
    ({ status, scrub }) => status.healedBlocks + (scrub?.healed ?? 0),
  ),
  family('scrub_blocks_total', 'counter', 'Blocks that scrubs have read.', ({ scrub }) => scrub?.blocks ?? 0),
  {
    name: 'keepgate_scrub_errors_total',
    help: 'Blocks that scrubs found missing or damaged, by place; an object of the bucket without blocks counts as one.',
    type: 'counter',
    *samples(source) {
      for (const { status, scrub } of source.volumes()) {
        for (const place of ['image', 'log', 'remote'] as const) {
          yield { labels: { volume: status.name, place }, value: scrub?.errors[place] ?? 0 };
        }
      }
    },
  },
];
