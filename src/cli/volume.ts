/** `keepgate volume add|remove`: which volumes a running gateway has, beside those of its configuration. */
import { createInterface } from 'node:readline/promises';
import type { VolumeReport } from '../api/volume-report.js';
import { GatewayError } from '../base/errors.js';
import { formatBytes } from '../config/quantity.js';
import { parseSource } from '../config/source-text.js';
import type { ApiClient } from './api-client.js';
import { exitCodes } from './exit-code.js';
import type { ExitCode } from './exit-code.js';
import type { Terminal } from './terminal.js';

/** Reserving all of a volume's space, or closing one whose disk is slow. */
const patience = { timeoutMs: 10 * 60_000 };

interface VolumeCommand {
  readonly name: string;
  readonly client: ApiClient;
  readonly terminal: Terminal;
  readonly json: boolean;
}

export interface AddVolumeOptions extends VolumeCommand {
  /** "100GiB". */
  readonly size: string;
  /** The rest of its entry, as YAML. */
  readonly settings: string | undefined;
}

export async function addVolume(options: AddVolumeOptions): Promise<ExitCode> {
  const { name, size, settings, client, terminal, json } = options;
  const rest = settings === undefined ? {} : parseSource('--settings', settings).value;
  const added = (await client.post('/v1/volumes', { ...rest, name, size }, patience)) as VolumeReport;
  if (json) terminal.print(JSON.stringify(added));
  else {
    terminal.print(`${name} was added: ${formatBytes(added.sizeBytes)}, ${added.state}`);
    terminal.print(
      added.state === 'opening'
        ? `it is served once its store answers: ${added.reason ?? ''}`
        : `keepgate attach ${name}`,
    );
  }
  return exitCodes.done;
}

export interface RemoveVolumeOptions extends VolumeCommand {
  /** Its name again; undefined: it is asked for. */
  readonly confirm: string | undefined;
  readonly acceptLoss: boolean;
}

export async function removeVolume(options: RemoveVolumeOptions): Promise<ExitCode> {
  const { name, client, terminal, json, acceptLoss } = options;
  const path = `/v1/volumes/${encodeURIComponent(name)}`;
  const confirm = options.confirm ?? (await typedAgain((await client.get(path)) as VolumeReport, terminal));
  if (confirm !== name) {
    terminal.note('keepgate: that is not its name; nothing was removed');
    return exitCodes.failed;
  }
  const query = new URLSearchParams({ confirm, acceptLoss: String(acceptLoss) });
  const removed = await client.delete(`${path}?${query.toString()}`, patience);
  if (json) terminal.print(JSON.stringify(removed));
  else terminal.print(`${name} was removed from this gateway; keepgate remote rm removes what its bucket holds`);
  return exitCodes.done;
}

async function typedAgain({ name, sizeBytes, replication }: VolumeReport, terminal: Terminal): Promise<string> {
  const copy = replication.mode === 'off' ? 'Nothing else has a copy' : 'Its bucket stays as it is';
  terminal.note(
    `${name}: ${formatBytes(sizeBytes)} in the data directory are deleted. ${copy}. This cannot be undone.`,
  );
  if (!terminal.interactive)
    throw new GatewayError('config-invalid', `write --confirm ${name} where nobody can type it`);
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await prompt.question('Its name again: ')).trim();
  } finally {
    prompt.close();
  }
}
