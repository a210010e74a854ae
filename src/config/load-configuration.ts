/**
 * Builds the configuration from, in rising order of precedence: defaults, the file, the environment, flags. Reads no
 * file itself: its caller hands in the text. All problems are reported together, one line each.
 */
import { isAbsolute, resolve } from 'node:path';
import convict from 'convict';
import { readAdded } from './added-volume.js';
import type { AddedEntries, AddedVolume } from './added-volume.js';
import type { ChapConfiguration, Configuration, StoreConfiguration, VolumeConfiguration } from './configuration.js';
import { codeOf, configurationError } from './problem.js';
import type { Problem } from './problem.js';
import { checkRules, checkVolumeRules } from './rule.js';
import { gatewaySettings, volumeSettings } from './schema.js';
import { isSetting } from './setting.js';
import type { Checked, SettingGroup } from './setting.js';
import { fitting, isMapping } from './shape.js';
import { parentPath, parseSource } from './source-text.js';
import type { SourceText } from './source-text.js';

export interface ConfigurationSources {
  readonly file?: {
    /** As the user named it, for messages. */
    readonly name: string;
    /** Relative paths in the file start here. */
    readonly directory: string;
    readonly content: string;
  };
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Of the data directory. */
  readonly added?: readonly AddedVolume[];
  /** Command-line flags that stand for a key: { key: "dataDir", flag: "--data-dir", value: "/srv" }. */
  readonly flags?: readonly { readonly key: string; readonly flag: string; readonly value: string }[];
  readonly workingDirectory: string;
}

type Gateway = Checked<typeof gatewaySettings>;
type Volume = Checked<typeof volumeSettings>;

const demonstrationVolumes = [{ name: 'demo', size: '1GiB' }];
/** Variables of this prefix that are no configuration key. */
const otherVariables = new Set(['KEEPGATE_CONFIG', 'KEEPGATE_LOG_LEVEL', 'KEEPGATE_ADDON', 'KEEPGATE_TEST_INSTALL']);

/** @throws GatewayError config-invalid, not-supported or insecure-listener */
export function loadConfiguration(sources: ConfigurationSources): Configuration {
  const file = sources.file === undefined ? undefined : parseSource(sources.file.name, sources.file.content);
  const problems: Problem[] = [];
  const overrides = collectOverrides(sources);
  const added: { entries?: AddedEntries } = {};
  const whereGiven = locator(file, overrides);
  const where = (path: string): string => added.entries?.where(path) ?? whereGiven(path);
  const report = (path: string, text: string, code: Problem['code'] = 'config-invalid'): void => {
    problems.push({ code, where: where(path), key: path, text });
  };

  const fits = fitting(file?.value ?? {}, gatewaySettings, '', report);
  const gateway = checked(gatewaySettings, fits, overrides.values, '', report);
  const demonstration = file === undefined && gateway?.volumes === undefined;
  const given = demonstration ? demonstrationVolumes : (gateway?.volumes ?? []);
  const names = new Set(given.map((item) => (isMapping(item) ? item['name'] : undefined)));
  added.entries = readAdded(sources.added ?? [], names, given.length);
  const volumes = [...given, ...added.entries.values].map((item, index) => {
    const prefix = `volumes[${index}]`;
    if (!isMapping(item)) return report(prefix, 'is not a mapping; write - name: disk0 and size: 100GiB below it');
    return checked(volumeSettings, fitting(item, volumeSettings, prefix, report), {}, prefix, report);
  });
  if (gateway === undefined || problems.length > 0) throw configurationError(problems);
  const complete = volumes.filter((volume) => volume !== undefined);
  const configuration = assemble(
    { gateway, volumes: complete, given: given.length, demonstration },
    sources,
    overrides,
  );
  checkRules(configuration, { gateway, volumes: complete }, report);
  if (problems.length > 0) throw configurationError(problems);
  return configuration;
}

/**
 * A volume that is added to a running gateway, as an entry of `volumes` says it, with everything else at its default; so
 * checked that the next start takes it as it is. Its paths are absolute, since no file is there that they could start from.
 * @throws GatewayError config-invalid
 */
export function volumeConfiguration(
  written: Readonly<Record<string, unknown>>,
  gateway: Configuration,
): VolumeConfiguration {
  const problems: Problem[] = [];
  const report = (path: string, text: string, code: Problem['code'] = 'config-invalid'): void => {
    problems.push({ code, where: '', key: path, text });
  };
  const volume = checked(volumeSettings, fitting(written, volumeSettings, '', report), {}, '', report);
  if (volume === undefined || problems.length > 0) throw configurationError(problems);
  const added = volumeOf(volume, (path) => {
    if (!isAbsolute(path)) report('', `"${path}" is a relative path; write the absolute one`);
    return path;
  });
  checkVolumeRules({ ...gateway, volumes: [added] }, [volume], (path, text, code) =>
    report(path.replace(/^volumes\[0\]\.?/, ''), text, code),
  );
  if (problems.length > 0) throw configurationError(problems);
  return { ...added, added: true };
}

interface Overrides {
  /** Variable name to value, flags included: convict reads both the same way. */
  readonly values: Readonly<Record<string, string>>;
  /** Key path to "environment NAME" or the flag. */
  readonly origins: ReadonlyMap<string, string>;
  readonly unknown: readonly string[];
}

function collectOverrides(sources: ConfigurationSources): Overrides {
  const pathOf = new Map<string, string>();
  const variableOf = new Map<string, string>();
  eachSetting(gatewaySettings, '', (path, setting) => {
    pathOf.set(setting.env ?? '', path);
    variableOf.set(path, setting.env ?? '');
  });
  const values: Record<string, string> = {};
  const origins = new Map<string, string>();
  const unknown: string[] = [];
  for (const [name, value] of Object.entries(sources.environment)) {
    const path = pathOf.get(name);
    if (path !== undefined && value !== undefined && value !== '') {
      values[name] = value;
      origins.set(path, `environment ${name}`);
    } else if (path === undefined && name.startsWith('KEEPGATE_') && !otherVariables.has(name)) {
      unknown.push(name);
    }
  }
  for (const { key, flag, value } of sources.flags ?? []) {
    values[variableOf.get(key) ?? ''] = value;
    origins.set(key, flag);
  }
  return { values, origins, unknown };
}

function locator(file: SourceText | undefined, overrides: Overrides): (path: string) => string {
  return (path) => {
    for (let at = path; at !== ''; at = parentPath(at)) {
      const origin = overrides.origins.get(at);
      if (origin !== undefined) return origin;
    }
    return file?.where(path) ?? '';
  };
}

function eachSetting(
  group: SettingGroup,
  prefix: string,
  visit: (path: string, setting: ReturnType<typeof asSetting>) => void,
): void {
  for (const [key, node] of Object.entries(group)) {
    const path = prefix === '' ? key : `${prefix}.${key}`;
    if (isSetting(node)) visit(path, asSetting(node));
    else eachSetting(node, path, visit);
  }
}

const asSetting = (node: SettingGroup[string]) => {
  if (!isSetting(node)) throw new TypeError('not a setting');
  return node;
};

/** Lets convict merge and validate; on its no, asks each setting for its own line. undefined after a problem. */
function checked<S extends SettingGroup>(
  group: S,
  value: Record<string, unknown>,
  environment: Readonly<Record<string, string>>,
  prefix: string,
  report: (path: string, text: string, code?: Problem['code']) => void,
): Checked<S> | undefined {
  const config = convict(group as unknown as convict.Schema<Record<string, unknown>>, {
    env: environment,
    args: [],
  });
  config.load(value);
  const merged = config.get();
  const refused: string[] = [];
  const convert = (node: SettingGroup, raw: Record<string, unknown>, path: string): Record<string, unknown> => {
    const result: Record<string, unknown> = {};
    for (const [key, child] of Object.entries(node)) {
      const childPath = path === '' ? key : `${path}.${key}`;
      if (!isSetting(child)) {
        result[key] = convert(child, raw[key] as Record<string, unknown>, childPath);
        continue;
      }
      try {
        result[key] = child.check(raw[key]);
      } catch (error) {
        refused.push(childPath);
        report(childPath, error instanceof Error ? error.message : String(error), codeOf(error));
      }
    }
    return result;
  };
  const result = convert(group, merged, prefix);
  if (refused.length > 0) return undefined;
  config.validate({ allowed: 'strict' });
  return result as Checked<S>;
}

interface Written {
  readonly gateway: Gateway;
  /** First those that the configuration gives itself, then what was added. */
  readonly volumes: readonly Volume[];
  readonly given: number;
  readonly demonstration: boolean;
}

function assemble(
  { gateway, volumes, given: givenCount, demonstration }: Written,
  sources: ConfigurationSources,
  overrides: Overrides,
): Configuration {
  /** A path in the file is relative to the file, one in the environment or a flag to where the command was given. */
  const absolute = (key: string, path: string): string =>
    resolve(
      overrides.origins.has(key) ? sources.workingDirectory : (sources.file?.directory ?? sources.workingDirectory),
      path,
    );
  const dataDir = absolute(
    'dataDir',
    gateway.dataDir ?? (sources.file === undefined ? 'keepgate-data' : '/var/lib/keepgate'),
  );
  const keyFile = gateway.keyFile ?? (demonstration ? resolve(dataDir, 'key') : '/etc/keepgate/key');
  const url = gateway.store.url ?? (demonstration ? `file://${resolve(dataDir, 'store')}` : undefined);
  return {
    demonstration,
    dataDir,
    keyFile: absolute('keyFile', keyFile),
    trustedNetwork: gateway.trustedNetwork,
    nbd: {
      enabled: gateway.nbd.enabled,
      listen: gateway.nbd.listen.map((address) => withRights(address, gateway.nbd)),
      tls: {
        mode: gateway.nbd.tls,
        certificates: given(gateway.nbd.tlsCertificates, (path) => absolute('nbd.tlsCertificates', path)),
        verifyPeer: gateway.nbd.tlsVerifyPeer,
        psk: given(gateway.nbd.tlsPsk, (path) => absolute('nbd.tlsPsk', path)),
      },
    },
    iscsi: {
      enabled: gateway.iscsi.enabled,
      listen: gateway.iscsi.listen,
      advertise: gateway.iscsi.advertise,
      targetPrefix: gateway.iscsi.targetPrefix,
      digests: gateway.iscsi.digests,
      discoveryChap: chapOf(
        { ...gateway.iscsi.discoveryChap, mutualUser: undefined, mutualSecretFile: undefined },
        (path) => absolute('iscsi.discoveryChap.secretFile', path),
      ),
    },
    api: {
      listen: gateway.api.listen,
      tokenFile: absolute('api.tokenFile', gateway.api.tokenFile ?? resolve(dataDir, 'api-token')),
    },
    store: url === undefined ? undefined : storeOf(gateway, url, (path) => absolute('store.caFile', path)),
    bandwidth: {
      ...gateway.bandwidth,
      timezone: gateway.bandwidth.timezone ?? new Intl.DateTimeFormat().resolvedOptions().timeZone,
    },
    volumes: volumes.map((volume, index) => ({
      ...volumeOf(volume, (path) => absolute('volumes', path)),
      ...(index < givenCount ? {} : { added: true }),
    })),
    warnings: [
      ...overrides.unknown.map((name) => `environment ${name} is no configuration key and was ignored`),
      ...tlsWarnings(gateway),
    ],
  };
}

/** Unix sockets are made for whom the configuration says; the rest is as it was. */
function withRights<A extends Gateway['nbd']['listen'][number]>(
  address: A,
  { socketMode, socketOwner }: Gateway['nbd'],
): A {
  if (address.kind !== 'unix') return address;
  return { ...address, mode: socketMode, ...(socketOwner === undefined ? {} : { owner: socketOwner }) };
}

function tlsWarnings({ nbd }: Gateway): readonly string[] {
  if (nbd.tlsPsk === undefined || nbd.tlsCertificates === undefined || nbd.tlsVerifyPeer) return [];
  return [
    'nbd.tlsPsk: with tlsCertificates and without tlsVerifyPeer: true clients that have no key get in too, but for volumes with nbd.users',
  ];
}

function given(path: string | undefined, absolute: (path: string) => string): string | undefined {
  return path === undefined ? undefined : absolute(path);
}

function storeOf(gateway: Gateway, url: string, absolute: (path: string) => string): StoreConfiguration {
  const { caFile } = gateway.store;
  return { ...gateway.store, url, caFile: caFile === undefined ? undefined : absolute(caFile) };
}

function volumeOf(volume: Volume, absolute: (path: string) => string): VolumeConfiguration {
  return {
    name: volume.name,
    sizeBytes: volume.size,
    bufferBytes: volume.buffer.size,
    whenFull: volume.buffer.whenFull,
    provision: volume.provision,
    fullTimeoutMs: volume.fullTimeout,
    access: volume.access,
    readOnly: volume.readOnly,
    nbdEnabled: volume.nbd.enabled,
    nbdUsers: volume.nbd.users,
    iscsiEnabled: volume.iscsi.enabled,
    initiators: volume.iscsi.initiators,
    physicalBlockBytes: volume.iscsi.physicalBlock,
    chap: chapOf(volume.iscsi.chap, absolute),
    replicate: volume.replicate.enabled,
    intervalMs: volume.replicate.interval,
    segmentBytes: volume.replicate.segmentSize,
    whenFenced: volume.whenFenced,
    compaction: volume.compaction,
    scrub: { everyMs: volume.scrub.every, remote: volume.scrub.remote },
    snapshots: { everyMs: volume.snapshots.every, keep: volume.snapshots.keep },
    receipts: {
      exportTo: exportOf(volume.receipts.exportTo, absolute),
      method: volume.receipts.method,
      everyMs: volume.receipts.every,
    },
  };
}

function exportOf(to: string | undefined, absolute: (path: string) => string): string | undefined {
  return to === undefined || to.includes('://') ? to : absolute(to);
}

function chapOf(written: Volume['iscsi']['chap'], absolute: (path: string) => string): ChapConfiguration | undefined {
  const { user, secretFile, mutualUser, mutualSecretFile } = written;
  if (user === undefined || secretFile === undefined) return undefined;
  return {
    user,
    secretFile: absolute(secretFile),
    mutualUser,
    mutualSecretFile: mutualSecretFile === undefined ? undefined : absolute(mutualSecretFile),
  };
}
