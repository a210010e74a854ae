/**
 * An explicit-state model checker: visits every state that a system can reach, breadth first, so that the trace to the
 * first problem is a shortest one. Visited states are kept by their names (exact, no hashing); a trace is found again by
 * taking the same steps once more.
 */
export interface Step<State> {
  /** Asked only when a trace is printed. */
  readonly what: () => string;
  readonly to: State;
  /** What is wrong with taking this step. */
  readonly problem?: string | undefined;
  /** What is worth knowing that it was reached: a model in which nothing happens has no problems. */
  readonly mark?: string | undefined;
}

export interface System<State> {
  readonly start: State;
  /** Equal for states that behave alike. */
  nameOf(state: State): string;
  /** In an order that depends on the state alone. */
  stepsOf(state: State): readonly Step<State>[];
  problemOf(state: State): string | undefined;
}

export interface Exploration {
  readonly states: number;
  readonly steps: number;
  /** Steps on the longest shortest path. */
  readonly depth: number;
  /** Every step's. */
  readonly marks: readonly string[];
  /** False: the bound on states was met first. */
  readonly complete: boolean;
  readonly counterexample: { readonly problem: string; readonly trace: readonly string[] } | undefined;
}

export function explore<State>(system: System<State>, statesMax: number): Exploration {
  const known = new Set([system.nameOf(system.start)]);
  /** Per state in the order of discovery: the state it was reached from, and by which of its steps. */
  const parents: number[] = [-1];
  const ordinals: number[] = [-1];
  let level = [system.start];
  let firstOfLevel = 0;
  const marks = new Set<string>();
  let steps = 0;
  let depth = 0;
  const end = (complete: boolean, counterexample?: Exploration['counterexample']): Exploration => ({
    states: known.size,
    steps,
    depth,
    marks: [...marks].sort(),
    complete,
    counterexample,
  });
  const found = (problem: string, parent: number, ordinal: number): Exploration =>
    end(false, { problem, trace: traceOf(system, parents, ordinals, parent, ordinal) });

  const problem = system.problemOf(system.start);
  if (problem !== undefined) return end(false, { problem, trace: [] });
  for (; level.length > 0; depth++) {
    const following: State[] = [];
    for (const [at, state] of level.entries()) {
      for (const [ordinal, step] of system.stepsOf(state).entries()) {
        steps++;
        if (step.mark !== undefined) marks.add(step.mark);
        if (step.problem !== undefined) return found(step.problem, firstOfLevel + at, ordinal);
        const name = system.nameOf(step.to);
        if (known.has(name)) continue;
        if (known.size >= statesMax) return end(false);
        known.add(name);
        parents.push(firstOfLevel + at);
        ordinals.push(ordinal);
        const wrong = system.problemOf(step.to);
        if (wrong !== undefined) return found(wrong, firstOfLevel + at, ordinal);
        following.push(step.to);
      }
    }
    firstOfLevel += level.length;
    level = following;
  }
  return end(true);
}

function traceOf<State>(
  system: System<State>,
  parents: readonly number[],
  ordinals: readonly number[],
  parent: number,
  last: number,
): string[] {
  const path = [last];
  for (let at = parent; at > 0; at = parents[at]!) path.push(ordinals[at]!);
  let state = system.start;
  return path.reverse().map((ordinal) => {
    const step = system.stepsOf(state)[ordinal]!;
    state = step.to;
    return step.what();
  });
}
