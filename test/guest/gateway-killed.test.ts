/**
 * The kernel's iSCSI client with a mounted, encrypted file system, which goes on writing while its gateway is stopped or killed and
 * started again: it waits, logs in again and repeats what was not answered. No I/O error, every file equal, and the file
 * system clean (P1).
 */
import assert from 'node:assert/strict';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { it } from 'node:test';
import { seededNumbers } from '../crash/load.js';
import { chosenSeed, withSeed } from '../crash/seed.js';
import { TestGateway, type Settings } from '../tool/gateway.js';
import { suite } from '../tool/suite.js';
import { attachIscsi, chapRecord, joinPaths, luksOptions } from './attach.js';
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

interface Way {
  readonly title: string;
  readonly volume: Settings;
  /** Of the gateway, in turn. */
  readonly ends: readonly ('SIGKILL' | 'SIGTERM')[];
  readonly attach: (gateway: TestGateway) => string;
}

const secrets = { chap: 'twelve-or-more-bytes', mutual: 'another-dozen-bytes' };
const sessions = 4;

/** The secrets' files lie beside the gateway's configuration. */
const ways: readonly Way[] = [
  {
    title: 'over iSCSI, the gateway stopped and killed',
    volume: {},
    ends: ['SIGTERM', 'SIGKILL'],
    attach: (gateway) => attachIscsi(gateway, volume),
  },
  {
    title: `over ${sessions} iSCSI sessions with mutual CHAP by SHA-256 and all digests, the gateway stopped and killed`,
    volume: {
      access: 'shared',
      iscsi: {
        chap: { user: 'guest', secretFile: 'chap', mutualUser: 'gate', mutualSecretFile: 'mutual' },
      },
    },
    ends: ['SIGTERM', 'SIGKILL'],
    attach: (gateway) => `${attachIscsi(gateway, volume, {
      record: {
        ...chapRecord(secrets.chap, secrets.mutual),
        'node.conn[0].iscsi.HeaderDigest': 'CRC32C',
        'node.conn[0].iscsi.DataDigest': 'CRC32C',
        'node.session.nr_sessions': String(sessions),
      },
    })}
${joinPaths(sessions)}
attachOne() { attach && joinPaths; }
leave() { dmsetup remove paths && detach; }
`,
  },
];

function writeThroughEnds(attach: string): string {
  return `set -e
attachOne() { attach; }
leave() { detach; }
${attach}
printf 'correct horse' >/tmp/passphrase
attachOne
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
leave
echo "LOST-CONNECTIONS $(dmesg | grep -c 'detected conn error')"
if dmesg | grep -i -e 'I/O error' -e 'recovery timed out' -e 'EXT4-fs error' -e 'Buffer I/O' -e 'Failing path'; then exit 92; fi
`;
}

function growWhileMounted(attach: string): string {
  return `set -e
${attach}
attach
mkfs.ext4 -q $disk
mkdir -p /mnt; mount $disk /mnt
echo MOUNTED
i=0; while [ $i -lt 600 ] && [ "$(blockdev --getsize64 $disk)" = ${128 * 1024 * 1024} ]; do
  iscsiadm -m session --rescan >/dev/null
  sleep 0.1; i=$((i+1))
done
echo "SIZE $(blockdev --getsize64 $disk)"
dd if=/dev/urandom of=/mnt/file bs=1M count=4 conv=fsync 2>/dev/null
dd if=/dev/urandom of=/tmp/end bs=1M count=1 2>/dev/null
umount /mnt
dd if=/tmp/end of=$disk bs=1M seek=191 conv=fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
dd if=$disk bs=1M skip=191 2>/dev/null | cmp - /tmp/end
e2fsck -fn $disk
detach
`;
}

suite(
  'an encrypted file system in a real kernel stays mounted',
  guestTools,
  () => {
    for (const { title, volume: settings, ends, attach } of ways) {
      it(`${title} ${kills} times while it is written`, async (t) => {
        await withSeed(chosenSeed(), async (seed) => {
          const random = seededNumbers(seed);
          const folder = await mkdtemp(join(tmpdir(), 'keepgate-test-'));
          for (const [name, secret] of Object.entries(secrets)) {
            await writeFile(join(folder, name), secret, { mode: 0o600 });
          }
          const gateway = await TestGateway.start({
            folder,
            volumes: [{ name: volume, size: '128MiB', buffer: { size: '64MiB' }, ...settings }],
          });
          try {
            let restarting = Promise.resolve();
            let ended = 0;
            const endSoon = async (): Promise<void> => {
              await delay(random() * killDelayMsMax);
              // Asked to end, it has the kernel log out (RFC 7143 11.9.1); killed, it leaves it with a broken connection.
              if (ends[ended % ends.length] === 'SIGKILL') await gateway.kill();
              else await gateway.stop();
              ended += 1;
              await gateway.startAgain();
            };
            const result = await runGuest(image as GuestImage, {
              script: writeThroughEnds(attach(gateway)),
              timeoutMs: 900_000,
              onLine: (line) => {
                if (line.startsWith('WRITING ')) restarting = restarting.then(endSoon);
              },
            });
            await restarting;
            assert.equal(result.status, 0, `${result.output}\n${gateway.log()}`);
            assert.equal(ended, kills);
            const lost = Number(/^LOST-CONNECTIONS (\d+)$/m.exec(result.output)?.[1]);
            assert(lost > 0, 'the kernel noticed nothing');
            t.diagnostic(`${ended} ends, the kernel lost a connection ${lost} times`);
          } finally {
            await gateway.dispose();
          }
        });
      });
    }

    it('and grows while it is mounted, once the kernel looks', async () => {
      const gateway = await TestGateway.start({
        volumes: [{ name: volume, size: '128MiB', buffer: { size: '64MiB' } }],
      });
      try {
        let grown: ReturnType<TestGateway['command']> | undefined;
        const result = await runGuest(image as GuestImage, {
          script: growWhileMounted(attachIscsi(gateway, volume)),
          timeoutMs: 240_000,
          onLine: (line) => {
            if (line === 'MOUNTED') grown = gateway.command(['resize', volume, '192MiB']);
          },
        });
        assert.equal((await grown)?.status, 0);
        assert.equal(result.status, 0, `${result.output}\n${gateway.log()}`);
        assert.match(result.output, new RegExp(`^SIZE ${192 * 1024 * 1024}$`, 'm'));
      } finally {
        await gateway.dispose();
      }
    });
  },
  () => (typeof image === 'string' ? image : undefined),
);
