/** How tests start sim.ts as a process of its own. */
import type { StoryName } from './story.js';

/** For node: a history makes much that is soon forgotten, and is collected more cheaply from more room. */
export const simulationArguments: readonly string[] = ['--max-semi-space-size=64'];

/** A story is told once or a few times in a history. */
export function storyArguments(story: StoryName): readonly string[] {
  return ['--story', story, '--operations', '60'];
}
