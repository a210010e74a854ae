/**
 * Gateway and client on one machine that is short of memory: the kernel must write out dirty pages to get memory, the
 * gateway needs memory to take them. More than the buffer, and than the memory that is left, through a mounted file system, on a guest of 512 MiB of which only
 * what the gateway may still take and a little more is left, must end, and must be what was written.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { it } from 'node:test';
import { suite } from '../tool/suite.js';
import { guestImage, guestTools, type GuestImage } from './guest-image.js';
import { runOneMachine } from './one-machine.js';
import { keepgateInGuest } from './runtime-image.js';

const image = await guestImage();
const long = process.env['KEEPGATE_TEST_LONG'] === '1';
/** An emulated processor is slow. */
const bufferMiB = long ? 256 : 64;
const writtenMiB = (long ? 4 : 2) * bufferMiB;
const fileCount = Math.ceil((writtenMiB * 1024 ** 2) / statSync(process.execPath).size);
/** Reading is slower still: all of it only in the long run. */
const compared = long ? fileCount : 1;
const comparedFiles = Array.from({ length: compared }, (_, index) => `/mnt/file${fileCount - 1 - index}`).join(' ');
/** What the gateway promises to stay under. */
const gatewayMiB = 256;
/** Left for everything else: the kernel's page cache, the shell. */
const leftMiB = 48;

const configuration = {
  dataDir: '/data/keepgate',
  keyFile: '/data/key',
  nbd: { listen: ['127.0.0.1:10809'] },
  iscsi: { enabled: false },
  api: { listen: '127.0.0.1:9470' },
  store: { url: 'file:///data/store' },
  volumes: [{ name: 'disk', size: '1536MiB', buffer: { size: `${bufferMiB}MiB` } }],
};

const script = `set -e
mkdir -p /app /data /mnt /ballast
mount -o ro /dev/vda /app
mke2fs() { mkfs.ext4 -q -F "$@"; }
mke2fs /dev/vdb; mount /dev/vdb /data; mkdir /data/store
cat >/data/key <<KEY
${randomBytes(32).toString('base64')}
KEY
chmod 600 /data/key
cat >/data/keepgate.yaml <<CONFIGURATION
${JSON.stringify(configuration)}
CONFIGURATION
(${keepgateInGuest} serve --config /data/keepgate.yaml >/data/log 2>&1; echo "gateway ended: $?" >>/data/log) &
i=0; until wget -q -O /dev/null http://127.0.0.1:9470/readyz 2>/dev/null; do
  i=$((i+1)); [ $i -lt 600 ] || { cat /data/log; exit 91; }; sleep 0.2
done
nbd-client -b 512 -N disk 127.0.0.1 10809 /dev/nbd0
mke2fs /dev/nbd0; mount /dev/nbd0 /mnt
# What is left of the memory is taken away, but for what the gateway may still grow by, and a little.
mount -t tmpfs -o size=100% ballast /ballast
gateway=$(pidof node)
free=$(awk '/MemAvailable/{print int($2/1024)}' /proc/meminfo)
resident=$(awk '/VmRSS/{print int($2/1024)}' /proc/$gateway/status)
ballast=$((free - ${leftMiB} - (${gatewayMiB} - resident)))
echo "MiB available $free, gateway resident $resident, taken away $ballast"
if [ $ballast -gt 0 ]; then dd if=/dev/zero of=/ballast/taken bs=1M count=$ballast 2>/dev/null; fi
report() {
  [ $? = 0 ] || { dmesg | grep -i -e oom -e 'killed process' -e nbd0 | tail -n 20; tail -n 20 /data/log; }
  grep -e VmHWM -e VmRSS /proc/$gateway/status
}
trap report EXIT
# Node's own program, again and again: contents that cost the emulated processor nothing.
i=0; while [ $i -lt ${fileCount} ]; do cp /app/node /mnt/file$i; i=$((i+1)); done
sync
echo "WRITTEN $(du -sm /mnt | cut -f1) MiB after $(cut -d. -f1 /proc/uptime) s"
umount /mnt
echo 3 >/proc/sys/vm/drop_caches
mount -o ro /dev/nbd0 /mnt
equal=0; for file in ${comparedFiles}; do cmp $file /app/node && equal=$((equal+1)); done
echo "EQUAL $equal after $(cut -d. -f1 /proc/uptime) s"
umount /mnt
nbd-client -d /dev/nbd0
`;

suite(
  'gateway and client on one machine with memory nearly full',
  guestTools,
  () => {
    it(`${writtenMiB} MiB through a mounted file system is written, and read back equal`, async (t) => {
      const result = await runOneMachine(image as GuestImage, { script, memoryMiB: 512, timeoutMs: 900_000 });
      assert.equal(result.status, 0, result.output);
      assert.match(result.output, new RegExp(`^EQUAL ${compared} `, 'm'), result.output);
      for (const line of result.output.split('\n').slice(0, 20)) t.diagnostic(line);
    });
  },
  () => (typeof image === 'string' ? image : undefined),
);
