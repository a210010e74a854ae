/**
 * `npm run bench:recovery -- [--buffer MIB] [--rounds N]`: how long a start takes after a kill with the buffer full, and
 * how much memory; see test/crash/full-buffer.ts. "cold" drops the page cache before the start, which needs root.
 *
 * Two loads: many requests at once make large batches; one at a time makes a batch of each write, which is the most
 * that a buffer can hold. The targets are 5 s and 256 MiB for a buffer of 1 GiB.
 */
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { parseArgs, promisify } from 'node:util';
import { recoverFullBuffer } from '../crash/full-buffer.js';
import { chosenSeed } from '../crash/seed.js';

const { values } = parseArgs({
  options: { buffer: { type: 'string', default: '1024' }, rounds: { type: 'string', default: '1' } },
});
const bufferMiB = Number(values.buffer);
const mebibyte = 1024 * 1024;

const loads = [
  { name: 'many requests at once', connections: 3, requestsPerClient: 32 },
  { name: 'one request at a time', connections: 1, requestsPerClient: 1 },
] as const;

async function dropPageCache(): Promise<void> {
  await promisify(execFile)('sync');
  await writeFile('/proc/sys/vm/drop_caches', '3');
}

for (let round = 1; round <= Number(values.rounds); round += 1) {
  for (const { name, connections, requestsPerClient } of loads) {
    for (const cache of ['warm', 'cold'] as const) {
      const seed = chosenSeed();
      const beforeStart = cache === 'cold' ? { beforeStart: dropPageCache } : {};
      try {
        const cost = await recoverFullBuffer({
          seed,
          bufferMiB,
          sizeMiB: 1.5 * bufferMiB,
          connections,
          requestsPerClient,
          ...beforeStart,
        });
        const resident = `${Math.round(cost.residentBytesMax / mebibyte)} MiB resident`;
        const log = `${Math.round(cost.logBytes / mebibyte)} MiB of log`;
        console.log(
          `${name}, ${cache}: ready after ${(cost.startMs / 1000).toFixed(2)} s, ${resident}; ${log}, ${cost.said}`,
        );
      } catch (error) {
        console.log(`${name}, ${cache}, seed ${seed}: ${error instanceof Error ? error.message : String(error)}`);
        process.exitCode = 1;
      }
    }
  }
}
