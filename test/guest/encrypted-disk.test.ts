/**
 * The main job, in a real kernel: LUKS and ext4 on the disk, over NBD and over iSCSI; the gateway killed with SIGKILL
 * and started again; everything is there. The same volume, written over one protocol, reads equal over the other. And
 * when the machine is lost, everything comes back from the store and the key.
 */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { after, before, it } from 'node:test';
import { TestGateway } from '../tool/gateway.js';
import { suite } from '../tool/suite.js';
import { attachIscsi, attachNbd, luksOptions } from './attach.js';
import { guestImage, guestTools, type GuestImage } from './guest-image.js';
import { runGuest, type GuestResult } from './kernel-guest.js';

const image = await guestImage();
const fileCount = 20; // of 1 MiB each

function writeFiles(attach: string): string {
  return `set -e
${attach}
printf 'correct horse' >/tmp/passphrase
attach
cryptsetup luksFormat --type luks2 ${luksOptions} $disk
cryptsetup open --key-file /tmp/passphrase $disk secret
mkfs.ext4 -q /dev/mapper/secret
mkdir -p /mnt; mount /dev/mapper/secret /mnt
i=0; while [ $i -lt ${fileCount} ]; do dd if=/dev/urandom of=/mnt/file$i bs=1M count=1 2>/dev/null; i=$((i+1)); done
(cd /mnt; sha256sum file*) | sed 's/^/SUM /'
umount /mnt
cryptsetup close secret
detach
`;
}

function checkFiles(attach: string): string {
  return `set -e
${attach}
printf 'correct horse' >/tmp/passphrase
attach
cryptsetup open --key-file /tmp/passphrase $disk secret
e2fsck -fn /dev/mapper/secret
mkdir -p /mnt; mount -o ro /dev/mapper/secret /mnt
(cd /mnt; sha256sum file*) | sed 's/^/SUM /'
umount /mnt
cryptsetup close secret
detach
`;
}

function sums(result: GuestResult): string[] {
  return result.output.split('\n').filter((line) => line.startsWith('SUM '));
}

suite(
  'LUKS and ext4 in a real kernel',
  guestTools,
  () => {
    let gateway: TestGateway;
    before(async () => {
      const volume = (name: string) => ({ name, size: '128MiB', buffer: { size: '64MiB' } });
      gateway = await TestGateway.start({ volumes: [volume('by-nbd'), volume('by-iscsi')] });
    });
    after(async () => {
      await gateway.dispose();
    });

    const guest = async (script: string): Promise<GuestResult> => {
      const result = await runGuest(image as GuestImage, { script, timeoutMs: 240_000 });
      assert.equal(result.status, 0, `${result.output}\n${gateway.log()}`);
      return result;
    };
    let writtenOverNbd: string[] = [];
    const survivesKill = async (written: string, alsoRead: string): Promise<string[]> => {
      const before = sums(await guest(writeFiles(written)));
      assert.equal(before.length, fileCount);
      await gateway.kill();
      await gateway.startAgain();
      const bothWays = [written, alsoRead].map(checkFiles).join('\n');
      assert.deepEqual(sums(await guest(bothWays)), [...before, ...before]);
      return before;
    };

    it('written over NBD, gateway killed, the same over NBD and over iSCSI', async () => {
      writtenOverNbd = await survivesKill(attachNbd(gateway, 'by-nbd'), attachIscsi(gateway, 'by-nbd'));
    });

    it('written over iSCSI, gateway killed, the same over iSCSI and over NBD', async () => {
      await survivesKill(attachIscsi(gateway, 'by-iscsi'), attachNbd(gateway, 'by-iscsi'));
    });

    it('drained, the data directory deleted, restored: LUKS opens, the files are equal', async () => {
      for (const volume of ['by-nbd', 'by-iscsi']) await gateway.drain(volume);
      await gateway.stop();
      await rm(gateway.dataDir, { recursive: true });
      for (const volume of ['by-nbd', 'by-iscsi']) {
        const from = `file://${gateway.storeDirectory}`;
        const restored = await gateway.command(['restore', volume, '--from', from, '--full', '--take-over']);
        assert.equal(restored.status, 0, `${restored.stdout}${restored.stderr}`);
      }
      await gateway.startAgain();
      assert.deepEqual(sums(await guest(checkFiles(attachNbd(gateway, 'by-nbd')))), writtenOverNbd);
    });
  },
  () => (typeof image === 'string' ? image : undefined),
);
