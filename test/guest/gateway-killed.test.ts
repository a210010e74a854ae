/**
 * The kernel's iSCSI client with a mounted, encrypted file system, which goes on writing while its gateway is ended or
 * killed and started again: it waits, logs in again and repeats what was not answered. No I/O error, every file equal,
 * and the file system clean (P1).
 */
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { it } from 'node:test';
import { seededNumbers } from '../crash/load.js';
import { chosenSeed, withSeed } from '../crash/seed.js';
import { TestGateway } from '../tool/gateway.js';
import { suite } from '../tool/suite.js';
import { attachIscsi, luksOptions } from './attach.js';
import { guestImage, guestTools, type GuestImage } from './guest-image.js';
import { runGuest } from './kernel-guest.js';

const image = await guestImage();
const kills = process.env['KEEPGATE_TEST_LONG'] === '1' ? 20 : 4;
const volume = 'mounted';
const fileMiB = 8;
/** Files are overwritten after so many, so that a file's old contents would show. */
const fileNames = 5;
/** Within which writing a file mostly takes place. */
const killDelayMsMax = 600;

function writeThroughKills(gateway: TestGateway): string {
  return `set -e
${attachIscsi(gateway, volume)}
printf 'correct horse' >/tmp/passphrase
attach
cryptsetup luksFormat --type luks2 ${luksOptions} $disk
cryptsetup open --key-file /tmp/passphrase $disk secret
mkfs.ext4 -q /dev/mapper/secret
mkdir -p /mnt /tmp/sums; mount /dev/mapper/secret /mnt
i=0; while [ $i -lt ${kills} ]; do
  name=file$((i % ${fileNames}))
  dd if=/dev/urandom of=/tmp/new bs=1M count=${fileMiB} 2>/dev/null
  sha256sum </tmp/new | sed "s|-|$name|" >/tmp/sums/$name
  echo "WRITING $i"
  dd if=/tmp/new of=/mnt/$name bs=64k conv=fsync 2>/dev/null
  i=$((i+1))
done
echo 3 >/proc/sys/vm/drop_caches
(cd /mnt; cat /tmp/sums/* | sha256sum -c)
umount /mnt
e2fsck -fn /dev/mapper/secret
cryptsetup close secret
detach
echo "LOST-CONNECTIONS $(dmesg | grep -c 'detected conn error')"
if dmesg | grep -i -e 'I/O error' -e 'recovery timed out' -e 'EXT4-fs error' -e 'Buffer I/O'; then exit 92; fi
`;
}

suite(
  'an encrypted file system in a real kernel stays mounted',
  guestTools,
  () => {
    it(`over iSCSI, the gateway ended and killed in turn, ${kills} times, while it is written`, async (t) => {
      await withSeed(chosenSeed(), async (seed) => {
        const random = seededNumbers(seed);
        const gateway = await TestGateway.start({
          volumes: [{ name: volume, size: '128MiB', buffer: { size: '64MiB' } }],
        });
        try {
          let restarting = Promise.resolve();
          let killed = 0;
          const killSoon = async (): Promise<void> => {
            await delay(random() * killDelayMsMax);
            // Asked to end, it has the kernel log out (RFC 7143 11.9.1); killed, it leaves it with a broken connection.
            await (killed % 2 === 0 ? gateway.stop() : gateway.kill());
            killed += 1;
            await gateway.startAgain();
          };
          const result = await runGuest(image as GuestImage, {
            script: writeThroughKills(gateway),
            timeoutMs: 900_000,
            onLine: (line) => {
              if (line.startsWith('WRITING ')) restarting = restarting.then(killSoon);
            },
          });
          await restarting;
          assert.equal(result.status, 0, `${result.output}\n${gateway.log()}`);
          assert.equal(killed, kills);
          const lost = Number(/^LOST-CONNECTIONS (\d+)$/m.exec(result.output)?.[1]);
          assert(lost > 0, 'the kernel noticed no kill');
          t.diagnostic(`${killed} kills, the kernel lost its connection ${lost} times`);
        } finally {
          await gateway.dispose();
        }
      });
    });
  },
  () => (typeof image === 'string' ? image : undefined),
);
