/**
 * The examples of each command, for its help and for the man page. A test takes each of them apart as the program would,
 * so that none names an option that is gone.
 */

export interface Example {
  /** What it is for, as half a sentence. */
  readonly why: string;
  /** As it is typed. */
  readonly line: string;
}

const example = (why: string, line: string): Example => ({ why, line });
const configured = '--config /etc/keepgate/keepgate.yaml';

/** By the command's words behind `keepgate`. */
export const examples: Readonly<Record<string, readonly Example[]>> = {
  serve: [
    example('a demonstration under ./keepgate-data, which needs no configuration', 'keepgate serve'),
    example('the gateway of a configuration', `keepgate serve ${configured}`),
    example(
      'with a line in the log for each request of a client',
      `keepgate serve ${configured} --log-level info,request=debug`,
    ),
  ],
  status: [
    example('once; exit code 1 when a volume needs a person', 'keepgate status'),
    example('again every second, until Ctrl-C', 'keepgate status --watch'),
    example('of a gateway on a Unix socket, for a program', 'keepgate status --json --api unix:/run/keepgate/api.sock'),
  ],
  drain: [example('before the machine is switched off for long', 'keepgate drain disk0')],
  receipt: [
    example(
      'to a place that neither the gateway nor the provider can change',
      'keepgate receipt disk0 --out disk0.receipt',
    ),
  ],
  scrub: [
    example('look only', 'keepgate scrub disk0'),
    example('and send again what the bucket has lost', 'keepgate scrub disk0 --heal'),
  ],
  takeover: [example('once the other gateway has stopped for good', 'keepgate takeover disk0')],
  resize: [example('to 200 GiB in all', 'keepgate resize disk0 200GiB')],
  'volume add': [
    example('replicated as the configuration says', 'keepgate volume add disk1 50GiB'),
    example(
      'with a larger buffer, sent once a minute',
      "keepgate volume add disk1 50GiB --settings '{ buffer: { size: 4GiB }, replicate: { interval: 60s } }'",
    ),
  ],
  'volume remove': [
    example('asks for the name again', 'keepgate volume remove disk1'),
    example('in a script', 'keepgate volume remove disk1 --confirm disk1'),
  ],
  'snapshot create': [
    example('named by the time', 'keepgate snapshot create disk0'),
    example('named', 'keepgate snapshot create disk0 before-upgrade'),
  ],
  'snapshot list': [example('with what each of them keeps in the bucket', 'keepgate snapshot list disk0')],
  'snapshot revert': [
    example(
      'once nobody has the volume attached; what it is now becomes a snapshot too',
      'keepgate snapshot revert disk0 before-upgrade',
    ),
  ],
  'snapshot delete': [example('what it alone kept is compacted away', 'keepgate snapshot delete disk0 before-upgrade')],
  init: [example('keepgate.yaml and key in /etc/keepgate', 'keepgate init /etc/keepgate')],
  attach: [example('over NBD', 'keepgate attach demo'), example('over iSCSI', 'keepgate attach demo --protocol iscsi')],
  doctor: [
    example('before the first start, and whenever something is odd', `keepgate doctor ${configured}`),
    example('and mend what is safe, such as a key that others can read', `keepgate doctor --fix ${configured}`),
    example(
      'what a bucket of 500 GiB, of which 20 GiB change a day, would cost at Cloudflare',
      'keepgate doctor --cost --prices r2 --stored 500GiB --changes 20GiB',
    ),
  ],
  'key generate': [example('and back it up off this machine', 'keepgate key generate /etc/keepgate/key')],
  'key list': [example('by the store and the key of the configuration', `keepgate key list disk0 ${configured}`)],
  'key add': [
    example('a second key, kept elsewhere', `keepgate key add disk0 --new-key-file escrow.key ${configured}`),
  ],
  'key remove': [
    example(
      'the key of that id, as `key list` shows it',
      `keepgate key remove disk0 0f6b8d5f2a91c3e47d1b60a95c8e2f34 --key-file new.key ${configured}`,
    ),
  ],
  'key rotate': [
    example('all volumes of a gateway at once', `keepgate key rotate disk0 disk1 --new-key-file new.key ${configured}`),
  ],
  'remote ls': [
    example('with the key, from any machine', 'keepgate remote ls s3://my-bucket/keepgate --key-file key'),
    example(
      'in a store that is not AWS',
      'keepgate remote ls s3://my-bucket/keepgate --key-file key --endpoint https://s3.example.com --force-path-style',
    ),
    example('in a directory', 'keepgate remote ls file:///srv/store --key-file key'),
  ],
  'remote verify': [
    example('reads all of it', 'keepgate remote verify s3://my-bucket/keepgate disk0 --key-file key'),
    example(
      'no faster than 20 MB/s, and against a receipt',
      'keepgate remote verify s3://my-bucket/keepgate disk0 --key-file key --rate 20MB/s --receipt disk0.receipt',
    ),
  ],
  'remote rm': [
    example('asks for the name again', 'keepgate remote rm s3://my-bucket/keepgate disk0-old --key-file key'),
  ],
  restore: [
    example(
      'a detached copy, beside the volume or on another machine',
      'keepgate restore disk0 --from s3://my-bucket/keepgate --key-file key --data-dir ./restored --as disk0-copy',
    ),
    example(
      'the volume itself, on the machine that replaces the lost one',
      `keepgate restore disk0 --from s3://my-bucket/keepgate --take-over ${configured}`,
    ),
    example(
      'a snapshot, all of it before the first read',
      `keepgate restore disk0 --from s3://my-bucket/keepgate --snapshot before-upgrade --as disk0-then --full ${configured}`,
    ),
  ],
  'nbd-watch': [
    example('in the foreground, as root', 'keepgate nbd-watch /dev/nbd0 nbd://127.0.0.1/demo'),
    example(
      'over TLS, with four connections, detached at the end',
      "keepgate nbd-watch /dev/nbd0 'nbds://gate.example/disk0?tls-certificates=/etc/keepgate/tls' --connections 4 --detach",
    ),
  ],
  completion: [
    example('in this bash', 'source <(keepgate completion bash)'),
    example('in every fish', 'keepgate completion fish > ~/.config/fish/completions/keepgate.fish'),
  ],
  man: [
    example('read it', 'keepgate man | man -l -'),
    example('install it', 'keepgate man > /usr/local/share/man/man1/keepgate.1'),
  ],
};
