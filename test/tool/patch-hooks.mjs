/** The loader of patch-register.mjs: replaces text in modules as they are loaded. */
let patches = [];

export function initialize(data) {
  patches = data;
}

export async function load(url, context, nextLoad) {
  const loaded = await nextLoad(url, context);
  const mine = patches.filter(({ file }) => url.endsWith(`/dist/${file}`));
  if (mine.length === 0) return loaded;
  let source = Buffer.from(loaded.source).toString('utf8');
  for (const { find, replace } of mine) {
    if (source.split(find).length !== 2) throw new Error(`a patch must fit exactly one place of ${url}: ${find}`);
    source = source.replace(find, () => replace);
  }
  return { ...loaded, source };
}
