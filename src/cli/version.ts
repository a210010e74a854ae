/** The version of package.json, from dist/src/cli. */
import { createRequire } from 'node:module';

const manifest = createRequire(import.meta.url)('../../../package.json') as { readonly version: string };

export const { version } = manifest;
