/** Numbers as people read them. */

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** "1.5 GiB" @param {number} bytes */
export function bytes(bytes) {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit] ?? ''}`;
}

/** "1.5 MiB/s" @param {number} value bytes per second */
export function rate(value) {
  return `${bytes(value)}/s`;
}

/** "64/s" @param {number} value */
export function frequency(value) {
  return `${Math.round(value).toLocaleString('en')}/s`;
}

/** "1 h 26 min" @param {number} seconds */
export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.round(hours / 24)} days`;
}

/** "26 Nov 2026, 08:15:02" of this browser's place. @param {string} iso */
export function moment(iso) {
  return new Date(iso).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
}

/** @param {number} count @param {string} one */
export function counted(count, one) {
  return `${count} ${one}${count === 1 ? '' : 's'}`;
}
