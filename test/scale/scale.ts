/** `npm run scale -- --seed N`: the tables of docs/scale.md. */
import { report } from './report.js';

const args = process.argv.slice(2);
const seed = args.length === 0 ? 1 : Number(args[1]);
if (args.length > 0 && (args.length !== 2 || args[0] !== '--seed' || !Number.isSafeInteger(seed) || seed < 0)) {
  console.error('write npm run scale -- [--seed N], with a whole number N');
  process.exit(2);
}
for (const line of report(seed)) console.log(line);
