/**
 * A flame graph as one SVG file that stands still: no script, nothing from elsewhere. A frame is as wide as its share of the
 * samples and stands on its caller; neighbours are sorted by name, so that two pictures can be compared.
 */
import type { Folded, Frame, Kind } from './folded-stacks.js';

export interface Caption {
  readonly title: string;
  readonly lines: readonly string[];
}

const bytesMax = 150_000;
const shareMin = 0.003;
const width = 1200;
const margin = 10;
const frameHeight = 16;
const charWidth = 6.1;
const shownKinds = ['kernel', 'addon', 'Node/V8', 'JavaScript'] as const;
const styles: Readonly<Record<Kind | 'several', { readonly id: string; readonly colour: string }>> = {
  kernel: { id: 'k', colour: '#f2a65a' },
  addon: { id: 'a', colour: '#7fc8a9' },
  'Node/V8': { id: 'n', colour: '#8fb8de' },
  JavaScript: { id: 'j', colour: '#f4de6c' },
  thread: { id: 't', colour: '#d9d9d9' },
  several: { id: 's', colour: '#ececec' },
};

interface Box {
  readonly name: string;
  readonly style: string;
  readonly level: number;
  readonly from: number;
  readonly samples: number;
}

/** Frames below 0.3 % are one with their small neighbours, or left out; more of them where the file would become too large. */
export function flameSvg(folded: Folded, caption: Caption): string {
  for (let least = shareMin; ; least *= 1.25) {
    const svg = draw(boxes(folded.root, folded.root.samples * least), folded, caption);
    if (Buffer.byteLength(svg) <= bytesMax || least > 0.5) return svg;
  }
}

/** Shares in percent of the kinds that run on a processor. */
export function shares(folded: Folded): string {
  const of = (kind: Kind): string =>
    (((folded.samplesOf.get(kind) ?? 0) * 100) / Math.max(1, folded.root.samples)).toFixed(0);
  return shownKinds.map((kind) => `${kind} ${of(kind)} %`).join(', ');
}

function boxes(root: Frame, least: number): Box[] {
  const all: Box[] = [];
  const place = (frame: Frame, level: number, from: number): void => {
    all.push({ name: frame.name, style: styles[frame.kind].id, level, from, samples: frame.samples });
    const small = frame.called.filter(({ samples }) => samples < least);
    let at = from;
    for (const called of frame.called.filter(({ samples }) => samples >= least).sort(byName)) {
      place(called, level + 1, at);
      at += called.samples;
    }
    const together = small.reduce((sum, { samples }) => sum + samples, 0);
    if (together < least || together === 0) return;
    const name = `${small.length} small ones`;
    all.push({ name, style: styles.several.id, level: level + 1, from: at, samples: together });
  };
  if (root.samples > 0) place(root, 0, 0);
  return all;
}

function byName(left: Frame, right: Frame): number {
  return left.name < right.name ? -1 : left.name > right.name ? 1 : 0;
}

function draw(all: readonly Box[], folded: Folded, caption: Caption): string {
  const total = Math.max(1, folded.root.samples);
  const top = 44 + caption.lines.length * 18;
  const levels = all.reduce((most, { level }) => Math.max(most, level), 0) + 1;
  const height = top + levels * frameHeight + margin;
  const scale = (width - 2 * margin) / total;
  const drawn = all.map(({ name, style, level, from, samples }) => {
    const [x, end] = [number(margin + from * scale), number(margin + (from + samples) * scale)];
    const y = height - margin - (level + 1) * frameHeight;
    const fits = Math.floor((end - x - 4) / charWidth);
    const shown = name.length <= fits ? name : fits < 4 ? '' : `${name.slice(0, fits - 1)}…`;
    const text = shown === '' ? '' : `<text x="${number(x + 2)}" y="${y + 12}">${escaped(shown)}</text>`;
    const share = ((samples * 100) / total).toFixed(1);
    const rect = `<rect class="${style}" x="${x}" y="${y}" width="${number(end - x)}" height="${frameHeight - 1}"/>`;
    return `<g><title>${escaped(name)}, ${share} %</title>${rect}${text}</g>`;
  });
  const rules = Object.values(styles).map(({ id, colour }) => `.${id}{fill:${colour}}`);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<title>${escaped(caption.title)}</title>`,
    `<style>text{font:10px monospace}.h{font:bold 15px sans-serif}.c{font:12px sans-serif}${rules.join('')}</style>`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<text class="h" x="${margin}" y="22">${escaped(caption.title)}</text>`,
    ...caption.lines.map((line, at) => `<text class="c" x="${margin}" y="${42 + at * 18}">${escaped(line)}</text>`),
    ...legend(folded),
    ...drawn,
    '</svg>\n',
  ].join('\n');
}

function legend(folded: Folded): string[] {
  const entries = shares(folded).split(', ');
  return shownKinds.map((kind, at) => {
    const x = width - margin - (shownKinds.length - at) * 130;
    const square = `<path class="${styles[kind].id}" d="M${x} 11h12v12h-12z"/>`;
    return `<g>${square}<text class="c" x="${x + 17}" y="21">${escaped(entries[at] ?? kind)}</text></g>`;
  });
}

function number(value: number): number {
  return Math.round(value * 10) / 10;
}

function escaped(text: string): string {
  // What XML 1.0 cannot say at all is not in a name either.
  // eslint-disable-next-line no-control-regex
  const sayable = text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|\p{Surrogate}/gu, '?');
  return sayable.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
