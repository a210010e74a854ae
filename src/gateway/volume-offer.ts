/**
 * What front ends have of a volume: its device, who may log in or attach, and how it is made. It begins once the volume is
 * there and may be served, which is GatewayVolume's to say, and never ends while that lives: closing refuses each client.
 *
 * Who may log in can change meanwhile; every login asks anew, and sessions that are there stay.
 */
import type { IoStats } from '../base/io-stats.js';
import type { VolumeConfiguration } from '../config/configuration.js';
import type { Volume } from '../engine/volume.js';
import type { Log } from '../ports/log.js';
import type { ChapSecrets, ServedVolume } from '../ports/volume-directory.js';
import type { VolumeAccess } from './access.js';
import { GuardedDevice } from './guarded-device.js';
import { ioStatsFor } from './logged-io-stats.js';
import type { ReservationLine } from './reservation-line.js';
import type { SanitizeLine } from './sanitize-line.js';

/** Who may log in over iSCSI; read again while the gateway runs. */
export interface IscsiAccess {
  readonly initiators: readonly string[];
  readonly chap: ChapSecrets | undefined;
}

export interface VolumeOfferOptions {
  readonly configuration: VolumeConfiguration;
  readonly iscsiAccess: IscsiAccess;
  readonly access: VolumeAccess;
  readonly reservations: ReservationLine;
  readonly log: Log;
}

export class VolumeOffer {
  readonly stats: Readonly<Record<'nbd' | 'iscsi', IoStats>>;
  /** Of logins from now on. */
  iscsiAccess: IscsiAccess;
  /** Who may attach over NBD from now on, by what TLS calls them; none: any client. */
  nbdUsers: readonly string[];
  readonly #options: VolumeOfferOptions;
  #served: ServedVolume | undefined;

  constructor(options: VolumeOfferOptions) {
    const { configuration, iscsiAccess, log } = options;
    const { name, nbdUsers } = configuration;
    this.#options = options;
    this.stats = { nbd: ioStatsFor(log, name, 'nbd'), iscsi: ioStatsFor(log, name, 'iscsi') };
    this.iscsiAccess = iscsiAccess;
    this.nbdUsers = nbdUsers;
  }

  /** undefined before it has begun. */
  get served(): ServedVolume | undefined {
    return this.#served;
  }

  /** `sanitize`: undefined where the volume cannot be sanitized; `rotational`: its data lie on a disk that turns. */
  begin(volume: Volume, sanitize: SanitizeLine | undefined, rotational: boolean): void {
    const { configuration, access, reservations } = this.#options;
    const login = (): IscsiAccess => this.iscsiAccess;
    const users = (): readonly string[] => this.nbdUsers;
    this.#served = {
      device: sanitize === undefined ? volume : new GuardedDevice(volume, () => sanitize.refusal()),
      description: `Keepgate volume ${configuration.name}`,
      nbd: {
        enabled: configuration.nbdEnabled,
        stats: this.stats.nbd,
        rotational,
        get users() {
          return users();
        },
      },
      iscsi: {
        enabled: configuration.iscsiEnabled,
        stats: this.stats.iscsi,
        physicalBlockBytes: configuration.physicalBlockBytes,
        get initiators() {
          return login().initiators;
        },
        get chap() {
          return login().chap;
        },
      },
      reservations,
      sanitizer: sanitize,
      shared: configuration.access === 'shared',
      attach: async (client, control) => {
        // An initiator is told by its commands how far it is; NBD has no way to say so.
        const refusal = client.frontend === 'nbd' ? sanitize?.refusal() : undefined;
        if (refusal !== undefined) throw refusal;
        return access.attach(client, control);
      },
    };
  }
}
