/**
 * What `perf script -F comm,tid,ip,sym,dso` prints, folded: one tree of the frames of all samples, callers first. Frames are
 * named for a reader, and each has a kind, by whose program it is.
 */
import { basename } from 'node:path';

export type Kind = 'kernel' | 'addon' | 'Node/V8' | 'JavaScript' | 'thread';

export interface Frame {
  readonly name: string;
  readonly kind: Kind;
  /** Samples here and in what it called. */
  readonly samples: number;
  readonly called: readonly Frame[];
}

interface Growing extends Frame {
  samples: number;
  readonly called: Growing[];
}

type Named = Pick<Frame, 'name' | 'kind'>;

export interface Folded {
  readonly root: Frame;
  /** Of the samples, by the kind of the frame that was running; the sum is those of `root`. */
  readonly samplesOf: ReadonlyMap<Kind, number>;
}

/** `mainThread`: the thread of that id is called the event loop, the others by their names. */
export async function foldStacks(lines: AsyncIterable<string> | Iterable<string>, mainThread: number): Promise<Folded> {
  const root: Growing = { name: 'all', kind: 'thread', samples: 0, called: [] };
  const samplesOf = new Map<Kind, number>();
  let thread: Named | undefined;
  let leafFirst: string[] = [];
  const finish = (): void => {
    if (thread !== undefined) {
      const stack = [thread, ...named(leafFirst.reverse())];
      add(root, stack);
      const kind = stack.at(-1)?.kind ?? 'thread';
      samplesOf.set(kind, (samplesOf.get(kind) ?? 0) + 1);
    }
    thread = undefined;
    leafFirst = [];
  };
  for await (const line of lines) {
    if (line.trim() === '') finish();
    else if (thread === undefined) thread = threadOf(line, mainThread);
    else leafFirst.push(line);
  }
  finish();
  return { root, samplesOf };
}

/** `node   4711`; a name may have spaces. */
function threadOf(line: string, mainThread: number): Named {
  const [, name = line.trim(), id = ''] = /^\s*(.*?)\s+(\d+)\s*$/.exec(line) ?? [];
  return { name: Number(id) === mainThread ? 'event loop' : `thread ${name}`, kind: 'thread' };
}

function add(root: Growing, stack: readonly Named[]): void {
  let at = root;
  at.samples++;
  for (const { name, kind } of stack) {
    let next = at.called.find((each) => each.name === name && each.kind === kind);
    if (next === undefined) at.called.push((next = { name, kind, samples: 0, called: [] }));
    next.samples++;
    at = next;
  }
}

/** Frames, callers first; what has no symbol is one frame with its neighbours of the same program. */
function named(lines: readonly string[]): Named[] {
  const stack: Named[] = [];
  for (const line of lines) {
    const frame = frameOf(line, stack.at(-1)?.kind);
    const last = stack.at(-1);
    if (frame.name.startsWith('[') && last?.name === frame.name && last.kind === frame.kind) continue;
    stack.push(frame);
  }
  return stack;
}

/** `ffffffff81 tcp_sendmsg (/path/of/program)`: address, symbol, object. */
function frameOf(line: string, callerKind: Kind | undefined): Named {
  const [, address = '', symbol = line.trim(), object = ''] =
    /^\s*([0-9a-f]+) (.*) \((.*?(?: \(deleted\))?)\)$/.exec(line) ?? [];
  const known = symbol !== '[unknown]' && symbol !== '';
  const file = basename(object);
  if (isKernel(address, object)) return { name: known ? symbol : '[kernel]', kind: 'kernel' };
  if (/^perf-\d+\.map$/.test(file)) return known ? compiled(symbol) : { name: '[code]', kind: 'Node/V8' };
  const name = known ? shortSymbol(symbol) : object === '[unknown]' ? '[unknown]' : `[${file}]`;
  if (file.endsWith('.node')) return { name, kind: 'addon' };
  // The C library and its like work for whoever called them.
  return { name, kind: /\.so(\.|$)/.test(file) && callerKind === 'addon' ? 'addon' : 'Node/V8' };
}

/** The upper half of addresses is the kernel's, on every processor that Node runs on. */
function isKernel(address: string, object: string): boolean {
  return (address.length === 16 && address >= '8') || /^\[(?!vdso|unknown|heap|stack)/.test(object);
}

/** What V8 says of its own code: `JS:*name file:line:column`, `*`, `^` and `~` being how well it is compiled; else a part of V8. */
function compiled(symbol: string): Named {
  const js = /^(?:JS|LazyCompile|Function|Script|Eval):[*^~+]*(.*)$/.exec(symbol)?.[1];
  if (js === undefined) return { name: symbol, kind: 'Node/V8' };
  const [, name = '', file = js, line = ''] = /^(.*?) ?(\S+?):(\d+):\d+$/.exec(js) ?? [];
  const shown = `${name === '' ? '(anonymous)' : name} ${basename(file)}${line === '' ? '' : `:${line}`}`;
  return { name: shown, kind: file.startsWith('node:') ? 'Node/V8' : 'JavaScript' };
}

/** Without arguments and template arguments, which say little and take much room. */
function shortSymbol(symbol: string): string {
  let depth = 0;
  let short = '';
  for (const letter of symbol.replace(/ \[clone [^\]]*\]/g, '').replaceAll('(anonymous namespace)::', '')) {
    if (letter === '<' || letter === '(') depth++;
    if (depth === 0) short += letter;
    if (letter === '>' || letter === ')') depth--;
  }
  short = short.replace(/ const$/, '').trim();
  return short === '' || depth !== 0 ? symbol : short;
}
