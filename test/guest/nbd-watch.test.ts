/**
 * The kernel's NBD client with mounted, encrypted file systems, which go on being written while their gateway is stopped or
 * killed and started again, with `keepgate nbd-watch` beside them: no I/O error, every file equal, the file systems clean
 * (P1). One device it attached itself, with one connection; the other was attached by nbd-client with several, which it
 * takes over. Once it is killed too, and starts when the connections are dead. Then the gateway stands still for a while, and a volume
 * grows.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { it } from 'node:test';
import { seededNumbers } from '../crash/load.js';
import { chosenSeed, withSeed } from '../crash/seed.js';
import { TestGateway } from '../tool/gateway.js';
import { suite } from '../tool/suite.js';
import { luksOptions } from './attach.js';
import { guestImage, guestTools, type GuestImage } from './guest-image.js';
import { runGuest } from './kernel-guest.js';
import { keepgateInGuest, makeRuntimeImage } from './runtime-image.js';

const image = await guestImage();
const ends = process.env['KEEPGATE_TEST_LONG'] === '1' ? 20 : 3;
const fileMiB = 4;
/** Files are overwritten after so many, so that a file's old contents would show. */
const fileNames = 3;
/** Within which writing the files mostly takes place. */
const endDelayMsMax = 600;
const MIB = 1024 * 1024;
/** Behind the key slots, before the data. */
const unusedByte = 12 * MIB;
const volumeMiB = 96;
const grownMiB = 128;

function script(nbdPort: number): string {
  const uri = (volume: string): string => `nbd://10.0.2.2:${nbdPort}/${volume}`;
  return `set -e
report() { [ $? = 0 ] || { cat /tmp/watch*; dmesg | grep nbd | tail -n 60; }; }
trap report EXIT
said() { dmesg | grep "$1" | grep -c "$2"; }
until_true() { tries=0; until eval "$1"; do tries=$((tries+1)); [ $tries -lt 600 ] || { echo "never: $1"; exit 91; }; sleep 0.1; done; }
mkdir -p /app /mnt/0 /mnt/1 /tmp/sums0 /tmp/sums1
mount -o ro /dev/vda /app
keepgate() { ${keepgateInGuest} "$@"; }
watch0() { ${keepgateInGuest} nbd-watch /dev/nbd0 ${uri('single')} --detach >>/tmp/watch0 2>&1 & watcher0=$!; }
printf 'correct horse' >/tmp/passphrase
nbd-client -b 512 -C 4 -N several 10.0.2.2 ${nbdPort} /dev/nbd1
watch0
${keepgateInGuest} nbd-watch /dev/nbd1 ${uri('several')} --request-timeout 5 --detach >>/tmp/watch1 2>&1 & watcher1=$!
until_true "grep -q 'is attached' /tmp/watch0"
until_true "grep -q 'is watched' /tmp/watch1"
echo "ATTACHED after $(cut -d. -f1 /proc/uptime) s, patience of $(cat /sys/block/nbd0/queue/io_timeout) and $(cat /sys/block/nbd1/queue/io_timeout) ms"
for n in 0 1; do
  cryptsetup luksFormat --type luks2 ${luksOptions} /dev/nbd$n
  cryptsetup open --key-file /tmp/passphrase /dev/nbd$n secret$n
  mkfs.ext4 -q /dev/mapper/secret$n
  mount /dev/mapper/secret$n /mnt/$n
done
write() { dd if=/tmp/new of=/mnt/$1/$name bs=64k conv=fsync 2>/dev/null; sha256sum </tmp/new | sed "s|-|$name|" >/tmp/sums$1/$name; }
i=0; while [ $i -lt ${ends} ]; do
  name=file$((i % ${fileNames}))
  dd if=/dev/urandom of=/tmp/new bs=1M count=${fileMiB} 2>/dev/null
  if [ $i = 1 ]; then kill -9 $watcher0; lost=$(said nbd0 'Receive control failed') || :; fi
  echo "WRITING $i"
  write 0 & writer0=$!
  write 1 & writer1=$!
  if [ $i = 1 ]; then until_true '[ $(said nbd0 "Receive control failed") -gt $lost ]'; watch0; fi
  wait $writer0; wait $writer1
  echo "WRITTEN $i after $(cut -d. -f1 /proc/uptime) s"
  i=$((i+1))
done
# A gateway that stands still is not dead: with one connection nothing happens, with several it is asked anew on another.
# Until the kernel has said so, the only requests are reads of a place that LUKS leaves empty: while one that writes waits
# for room in its connection, the kernel looks after none of them.
ask() { until [ -e /tmp/noticed ]; do dd if=/dev/nbd$1 of=/dev/null bs=4k skip=${unusedByte / 4096} count=1 iflag=direct 2>/dev/null; done; }
lost0=$(said nbd0 'Receive control failed') || :; lost1=$(said nbd1 'Receive control failed') || :
echo STALL
ask 0 & asker0=$!
ask 1 & asker1=$!
until_true 'dmesg | grep nbd0 | grep -q "Possible stuck request .*(read@${unusedByte},4096B)"'
until_true '[ $(said nbd1 "Receive control failed") -gt $lost1 ]'
touch /tmp/noticed; name=stalled
write 0 & writer0=$!
until_true 'read -r reads writes </sys/block/nbd0/inflight && [ $writes -gt 0 ]'
echo STALLED
wait $asker0; wait $asker1; wait $writer0
[ "$(said nbd0 'Receive control failed')" = "$lost0" ] || exit 95
echo "STALL is over after $(cut -d. -f1 /proc/uptime) s"
echo RESIZE
until_true '[ $(blockdev --getsize64 /dev/nbd0) = ${grownMiB * MIB} ] || { kill -HUP $watcher0; sleep 0.4; false; }'
cryptsetup resize --key-file /tmp/passphrase secret0
echo "SIZE $(blockdev --getsize64 /dev/mapper/secret0)"
echo 3 >/proc/sys/vm/drop_caches
for n in 0 1; do
  (cd /mnt/$n; cat /tmp/sums$n/* | sha256sum -c)
  umount /mnt/$n
  e2fsck -fn /dev/mapper/secret$n
done
# In use, it is not detached; else it is.
kill $watcher0; wait $watcher0 && exit 93
nbd-client -c /dev/nbd0 >/dev/null
for n in 0 1; do cryptsetup close secret$n; done
kill $watcher1; wait $watcher1
nbd-client -c /dev/nbd1 >/dev/null && exit 94
nbd-client -d /dev/nbd0
echo "LOST-CONNECTIONS $(dmesg | grep -c 'Receive control failed')"
if dmesg | grep -i -e 'I/O error' -e 'EXT4-fs error' -e 'Buffer I/O' -e 'Other side returned error'; then exit 92; fi
echo "DONE after $(cut -d. -f1 /proc/uptime) s"
`;
}

suite(
  'encrypted file systems on the kernel’s NBD client',
  guestTools,
  () => {
    it(`stay mounted beside nbd-watch while the gateway is stopped and killed ${ends} times, and grow`, async (t) => {
      await withSeed(chosenSeed(), async (seed) => {
        const random = seededNumbers(seed);
        const folder = await mkdtemp(join(tmpdir(), 'keepgate-nbd-watch-'));
        const settings = { size: `${volumeMiB}MiB`, buffer: { size: '64MiB' } };
        const volumes = ['single', 'several'].map((name) => ({ name, ...settings }));
        const gateway = await TestGateway.start({ volumes });
        try {
          const runtime = join(folder, 'runtime.img');
          await makeRuntimeImage(runtime);
          let hostWork = Promise.resolve();
          let ended = 0;
          const endSoon = async (): Promise<void> => {
            await delay(random() * endDelayMsMax);
            if (ended % 2 === 0) await gateway.stop();
            else await gateway.kill();
            ended += 1;
            await gateway.startAgain();
          };
          const grow = async (): Promise<void> => {
            const { status, stderr } = await gateway.command(['resize', 'single', `${grownMiB}MiB`]);
            assert.equal(status, 0, stderr);
          };
          const result = await runGuest(image as GuestImage, {
            script: script(gateway.nbdPort),
            processors: 2,
            timeoutMs: 600_000,
            disks: [{ path: runtime, readOnly: true }],
            onLine: (line) => {
              if (line.startsWith('WRITING ')) hostWork = hostWork.then(endSoon);
              if (line === 'STALL') hostWork = hostWork.then(() => void process.kill(gateway.pid, 'SIGSTOP'));
              if (line === 'STALLED') hostWork = hostWork.then(() => void process.kill(gateway.pid, 'SIGCONT'));
              if (line === 'RESIZE') hostWork = hostWork.then(grow);
            },
          });
          await hostWork;
          assert.equal(result.status, 0, `${result.output}\n${gateway.log()}`);
          assert.equal(ended, ends);
          const lost = Number(/^LOST-CONNECTIONS (\d+)$/m.exec(result.output)?.[1]);
          assert(lost > 0, 'the kernel noticed nothing');
          // LUKS keeps 16 MiB at the beginning for itself.
          assert.match(result.output, new RegExp(`^SIZE ${(grownMiB - 16) * MIB}$`, 'm'));
          for (const line of result.output.split('\n').filter((text) => / after \d+ s/.test(text))) t.diagnostic(line);
          t.diagnostic(`${ended} ends, the kernel lost a connection ${lost} times`);
        } finally {
          await gateway.dispose();
          await rm(folder, { recursive: true, force: true });
        }
      });
    });
  },
  () => (typeof image === 'string' ? image : undefined),
);
