/** Columns under heads, two blanks between them, no lines; a coloured word takes no more room than a plain one. */
import Table from 'cli-table3';

const outer = ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right'];
const inner = ['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid'];
const plain = { ...Object.fromEntries([...outer, ...inner].map((part) => [part, ''])), middle: '' };

export function tableOf(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const table = new Table({ head: [...heads], style: { head: [], border: [], compact: true }, chars: plain });
  for (const row of rows) table.push([...row]);
  // Each cell has a blank on either side; what begins or ends a line needs none.
  return table
    .toString()
    .split('\n')
    .map((line) => line.replace(/^ /, '').trimEnd())
    .join('\n');
}
