/** Programs that a bench needs and the tests do not, so that nothing fetches them by itself. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** One line that says what to install, for the first of the programs that is missing. */
export function missingProgram(packageOf: Readonly<Record<string, string>>): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'];
  const missing = Object.entries(packageOf).find(([name]) => !folders.some((folder) => existsSync(join(folder, name))));
  return missing === undefined ? undefined : `${missing[0]} is missing: apt-get install ${missing[1]}`;
}
