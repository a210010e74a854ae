/**
 * A disk image with everything that a gateway needs to run inside a guest: Node, its shared libraries, the built
 * program, the addon, and the packages of production. Made by mke2fs from a folder: no rights, no mount.
 *
 *   /node  /lib/*.so  /keepgate/{package.json,dist/src,test/tool/*.mjs,build/Release/*.node,node_modules}
 */
import { cp, copyFile, mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { requiredTool } from '../tool/clients.js';
import { run } from '../tool/process.js';
import { sharedLibraries } from './guest-image.js';

const projectDirectory = resolve(import.meta.dirname, '../../..');

/** Where in a guest a script that has mounted the image at /app finds the gateway's command. */
export const keepgateInGuest = 'LD_LIBRARY_PATH=/app/lib /app/node /app/keepgate/dist/src/cli/main.js';
/** The same, for a program that is changed as it is loaded: with KEEPGATE_TEST_PATCHES in the environment. */
export const patchedKeepgateInGuest =
  'LD_LIBRARY_PATH=/app/lib /app/node --import /app/keepgate/test/tool/patch-register.mjs /app/keepgate/dist/src/cli/main.js';

export async function makeRuntimeImage(imagePath: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'keepgate-runtime-'));
  try {
    await mkdir(join(folder, 'lib'));
    await copyFile(process.execPath, join(folder, 'node'));
    const addons = (await run('find', [join(projectDirectory, 'build'), '-name', '*.node'])).trim().split('\n');
    for (const program of [process.execPath, ...addons]) {
      for (const library of await sharedLibraries({ path: program, env: {} })) {
        await copyFile(await realpath(library), join(folder, 'lib', basename(library)));
      }
    }
    const app = join(folder, 'keepgate');
    const inApp = (path: string): string => join(app, relative(projectDirectory, path));
    for (const path of [join(projectDirectory, 'package.json'), ...addons, ...(await productionPackages())]) {
      await mkdir(dirname(inApp(path)), { recursive: true });
      await cp(path, inApp(path), { recursive: true });
    }
    await cp(join(projectDirectory, 'dist/src'), join(app, 'dist/src'), { recursive: true });
    await cp(join(projectDirectory, 'test/tool'), join(app, 'test/tool'), {
      recursive: true,
      filter: (path) => !path.endsWith('.ts'),
    });
    const bytes = Number((await run('du', ['-sb', folder])).split('\t')[0]);
    const sizeMiB = Math.ceil((bytes * 1.5) / 1024 / 1024) + 64; // Small files take whole blocks.
    const args = ['-q', '-F', '-O', '^has_journal', '-m', '0', '-N', '40000', '-d', folder, imagePath, `${sizeMiB}M`];
    await run(requiredTool('mkfs.ext4'), args);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function productionPackages(): Promise<string[]> {
  const listed = await run('npm', ['ls', '--omit=dev', '--all', '--parseable'], { cwd: projectDirectory });
  const folders = listed.trim().split('\n').slice(1);
  // A package that lies inside another's folder comes with it.
  return folders.filter((folder) => !folders.some((other) => other !== folder && folder.startsWith(`${other}/`)));
}
