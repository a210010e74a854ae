/** Users and groups of this machine, as /etc/passwd and /etc/group name them; others (LDAP) go by their numbers. */
import { GatewayError } from '../base/errors.js';
import { readTextFile } from './text-file.js';

export interface Owner {
  /** -1: as it is (chown(2)). */
  readonly userId: number;
  readonly groupId: number;
}

/** "USER", "USER:GROUP" or ":GROUP". @throws GatewayError listen-refused naming `setting` */
export async function findOwner(owner: string, setting: string): Promise<Owner> {
  const [user = '', group = ''] = owner.split(':');
  return {
    userId: await idOf(user, '/etc/passwd', 'user', setting),
    groupId: await idOf(group, '/etc/group', 'group', setting),
  };
}

async function idOf(name: string, file: string, what: string, setting: string): Promise<number> {
  if (name === '') return -1;
  if (/^\d+$/.test(name)) return Number(name);
  const lines = ((await readTextFile(file)) ?? '').split('\n');
  // name:password:id:…, in both.
  const found = lines.map((line) => line.split(':')).find(([first]) => first === name);
  if (found === undefined || !/^\d+$/.test(found[2] ?? '')) {
    throw new GatewayError('listen-refused', `there is no ${what} ${name} in ${file} (${setting}); write its number`);
  }
  return Number(found[2]);
}
