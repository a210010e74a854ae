/** The words that say how something is, in the colour of their meaning: green is well, yellow passes, red needs a person. */
import type { VolumeState } from '../ports/volume-status.js';
import type { Terminal } from './terminal.js';

const codes = { green: 32, yellow: 33, red: 31 } as const;
export type Colour = keyof typeof codes;

const ofStates = {
  opening: 'yellow',
  online: 'green',
  hydrating: 'yellow',
  stalled: 'red',
  failed: 'red',
  fenced: 'red',
} as const satisfies Record<VolumeState, Colour>;

/** A gateway of a later version may say what this one does not know. */
export const stateColours: Readonly<Record<string, Colour>> = ofStates;

/** Modes of replication: what does its work, and what is off on purpose, has none. */
export const modeColours: Readonly<Record<string, Colour>> = {
  tracking: 'yellow',
  resyncing: 'yellow',
  blocked: 'red',
};

export function painted(word: string, colour: Colour | undefined, { coloured }: Pick<Terminal, 'coloured'>): string {
  return coloured && colour !== undefined ? `\u001b[${codes[colour]}m${word}\u001b[39m` : word;
}
