/**
 * `npm run bench:idle -- [--volumes N] [--size SIZE] [--seconds S] [--local]`: what a gateway costs that nobody uses: resident
 * memory, and processor time over a while, of all its threads. Each volume was written once and is replicated (to a directory)
 * before; --local: none replicates. The targets are 300 MiB and 2 % of a core for 32 volumes of 10 GiB.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { CMD, withNbdDisk } from '../fake/nbd-client.js';
import { TestGateway } from '../tool/gateway.js';
import { eventually } from '../tool/process.js';
import { processorMilliseconds } from './processor-time.js';

const { values } = parseArgs({
  options: {
    volumes: { type: 'string', default: '32' },
    size: { type: 'string', default: '10GiB' },
    seconds: { type: 'string', default: '60' },
    local: { type: 'boolean', default: false },
  },
});
const names = Array.from({ length: Number(values.volumes) }, (_, index) => `disk${index}`);
const settling = 20_000;

/** VmRSS, RssAnon, RssFile … of proc(5), in MiB. */
async function residentMiB(pid: number): Promise<Readonly<Record<string, number>>> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const found = [...status.matchAll(/^(VmRSS|VmHWM|RssAnon|RssFile):\s+(\d+) kB$/gm)];
  return Object.fromEntries(found.map(([, name = '', kib]) => [name, Math.round(Number(kib) / 1024)]));
}

const replicate = { enabled: !values.local };
const gateway = await TestGateway.start({
  volumes: names.map((name) => ({ name, size: values.size, buffer: { size: '64MiB' }, replicate })),
});
try {
  const said = (resident: Readonly<Record<string, number>>): string =>
    Object.entries(resident)
      .map(([name, mib]) => `${name} ${mib} MiB`)
      .join(', ');
  console.log(`${names.length} volumes of ${values.size}, just opened: ${said(await residentMiB(gateway.pid))}`);
  for (const name of names) {
    await withNbdDisk(gateway.nbdPort, name, async (client) => {
      await client.request({ type: CMD.WRITE, offset: 0, payload: Buffer.alloc(1024 * 1024, name) });
      await client.request({ type: CMD.FLUSH, offset: 0, length: 0 });
    });
  }
  if (!values.local)
    await eventually(
      'everything is replicated',
      async () => (await gateway.metric('keepgate_replication_lag_seconds')) === 0,
      { timeoutMs: 300_000 },
    );
  await delay(settling);
  const before = await processorMilliseconds(gateway.pid);
  const startedMs = performance.now();
  await delay(1000 * Number(values.seconds));
  const used = (await processorMilliseconds(gateway.pid)) - before;
  const percent = (100 * used) / (performance.now() - startedMs);
  console.log(
    `idle for ${values.seconds} s: ${percent.toFixed(2)} % of a core; ${said(await residentMiB(gateway.pid))}`,
  );
} finally {
  await gateway.dispose();
}
