/**
 * What the README says under "Attach the disk", as a guest's script: its lines, taken from the page itself, run as they stand
 * there, on one machine with the demonstration that `npm start` runs. What has to be otherwise is in `substitutions`, and
 * nowhere else. In the long test the machine is then lost but for bucket and key, and the README's lines of a restore bring
 * the file back.
 */
import { inlineCode, linesBeside, page, section, type Page } from '../unit/docs/page.js';
import { keepgateInGuest } from './runtime-image.js';

const long = process.env['KEEPGATE_TEST_LONG'] === '1';

const readme = page('README.md');
const attaching = section(readme, 'Attach the disk');
const draining = section(readme, 'Watch it drain');
const restoring = section(readme, 'Restore on a new machine');

const attachNbd = linesBeside(attaching, /nbd-watch/);
const attachIscsi = linesBeside(attaching, /--login/);
const encrypt = linesBeside(attaching, /luksFormat/);
const unmount = linesBeside(attaching, /^umount/);
const detachNbd = linesBeside(attaching, /^nbd-client -d/);
const detachIscsi = linesBeside(attaching, /--logout/);
/** In the text, without a block of its own. */
const plainClient = inlineCode(attaching).filter((code) => /^nbd-client .*-N /.test(code));
// What stands beside these only shows something: test/interop/readme.test.ts runs it.
const drain = oneLine(draining, /^keepgate drain/);
const restore = oneLine(restoring, /^keepgate restore .*--as /);
const serveRestored = oneLine(restoring, /^keepgate serve/);
const restoredYaml = restoring.blocks.find(({ language }) => language === 'yaml')?.text ?? '';

/** Each line of the README that the script runs. */
export const linesInGuest: readonly string[] = [
  ...[attachNbd, encrypt, unmount, detachNbd, plainClient, attachIscsi, detachIscsi].flat(),
  ...(long ? [drain, restore, serveRestored].flat() : []),
];

function oneLine(where: Page, wanted: RegExp): readonly string[] {
  return linesBeside(where, wanted).filter((line) => wanted.test(line));
}

interface Substitution {
  readonly when: 'always' | 'over iSCSI' | 'the disk is there' | 'from the bucket' | 'the copy';
  readonly line: RegExp;
  readonly instead: string;
  readonly reason: string;
}

/** In order. A line that none of them knows runs as it stands. */
const substitutions: readonly Substitution[] = [
  {
    when: 'always',
    line: /^(cryptsetup (?:luksFormat|open) .*)$/,
    instead: `printf 'correct horse' | $1`,
    reason: 'nobody is there to type the passphrase',
  },
  {
    when: 'always',
    line: /^(keepgate (nbd-watch|serve) .*)$/,
    instead: '$1 >/tmp/$2 2>&1 & running=$!',
    reason: 'it has a terminal of its own',
  },
  {
    when: 'over iSCSI',
    line: /\/dev\/nbd0/,
    instead: '/dev/sda',
    reason: 'the README shows it for NBD; this is the disk that the login brings to a machine without another',
  },
  {
    when: 'the disk is there',
    line: /^(?:printf .*luksFormat|mkfs).*$/,
    instead: ':',
    reason: 'the README says so: a disk that was attached before is not made anew',
  },
  {
    when: 'from the bucket',
    line: /s3:\/\/my-bucket\/keepgate/,
    instead: 'file://$PWD/keepgate-data/store',
    reason: 'the bucket of the demonstration is this directory',
  },
  {
    when: 'from the bucket',
    line: /(--key-file|keyFile:) key$|(--key-file|keyFile:) key(?= )/m,
    instead: '$1$2 keepgate-data/key',
    reason: 'the key of the demonstration lies there',
  },
  {
    when: 'from the bucket',
    line: /restore disk0 /,
    instead: 'restore demo ',
    reason: 'the volume of the demonstration is not called disk0',
  },
  {
    when: 'from the bucket',
    line: /100GiB/,
    instead: '1GiB',
    reason: 'the size of the demonstration, which `restore` prints',
  },
  {
    when: 'the copy',
    line: /-N demo /,
    instead: '-N disk0-copy ',
    reason: 'the restored copy is attached "as above", by its own name',
  },
];

type Situation = Substitution['when'];

function substituted(text: string, situations: readonly Situation[]): string {
  return substitutions
    .filter(({ when }) => when === 'always' || situations.includes(when))
    .reduce((changed, { line, instead }) => changed.replace(line, instead), text);
}

/** Says each line before it runs: the test looks whether all did. */
function typed(lines: readonly string[], ...situations: readonly Situation[]): string {
  return lines.map((line) => `cat <<'END'\nTYPED ${line}\nEND\n${substituted(line, situations)}`).join('\n');
}

/** Behind the lines of the attachment; `$gateway` is the demonstration's process. */
function lostAndRestored(): string {
  return `${typed(drain)}
kill -INT $gateway; wait $gateway || [ $? = 130 ]
# The machine is lost: what is left is the bucket and the key.
for name in keepgate-data/*; do case $name in */store|*/key) ;; *) rm -r $name;; esac; done
${typed(restore, 'from the bucket')}
cat >restored.yaml <<'END'
${substituted(restoredYaml, ['from the bucket'])}END
${typed(serveRestored)}
gateway=$running
ready
after RESTORED
${typed(plainClient, 'the copy')}
${typed(encrypt, 'the disk is there')}
sha256sum -c /tmp/sum
${typed(unmount)}
${typed(detachNbd)}
`;
}

/** For a guest with the runtime image as its first disk, and an empty one for the data as its second. */
export function readmeScript(): string {
  return `set -e
report() { [ $? = 0 ] || { tail -n 20 /tmp/serve /tmp/demo /tmp/nbd-watch; dmesg | tail -n 20; }; }
trap report EXIT
until_true() { tries=0; until eval "$1"; do tries=$((tries+1)); [ $tries -lt 3000 ] || { echo "never: $1"; exit 91; }; sleep 0.1; done; }
ready() { until_true "wget -q -O /dev/null http://127.0.0.1:9470/readyz 2>/dev/null"; }
after() { echo "$1 after $(cut -d. -f1 /proc/uptime) s"; }
mkdir -p /app /data
mount -o ro /dev/vda /app
mkfs.ext4 -q /dev/vdb; mount /dev/vdb /data; cd /data
printf '#!/bin/sh\\nexec env ${keepgateInGuest} "$@"\\n' >/sbin/keepgate; chmod 755 /sbin/keepgate
modprobe -r nbd
# What npm start runs.
keepgate serve >/tmp/demo 2>&1 & gateway=$!
ready
after SERVED

${typed(attachNbd)}
watcher=$running
until_true "grep -q 'is attached' /tmp/nbd-watch"
after ATTACHED
${typed(encrypt)}
dd if=/dev/urandom of=/mnt/file bs=1M count=4 2>/dev/null
sha256sum /mnt/file >/tmp/sum
after WRITTEN
${typed(unmount)}
kill -INT $watcher; wait $watcher || [ $? = 130 ]
nbd-client -c /dev/nbd0 >/dev/null
${typed(detachNbd)}
if nbd-client -c /dev/nbd0 >/dev/null; then exit 93; fi

${typed(plainClient)}
${typed(encrypt, 'the disk is there')}
sha256sum -c /tmp/sum
${typed(unmount)}
${typed(detachNbd)}
after PLAIN

iscsid -c /etc/iscsi/iscsid.conf
${typed(attachIscsi)}
until_true "[ -b /dev/sda ]"
${typed(encrypt, 'over iSCSI', 'the disk is there')}
sha256sum -c /tmp/sum
${typed(unmount)}
${typed(detachIscsi)}
after ISCSI

${long ? lostAndRestored() : ''}
if dmesg | grep -i -e 'I/O error' -e 'EXT4-fs error'; then exit 92; fi
after DONE
`;
}
