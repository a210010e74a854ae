/**
 * The configuration as the program uses it: bytes, bytes per second, milliseconds, absolute paths. Made by
 * load-configuration.ts, which has checked all of it.
 */
import type { BandwidthPlan } from '../ports/bandwidth.js';
import type { ListenAddress, SystemdSockets } from './listen-address.js';

export interface ChapConfiguration {
  readonly user: string;
  readonly secretFile: string;
  readonly mutualUser: string | undefined;
  readonly mutualSecretFile: string | undefined;
}

export interface TlsConfiguration {
  readonly mode: 'off' | 'on' | 'required';
  /** A directory with server-cert.pem, server-key.pem and ca-cert.pem. */
  readonly certificates: string | undefined;
  /** Clients show a certificate that ca-cert.pem signed, or the key of a user. */
  readonly verifyPeer: boolean;
  /** A file of USER:KEY lines. */
  readonly psk: string | undefined;
}

export interface VolumeConfiguration {
  readonly name: string;
  /** A minimum: a larger recorded size stands. */
  readonly sizeBytes: number;
  readonly bufferBytes: number;
  readonly whenFull: 'track' | 'throttle' | 'fail';
  readonly provision: 'thin' | 'full';
  readonly fullTimeoutMs: number;
  readonly access: 'exclusive' | 'shared';
  readonly readOnly: boolean;
  readonly nbdEnabled: boolean;
  /** TLS identities that may use it over NBD; none: any client. */
  readonly nbdUsers: readonly string[];
  readonly iscsiEnabled: boolean;
  readonly initiators: readonly string[];
  /** What initiators are told of how the volume is made: 4096, or 512 for those that refuse anything else. */
  readonly physicalBlockBytes: number;
  readonly chap: ChapConfiguration | undefined;
  readonly replicate: boolean;
  /** Age at which a group is cut. */
  readonly intervalMs: number;
  readonly segmentBytes: number;
  readonly whenFenced: 'readOnly' | 'continue';
  /** false: the bucket is only added to, and no delete is ever sent. */
  readonly compaction: boolean;
  readonly scrub: {
    /** undefined: only when it is called. */
    readonly everyMs: number | undefined;
    /** Also what the bucket holds, which is a download of all of it. */
    readonly remote: boolean;
  };
  /** undefined: only when they are asked for. */
  readonly snapshots: { readonly everyMs: number | undefined; readonly keep: number };
  readonly receipts: {
    /** An absolute path, or http(s)://…; undefined: receipts are kept in the volume's directory only. */
    readonly exportTo: string | undefined;
    readonly method: 'PUT' | 'POST';
    readonly everyMs: number;
  };
  /** It was added while the gateway ran (added-volume.ts), and is no entry of the configuration. */
  readonly added?: true;
}

export interface StoreConfiguration {
  /** "s3://bucket/prefix" or "file:///directory". */
  readonly url: string;
  readonly endpoint: string | undefined;
  readonly region: string;
  readonly forcePathStyle: boolean;
  readonly fencing: 'auto' | 'none';
  /** Certificates of authorities that are trusted besides the usual ones, PEM. */
  readonly caFile: string | undefined;
  /** "http://HOST:PORT" of an HTTP proxy through which the store is reached. */
  readonly proxy: string | undefined;
  readonly storageClass: string | undefined;
  readonly serverSideEncryption: 'AES256' | 'aws:kms' | 'aws:kms:dsse' | undefined;
  readonly kmsKeyId: string | undefined;
  readonly requestPayer: 'requester' | undefined;
  /** Account number; requests to a bucket of another owner fail. */
  readonly expectedBucketOwner: string | undefined;
}

export interface Configuration {
  /** True when nothing was configured: `serve` then makes its key itself and prints how to attach. */
  readonly demonstration: boolean;
  readonly dataDir: string;
  readonly keyFile: string;
  readonly trustedNetwork: boolean;
  readonly nbd: {
    readonly enabled: boolean;
    readonly listen: readonly (ListenAddress | SystemdSockets)[];
    readonly tls: TlsConfiguration;
  };
  readonly iscsi: {
    readonly enabled: boolean;
    readonly listen: readonly ListenAddress[];
    /** host:port given out by SendTargets; empty: the address that the initiator reached. */
    readonly advertise: readonly string[];
    readonly targetPrefix: string;
    readonly digests: 'offered' | 'required';
    readonly discoveryChap: ChapConfiguration | undefined;
  };
  readonly api: { readonly listen: ListenAddress; readonly tokenFile: string };
  /** undefined only when no volume replicates. */
  readonly store: StoreConfiguration | undefined;
  readonly bandwidth: BandwidthPlan;
  readonly volumes: readonly VolumeConfiguration[];
  /** Things worth a log line, such as an environment variable that no key has. */
  readonly warnings: readonly string[];
}
