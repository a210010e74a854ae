/** What a server uses of the processors, whatever else they do: of all its threads, its children, and those that it waited for. */
import { readFile, readdir } from 'node:fs/promises';

const millisecondsPerTick = 10; // USER_HZ is 100, which Linux fixes for /proc.

interface Usage {
  readonly parent: number;
  readonly milliseconds: number;
}

/** After the name, which may hold anything: state, parent, ..., utime, stime, cutime, cstime (proc(5)). */
function fieldsOf(stat: string): readonly string[] {
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

function milliseconds(ticks: readonly string[]): number {
  return ticks.reduce((sum, field) => sum + Number(field), 0) * millisecondsPerTick;
}

async function usage(pid: string): Promise<Usage | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  if (stat === undefined) return undefined;
  const fields = fieldsOf(stat);
  return { parent: Number(fields[1]), milliseconds: milliseconds(fields.slice(11, 15)) };
}

/** Milliseconds of processor time, user and system, that the process's first thread has used: the event loop's, of Node. */
export async function threadMilliseconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/task/${pid}/stat`, 'utf8');
  return milliseconds(fieldsOf(stat).slice(11, 13));
}

/** Milliseconds of processor time, user and system, that a process and its descendants have used. */
export async function processorMilliseconds(pid: number): Promise<number> {
  const all = new Map<number, Usage>();
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const used = await usage(name);
    if (used !== undefined) all.set(Number(name), used);
  }
  const own = (of: number): number =>
    [...all].reduce(
      (sum, [child, { parent }]) => (parent === of ? sum + own(child) : sum),
      all.get(of)?.milliseconds ?? 0,
    );
  return own(pid);
}
