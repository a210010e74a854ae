/**
 * A real gateway as a child process, on ports that were free, with its data in a folder of its own. It can be
 * killed and started again on the same ports, as clients that reconnect expect. What it logged is part of every error.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { freePorts } from './free-port.js';
import { attempt, eventually, startService, type Finished, type RunOptions, type Service } from './process.js';
import { patchArguments, patchEnvironment, type SourcePatch } from './source-patch.js';

const projectDirectory = resolve(import.meta.dirname, '../../..');
/** KEEPGATE_DIST: what another commit was built to, for comparisons. */
export const distDirectory = process.env['KEEPGATE_DIST'] ?? join(projectDirectory, 'dist');
export const keepgatePath = join(distDirectory, 'src/cli/main.js');
export const targetPrefix = 'iqn.2026-11.io.keepgate';

const portFreeMsMax = 60_000;

/** The configuration as its file says it; JSON is YAML. */
export type Settings = Readonly<Record<string, unknown>>;

export interface GatewayOptions {
  readonly volumes: readonly Settings[];
  /** Default: a directory store beside the data directory. */
  readonly store?: Settings;
  readonly bandwidth?: Settings;
  /** Beside `listen`, which is chosen unless it is given. */
  readonly nbd?: Settings;
  /** For the process; S3 credentials come this way. */
  readonly env?: Readonly<Record<string, string>>;
  /** Where the data, the key and the directory store lie; default: a new temporary folder. */
  readonly folder?: string;
  /** Begins the command line, such as `taskset -c 0`. */
  readonly launcher?: readonly string[];
  /** Open files of this process that the gateway gets as its own, from 3 on. */
  readonly descriptors?: readonly number[];
  /** Changes to the program of this process alone; [] ends them. */
  readonly patches?: readonly SourcePatch[];
}

export interface CommandOptions {
  readonly timeoutMs?: number;
  /** Changes to the program of the command. */
  readonly patches?: readonly SourcePatch[];
}

interface DrainOperation {
  readonly id: string;
  readonly state: 'running' | 'done' | 'failed';
  readonly reason: string | null;
}

interface Addresses {
  readonly pid: number;
  readonly nbd: readonly string[];
  readonly iscsi: readonly string[];
  readonly api: string;
}

export class TestGateway {
  private service: Service | undefined;
  private addresses: Addresses | undefined;
  /** For NBD, iSCSI and the API. */
  private ports: readonly number[] = [];

  private constructor(
    readonly folder: string,
    private options: GatewayOptions,
  ) {}

  static async start(options: GatewayOptions): Promise<TestGateway> {
    const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'keepgate-test-')));
    const gateway = new TestGateway(folder, options);
    await mkdir(gateway.storeDirectory, { recursive: true }); // A bucket is never made by the gateway.
    const key = join(folder, 'key');
    await writeFile(key, `${randomBytes(32).toString('base64')}\n`, { mode: 0o600, flag: 'wx' }).catch(ignoreExisting);
    try {
      await gateway.startAgain();
    } catch (error) {
      await gateway.dispose();
      throw error;
    }
    return gateway;
  }

  get dataDir(): string {
    return join(this.folder, 'data');
  }
  get storeDirectory(): string {
    return join(this.folder, 'store');
  }
  get keyFile(): string {
    return join(this.folder, 'key');
  }
  get configFile(): string {
    return join(this.folder, 'keepgate.yaml');
  }
  get pid(): number {
    return this.running().pid;
  }
  get nbdAddresses(): readonly string[] {
    return this.running().nbd;
  }
  get nbdPort(): number {
    return portOf(this.running().nbd[0]);
  }
  get iscsiPort(): number {
    return portOf(this.running().iscsi[0]);
  }
  get apiUrl(): string {
    return `http://${this.running().api}`;
  }

  nbdUri(volume: string): string {
    return `nbd://127.0.0.1:${this.nbdPort}/${volume}`;
  }
  iscsiUrl(volume: string): string {
    return `iscsi://127.0.0.1:${this.iscsiPort}/${targetPrefix}:${volume}/0`;
  }

  /** What the process said so far. */
  log(): string {
    return this.service?.output() ?? '';
  }

  /** Starts the process, after the first time on the ports that it had. Returns when every volume is open. */
  async startAgain(changes: Partial<GatewayOptions> = {}): Promise<void> {
    this.options = { ...this.options, ...changes };
    const hadPorts = this.addresses !== undefined;
    if (!hadPorts) this.ports = await freePorts(3);
    const untilMs = performance.now() + portFreeMsMax;
    for (;;) {
      try {
        await this.launch();
        return;
      } catch (error) {
        // Somebody took a port meanwhile, for a while or for good.
        if (!/: port \d+ on \S+ is in use/.test(String(error)) || performance.now() > untilMs) throw error;
        if (!hadPorts) this.ports = await freePorts(3);
      }
    }
  }

  private async launch(): Promise<void> {
    await writeFile(this.configFile, JSON.stringify(this.settings(), null, 2));
    const [program, ...before] = [...(this.options.launcher ?? []), process.execPath];
    const patches = this.options.patches ?? [];
    const args = [...before, ...this.node(patches, ['serve', '--config', this.configFile])];
    const { descriptors = [] } = this.options;
    const service = startService(program, args, { ...this.environment(patches), descriptors });
    this.service = service;
    const explain = (): string => service.output();
    const checkAlive = (): void => {
      if (!service.isRunning()) throw new Error(`the gateway ended\n${service.output()}`);
    };
    await eventually(
      'the gateway says where it listens',
      async () => {
        checkAlive();
        const addresses = await this.readRunFile();
        // A file of the process that was killed before is still there.
        if (addresses === undefined || addresses.pid !== service.pid) return false;
        this.addresses = addresses;
        return true;
      },
      { explain },
    );
    await eventually(
      'the gateway is ready',
      async () => {
        checkAlive();
        return (await fetch(`${this.apiUrl}/readyz`).catch(() => undefined))?.ok === true;
      },
      { explain },
    );
  }

  /** Changes the configuration of the running process, of those keys that SIGHUP rereads. */
  async reconfigure(changes: Partial<GatewayOptions>): Promise<void> {
    this.options = { ...this.options, ...changes };
    await writeFile(this.configFile, JSON.stringify(this.settings(), null, 2));
    this.service?.signal('SIGHUP');
  }

  /** Waits until the process is gone by itself; returns the signal that ended it, if one did. */
  async died(): Promise<NodeJS.Signals | null> {
    if (this.service === undefined) throw new Error('the gateway was not started');
    return this.service.ended;
  }

  /** SIGKILL, at this instant; returns when the process is gone. */
  async kill(): Promise<void> {
    this.service?.signal('SIGKILL');
    await this.service?.ended;
  }

  /** Waits until the process ends by itself; its exit status. */
  async untilEnded(): Promise<number | undefined> {
    const service = this.service;
    if (service === undefined) return undefined;
    await eventually('the gateway ends by itself', () => !service.isRunning(), { explain: () => service.output() });
    return service.status();
  }

  /** SIGTERM and an orderly end, which must not take long. */
  async stop(): Promise<void> {
    const service = this.service;
    if (service === undefined || !service.isRunning()) return;
    service.signal('SIGTERM');
    await eventually('the gateway ends after SIGTERM', () => !service.isRunning(), {
      timeoutMs: 20_000,
      explain: () => service.output(),
    });
  }

  /** Ends the process, however, and removes the folder. */
  async dispose(): Promise<void> {
    await this.kill();
    if (this.options.folder === undefined) await rm(this.folder, { recursive: true, force: true });
  }

  /** Runs another command of keepgate with this gateway's configuration. */
  command(args: readonly string[], options: CommandOptions = {}): Promise<Finished> {
    const { patches = [], timeoutMs = 120_000 } = options;
    const all = this.node(patches, [...args, '--config', this.configFile]);
    return attempt(process.execPath, all, { ...this.environment(patches), timeoutMs });
  }

  /** As `keepgate drain`, without a process of its own. */
  async drain(volume: string, timeoutMs = 120_000): Promise<void> {
    const token = (await readFile(join(this.dataDir, 'api-token'), 'utf8')).trim();
    const begun = await fetch(`${this.apiUrl}/v1/volumes/${volume}/drain`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}` },
    });
    if (!begun.ok) throw new Error(`drain: ${begun.status} ${await begun.text()}\n${this.log()}`);
    let operation = (await begun.json()) as DrainOperation;
    const isOver = async (): Promise<boolean> => {
      operation = (await this.api(`/v1/operations/${operation.id}`)) as DrainOperation;
      return operation.state !== 'running';
    };
    await eventually(`${volume} is drained`, isOver, { timeoutMs, explain: () => this.log() });
    if (operation.state === 'failed') throw new Error(`drain: ${operation.reason}\n${this.log()}`);
  }

  /** GET of the API, as JSON. */
  async api(path: string): Promise<unknown> {
    const response = await fetch(`${this.apiUrl}${path}`);
    if (!response.ok) throw new Error(`GET ${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  /** The sum of a metric's samples, of those whose line contains `label`. */
  async metric(name: string, label = ''): Promise<number> {
    const text = await (await fetch(`${this.apiUrl}/metrics`)).text();
    const lines = text.split('\n').filter((line) => line.startsWith(name) && line.includes(label));
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
  }

  /** Arguments of node that run the program, changed or not. */
  private node(patches: readonly SourcePatch[], args: readonly string[]): readonly string[] {
    return [...(patches.length > 0 ? patchArguments : []), keepgatePath, ...args];
  }

  private environment(patches: readonly SourcePatch[]): RunOptions {
    return { env: { ...this.options.env, ...(patches.length > 0 ? patchEnvironment(patches) : {}) } };
  }

  private running(): Addresses {
    if (this.addresses === undefined) throw new Error('the gateway was not started');
    return this.addresses;
  }

  private async readRunFile(): Promise<Addresses | undefined> {
    try {
      return JSON.parse(await readFile(join(this.dataDir, 'run.json'), 'utf8')) as Addresses;
    } catch {
      return undefined; // Not written yet.
    }
  }

  private settings(): Settings {
    const before = this.addresses;
    const [nbd, iscsi, api] = this.ports.map((port) => `127.0.0.1:${port}`);
    return {
      dataDir: this.dataDir,
      keyFile: this.keyFile,
      nbd: { listen: listenAgain(before?.nbd, nbd), ...this.options.nbd },
      iscsi: { listen: listenAgain(before?.iscsi, iscsi), targetPrefix },
      api: { listen: before?.api ?? api },
      store: this.options.store ?? { url: `file://${this.storeDirectory}` },
      ...(this.options.bandwidth === undefined ? {} : { bandwidth: this.options.bandwidth }),
      volumes: this.options.volumes,
    };
  }
}

/** The addresses that the gateway had, or the one that was chosen for it. */
function listenAgain(before: readonly string[] | undefined, chosen: string | undefined): readonly string[] {
  return before === undefined || before.length === 0 ? [chosen ?? '127.0.0.1:0'] : before;
}

function portOf(address: string | undefined): number {
  return Number(address?.slice(address.lastIndexOf(':') + 1));
}

function ignoreExisting(error: unknown): void {
  if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
}
