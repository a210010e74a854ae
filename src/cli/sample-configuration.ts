/** What `init` writes: every key that this version honours, with its default, commented where the default will do. */
export function sampleConfiguration(keyFile: string): string {
  return `# Keepgate's configuration (YAML 1.2). Unknown keys are refused. Every key can also be given in the environment:
# nbd.listen is KEEPGATE_NBD_LISTEN, lists comma-separated, volumes as JSON in KEEPGATE_VOLUMES.

dataDir: /var/lib/keepgate          # the full local copy of every volume lies here
keyFile: ${JSON.stringify(keyFile)}   # 32 bytes, base64, readable by its owner only; keep a copy off this machine

# Without it, listening beyond loopback and Unix sockets is refused.
#trustedNetwork: false

nbd:
  enabled: true
  listen: ["127.0.0.1:10809"]       # also "[::1]:10809", "unix:/run/keepgate/nbd.sock", "systemd:NAME"
  #socketMode: "0600"               # of Unix sockets, in quotes
  #socketOwner: keepgate:disk       # of Unix sockets: USER, USER:GROUP or ":GROUP"
  #tls: off                         # on: clients may; required: all must, and it may listen on the network
  #tlsCertificates: /etc/keepgate/pki      # server-cert.pem, server-key.pem, ca-cert.pem
  #tlsVerifyPeer: false             # clients show certificates that ca-cert.pem signed
  #tlsPsk: /etc/keepgate/keys.psk   # USER:HEXKEY lines

iscsi:
  enabled: true
  listen: ["127.0.0.1:3260"]
  #advertise: []                    # host:port that discovery gives out; default: the address the initiator reached
  #targetPrefix: iqn.2026-11.io.keepgate   # a volume's target is PREFIX:VOLUME, LUN 0

api:
  listen: 127.0.0.1:9470            # or unix:/PATH
  #tokenFile: FILE                  # default: api-token in dataDir

store:
  url: s3://bucket/prefix           # or file:///path
  #endpoint: https://s3.example.com # anything that speaks S3; leave it out for AWS
  #region: us-east-1
  #forcePathStyle: false
  #caFile: FILE                     # certificates of a private authority
  #proxy: http://HOST:PORT
  #storageClass: STANDARD_IA
  #fencing: auto                    # none: the store ignores If-None-Match, and one gateway only uses it

bandwidth:
  upload: unlimited                 # 20MB/s, 5Mbit/s, or auto: what others leave of the line
  #download: unlimited
  #timezone: Europe/Paris           # of the schedule; default: the machine's
  #schedule:                        # the first window that holds decides
  #  - { days: [mon, tue, wed, thu, fri], from: "08:00", to: "18:00", upload: 5Mbit/s }

volumes:
  - name: disk0                     # a-z, 0-9 and -
    size: 100GiB                    # a multiple of 4 KiB; a larger recorded size stands
    #buffer: { size: 1GiB, whenFull: track }      # throttle: clients wait; fail: errors
    #provision: thin                # full reserves the space at once, and trims do not give it back
    #fullTimeout: 30s               # how long a write waits for disk space before it fails
    #access: exclusive              # shared: clients that coordinate among themselves (cluster file systems)
    #readOnly: false
    #nbd: { enabled: true, users: [] }     # those whom TLS names so; default: any client
    #iscsi: { enabled: true, initiators: [], physicalBlock: 4KiB }   # 512B for initiators that refuse 4 KiB (VMware)
    #replicate: { enabled: true, interval: 10s, segmentSize: 8MiB }
    #whenFenced: readOnly           # continue: go on serving writes when another gateway took the remote volume
    #receipts: { exportTo: /mnt/elsewhere/disk0.receipt, every: 1h }   # or https://…: shows a bucket that was rolled back
    #snapshots: { every: 24h, keep: 30 }   # automatic ones; default: none
    #scrub: { every: 30d, remote: false }   # remote: true downloads all of the bucket each time
`;
}
