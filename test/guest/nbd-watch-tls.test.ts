/**
 * The kernel's NBD client over TLS, which `keepgate nbd-watch` agrees on and the kernel goes on with: a file system that is
 * written while its gateway is stopped and killed, with a gateway that admits nobody in clear. One device by certificates, with
 * two connections; the other by a pre-shared key.
 */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { it } from 'node:test';
import { TestAuthority, writePreSharedKeys } from '../tool/certificates.js';
import { TestGateway } from '../tool/gateway.js';
import { suite } from '../tool/suite.js';
import { guestImage, guestTools, type GuestImage } from './guest-image.js';
import { runGuest } from './kernel-guest.js';
import { keepgateInGuest, makeRuntimeImage } from './runtime-image.js';

const image = await guestImage();
const ends = process.env['KEEPGATE_TEST_LONG'] === '1' ? 20 : 2;

interface Proofs {
  readonly authority: string;
  readonly certificate: string;
  readonly key: string;
  readonly keys: string;
}

function script(nbdPort: number, { authority, certificate, key, keys }: Proofs): string {
  const here = (path: string, content: string): string =>
    `cat >${path} <<'END'\n${content.trim()}\nEND\nchmod 600 ${path}`;
  const uri = (user: string, volume: string, proof: string): string =>
    `'nbds://${user}10.0.2.2:${nbdPort}/${volume}?${proof}'`;
  return `set -e
report() { [ $? = 0 ] || { cat /tmp/watch*; dmesg | tail -n 40; }; }
trap report EXIT
until_true() { tries=0; until eval "$1"; do tries=$((tries+1)); [ $tries -lt 600 ] || { echo "never: $1"; exit 91; }; sleep 0.1; done; }
# The kernel asks there for what it lacks.
[ -e /sbin/modprobe ] || ln -s /bin/modprobe /sbin/modprobe
mkdir -p /app /mnt/0 /mnt/1 /tls
mount -o ro /dev/vda /app
${here('/tls/ca-cert.pem', authority)}
${here('/tls/client-cert.pem', certificate)}
${here('/tls/client-key.pem', key)}
${here('/keys.psk', keys)}
${keepgateInGuest} nbd-watch /dev/nbd0 ${uri('', 'disk0', 'tls-certificates=/tls&tls-hostname=localhost')} --connections 2 --request-timeout 5 --detach >/tmp/watch0 2>&1 & watcher0=$!
${keepgateInGuest} nbd-watch /dev/nbd1 ${uri('bob@', 'disk1', 'tls-psk-file=/keys.psk')} --detach >/tmp/watch1 2>&1 & watcher1=$!
until_true "grep -q 'is attached' /tmp/watch0 && grep -q 'is attached' /tmp/watch1"
for n in 0 1; do mkfs.ext4 -q /dev/nbd$n; mount /dev/nbd$n /mnt/$n; done
write() { dd if=/tmp/new of=/mnt/$1/file$i bs=64k conv=fsync 2>/dev/null; }
i=0; while [ $i -lt ${ends} ]; do
  dd if=/dev/urandom of=/tmp/new bs=1M count=4 2>/dev/null
  sha256sum </tmp/new | sed "s|-|file$i|" >>/tmp/sums
  echo "WRITING $i"
  write 0 & writer0=$!
  write 1 & writer1=$!
  wait $writer0; wait $writer1
  echo "WRITTEN $i after $(cut -d. -f1 /proc/uptime) s"
  i=$((i+1))
done
echo 3 >/proc/sys/vm/drop_caches
for n in 0 1; do (cd /mnt/$n; sha256sum -c </tmp/sums); umount /mnt/$n; e2fsck -fn /dev/nbd$n; done
kill $watcher0; wait $watcher0
kill $watcher1; wait $watcher1
nbd-client -c /dev/nbd0 >/dev/null && exit 94
echo "TLS-CONNECTIONS $(awk '/TlsTxSw/ { print $2 }' /proc/net/tls_stat)"
if dmesg | grep -i -e 'I/O error' -e 'EXT4-fs error' -e 'Buffer I/O' -e 'Other side returned error'; then exit 92; fi
`;
}

suite(
  'file systems on the kernel’s NBD client over TLS',
  [...guestTools, 'openssl'],
  () => {
    it(`stay mounted while the gateway, which admits nobody in clear, is stopped and killed ${ends} times`, async (t) => {
      const folder = await mkdtemp(join(tmpdir(), 'keepgate-nbd-watch-tls-'));
      const authority = await TestAuthority.create(join(folder, 'tls'));
      await authority.issueClient('alice');
      const psk = join(folder, 'keys.psk');
      await writePreSharedKeys(psk, ['bob']);
      const read = (name: string): Promise<string> => readFile(join(authority.directory, name), 'utf8');
      const settings = { size: '64MiB', buffer: { size: '64MiB' }, replicate: { enabled: false } };
      const gateway = await TestGateway.start({
        volumes: [
          { name: 'disk0', ...settings, nbd: { users: ['alice'] } },
          { name: 'disk1', ...settings, nbd: { users: ['bob'] } },
        ],
        nbd: { tls: 'required', tlsCertificates: authority.directory, tlsVerifyPeer: true, tlsPsk: psk },
      });
      try {
        const runtime = join(folder, 'runtime.img');
        await makeRuntimeImage(runtime);
        const proofs = {
          authority: await read('ca-cert.pem'),
          certificate: await read('client-cert.pem'),
          key: await read('client-key.pem'),
          keys: await readFile(psk, 'utf8'),
        };
        let hostWork = Promise.resolve();
        let ended = 0;
        const endSoon = async (): Promise<void> => {
          await delay(200);
          if (ended++ % 2 === 0) await gateway.kill();
          else await gateway.stop();
          await gateway.startAgain();
        };
        const result = await runGuest(image as GuestImage, {
          script: script(gateway.nbdPort, proofs),
          processors: 2,
          timeoutMs: 600_000,
          disks: [{ path: runtime, readOnly: true }],
          onLine: (line) => {
            if (line.startsWith('WRITING ')) hostWork = hostWork.then(endSoon);
          },
        });
        await hostWork;
        assert.equal(result.status, 0, `${result.output}\n${gateway.log()}`);
        assert.equal(ended, ends);
        // Three, and those that took their places.
        const connections = Number(/^TLS-CONNECTIONS (\d+)$/m.exec(result.output)?.[1]);
        assert.ok(connections > 3, `the kernel had TLS on ${connections} connections`);
        for (const line of result.output.split('\n').filter((text) => / after \d+ s/.test(text))) t.diagnostic(line);
        t.diagnostic(`the kernel had TLS on ${connections} connections`);
      } finally {
        await gateway.dispose();
        await rm(folder, { recursive: true, force: true });
      }
    });
  },
  () => (typeof image === 'string' ? image : undefined),
);
