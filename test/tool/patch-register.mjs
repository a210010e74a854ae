/**
 * Runs a program with a few lines of it changed in memory: `node --import .../patch-register.mjs PROGRAM`, with the
 * changes in KEEPGATE_TEST_PATCHES (source-patch.ts). Threads of the program are changed as well. The program itself
 * holds no switch for it, so nothing can be left on.
 */
import { register } from 'node:module';

const patches = process.env.KEEPGATE_TEST_PATCHES;
if (patches !== undefined) register('./patch-hooks.mjs', import.meta.url, { data: JSON.parse(patches) });
