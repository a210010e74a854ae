/**
 * The two ways to a gateway's volumes, NBD and iSCSI: made from the configuration, listening once the volumes are open, and
 * closed before them. What they must not do without a secret they do not do: NBD without TLS, where it is asked for, is
 * refused beyond this machine.
 *
 * Who logs in to a volume is the volume's affair (volume-offer.ts); what all of them share is renewed here while sessions go
 * on.
 */
import { GatewayError } from '../base/errors.js';
import type { Configuration } from '../config/configuration.js';
import { isLocal } from '../config/listen-address.js';
import { insecureListener } from '../config/rule.js';
import { IscsiTarget } from '../frontends/iscsi/target.js';
import { NbdServer } from '../frontends/nbd/server.js';
import type { MetricsSource } from '../metrics/source.js';
import { inheritedSockets } from '../platform/inherited-sockets.js';
import { NetStreamFactory } from '../platform/socket-listener.js';
import type { Log } from '../ports/log.js';
import type { InheritedSocket, ListenAddress, StreamSecurity } from '../ports/stream.js';
import type { ChapSecrets, VolumeDirectory } from '../ports/volume-directory.js';
import { loadChap } from './identity.js';
import type { RunFile } from './run-file.js';
import type { SystemPorts } from './system-ports.js';
import { loadTlsSecurity } from './tls-credentials.js';

const noSessions = { logins: 0, rejections: new Map<string, number>() };

export interface FrontEndsOptions {
  readonly configuration: Configuration;
  readonly directory: VolumeDirectory;
  readonly ports: SystemPorts;
  readonly log: Log;
}

export class FrontEnds {
  readonly #options: FrontEndsOptions;
  readonly #streams: NetStreamFactory;
  readonly #nbd: NbdServer;
  /** Made when its secrets are read. */
  #iscsi: IscsiTarget | undefined;

  constructor(options: FrontEndsOptions) {
    const { directory, configuration, ports, log } = options;
    const { clock } = ports;
    this.#options = options;
    this.#streams = new NetStreamFactory({ log });
    const streams = this.#streams;
    this.#nbd = new NbdServer({ directory, streams, clock, log, tls: configuration.nbd.tls.mode });
  }

  /** For metrics. */
  sessions(): ReturnType<MetricsSource['sessions']> {
    return { nbd: this.#nbd, iscsi: this.#iscsi ?? noSessions };
  }

  /** undefined: NBD does without TLS. */
  async loadSecurity({ nbd }: Configuration): Promise<StreamSecurity | undefined> {
    if (!nbd.enabled || this.#nbd.tls === 'off') return undefined;
    const { clock } = this.#options.ports;
    const { security, warnings } = await loadTlsSecurity(nbd.tls, clock.wallMs());
    for (const warning of warnings) this.#options.log.warn(warning);
    return security;
  }

  /** Of connections from now on; before `listen`, and whenever it is read again. */
  secure(security: StreamSecurity | undefined): void {
    this.#nbd.security = security ?? this.#nbd.security;
  }

  /** Of discovery sessions from now on. */
  renewDiscovery(chap: ChapSecrets | undefined): void {
    if (this.#iscsi !== undefined) this.#iscsi.discoveryChap = chap;
  }

  /** Says where. insecure-listener, listen-refused */
  async listen(): Promise<Pick<RunFile, 'nbd' | 'iscsi'>> {
    const { configuration } = this.#options;
    const nbd = configuration.nbd.enabled ? await this.#listenNbd() : [];
    this.#iscsi = configuration.iscsi.enabled ? await this.#createIscsi() : undefined;
    return { nbd, iscsi: (await this.#iscsi?.listen(configuration.iscsi.listen)) ?? [] };
  }

  #listenNbd(): Promise<readonly ListenAddress[]> {
    const { nbd, trustedNetwork } = this.#options.configuration;
    const open = trustedNetwork || nbd.tls.mode === 'required';
    const addresses = nbd.listen.flatMap((address): readonly (ListenAddress | InheritedSocket)[] =>
      address.kind === 'systemd' ? inheritedSockets(address.name, 'nbd.listen') : [address],
    );
    return this.#nbd.listen(addresses, (bound) => {
      if (open || isLocal(bound)) return;
      throw new GatewayError('insecure-listener', insecureListener('nbd.listen', bound, 'NBD without TLS'));
    });
  }

  async #createIscsi(): Promise<IscsiTarget> {
    const { directory, configuration, ports, log } = this.#options;
    const { targetPrefix, advertise, digests, discoveryChap } = configuration.iscsi;
    const { clock, checksums, random } = ports;
    return new IscsiTarget({
      directory,
      streams: this.#streams,
      clock,
      log: log.child('iscsi'),
      checksums,
      random,
      options: {
        targetPrefix,
        advertise,
        digests,
      },
      discoveryChap: await loadChap(discoveryChap),
    });
  }

  /** Ends all sessions once their requests are answered. */
  async close(): Promise<void> {
    await Promise.all([this.#nbd.close(), this.#iscsi?.close()]);
  }
}
