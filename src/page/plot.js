/** A small plot of the last hour. What it shows is also its name, for those who do not see it. */

const namespace = 'http://www.w3.org/2000/svg';
const width = 359;
const height = 60;

export class Plot {
  /** @param {string} title @param {(value: number) => string} wording */
  constructor(title, wording) {
    this.title = title;
    this.wording = wording;
    this.element = document.createElement('figure');
    const caption = document.createElement('figcaption');
    this.now = document.createElement('strong');
    caption.append(title, this.now);
    const svg = document.createElementNS(namespace, 'svg');
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('role', 'img');
    this.svg = svg;
    this.area = document.createElementNS(namespace, 'path');
    this.area.setAttribute('class', 'area');
    this.line = document.createElementNS(namespace, 'path');
    svg.append(this.area, this.line);
    const range = document.createElement('div');
    range.className = 'range';
    range.setAttribute('aria-hidden', 'true');
    this.highest = document.createElement('span');
    range.append('an hour ago', this.highest, 'now');
    this.element.append(caption, svg, range);
  }

  /** @param {readonly (number | null)[]} column the last is now, one each ten seconds; null: a gap */
  show(column) {
    const values = column.filter((value) => value !== null);
    const top = Math.max(0, ...values);
    const last = column.at(-1) ?? null;
    this.now.textContent = last === null ? 'nothing yet' : this.wording(last);
    this.highest.textContent = values.length === 0 ? '' : `highest ${this.wording(top)}`;
    const scale = top === 0 ? 0 : (height - 4) / top;
    const runs = runsOf(column, (value) => (height - value * scale).toFixed(1));
    this.line.setAttribute('d', runs.map((points) => `M${points.join('L')}`).join(''));
    this.area.setAttribute('d', runs.map(areaOf).join(''));
    const name =
      last === null
        ? `${this.title} over the last hour: nothing yet`
        : `${this.title} over the last hour: now ${this.wording(last)}, highest ${this.wording(top)}`;
    this.svg.setAttribute('aria-label', name);
  }
}

/**
 * Points without a gap between them, as "x y".
 * @param {readonly (number | null)[]} column
 * @param {(value: number) => string} y
 */
function runsOf(column, y) {
  /** @type {string[][]} */
  const runs = [];
  let open = false;
  for (const [index, value] of column.entries()) {
    if (value === null) {
      open = false;
      continue;
    }
    const point = `${width - (column.length - 1 - index)} ${y(value)}`;
    if (open) runs.at(-1)?.push(point);
    else runs.push([point]);
    open = true;
  }
  return runs;
}

/** @param {readonly string[]} points */
function areaOf(points) {
  const x = (/** @type {string | undefined} */ point) => (point ?? '').split(' ')[0] ?? '';
  return `M${x(points[0])} ${height}L${points.join('L')}L${x(points.at(-1))} ${height}Z`;
}
