/**
 * Explores the ownership protocol's model within the bounds that are given as JSON, and prints what it found as JSON: a
 * program of its own, so that the mutation check can change a rule of it as it is loaded.
 */
import { explore } from './explorer.js';
import { ownershipSystem } from './ownership-properties.js';
import type { Bounds } from './ownership-steps.js';

const { bounds, statesMax } = JSON.parse(process.argv[2] ?? '') as { bounds: Bounds; statesMax: number };
console.log(JSON.stringify(explore(ownershipSystem(bounds), statesMax)));
