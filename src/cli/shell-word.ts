/** Words of a command line as a shell takes them apart: blanks, quotes and backslashes; nothing is expanded. */

/** The last one is what is being typed: empty after a blank, and whole where its quote is still open. */
export function shellWords(line: string): string[] {
  const words: string[] = [];
  let word = '';
  let begun = false;
  let quote = '';
  for (let at = 0; at < line.length; at += 1) {
    const char = line[at] ?? '';
    if (quote === "'") {
      if (char === "'") quote = '';
      else word += char;
    } else if (char === '\\') {
      const next = line[at + 1] ?? '';
      word += quote === '"' && !'"\\$`'.includes(next) ? `\\${next}` : next;
      begun = true;
      at += 1;
    } else if (char === '"') {
      quote = quote === '' ? '"' : '';
      begun = true;
    } else if (quote === '"') {
      word += char;
    } else if (char === "'") {
      quote = "'";
      begun = true;
    } else if (/\s/.test(char)) {
      if (begun) words.push(word);
      word = '';
      begun = false;
    } else {
      word += char;
      begun = true;
    }
  }
  return [...words, word];
}
