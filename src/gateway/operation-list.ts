/**
 * The operations that this process was asked for, as the API shows them: those that run and the newest that ended, oldest
 * first. They live no longer than the process.
 */
import type { Operation } from '../api/gateway-view.js';
import type { Clock } from '../ports/clock.js';
import type { Random } from '../ports/random.js';
import { DrainOperation } from './drain-operation.js';
import type { Drainable } from './drain-operation.js';
import { TaskOperation } from './task-operation.js';
import type { TaskOptions } from './task-operation.js';

/** Finished and running operations that can still be shown. */
const operationsMax = 100;

export class OperationList {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #operations = new Map<string, DrainOperation | TaskOperation>();

  constructor({ clock, random }: { readonly clock: Clock; readonly random: Random }) {
    this.#clock = clock;
    this.#random = random;
  }

  begin(task: Pick<TaskOptions, 'kind' | 'volume' | 'work'>): Operation {
    return this.#keep(new TaskOperation({ ...task, id: this.#random.uuid(), clock: this.#clock }));
  }

  drain(volume: Drainable): Operation {
    return this.#keep(new DrainOperation({ id: this.#random.uuid(), volume, clock: this.#clock }));
  }

  /** undefined: there never was one of that id, or it is long over. */
  find(id: string): Operation | undefined {
    return this.#operations.get(id)?.report();
  }

  all(): readonly Operation[] {
    return [...this.#operations.values()].map((operation) => operation.report());
  }

  /** The kind of an operation that runs on a volume. */
  runningOn(name: string): string | undefined {
    for (const operation of this.#operations.values()) {
      const { kind, volume, state } = operation.report();
      if (volume === name && state === 'running') return kind;
    }
    return undefined;
  }

  #keep(operation: DrainOperation | TaskOperation): Operation {
    this.#operations.set(operation.id, operation);
    for (const id of this.#operations.keys()) {
      if (this.#operations.size <= operationsMax) break;
      this.#operations.delete(id);
    }
    return operation.report();
  }
}
