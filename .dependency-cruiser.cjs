/**
 * The layers of src/README.md, as a check. A rule's comment says why the arrow may not be drawn.
 */
const layer = (name) => `^src/${name}/`;
const only = (from, allowed) => ({
  name: `${from}-sees-only`,
  severity: 'error',
  comment: `${from} may import ${allowed.join(', ') || 'nothing'} of this project`,
  from: { path: layer(from) },
  to: { path: '^src/', pathNot: [from, ...allowed].map(layer) },
});
const nodeOnlyIn = (modules, allowed) => ({
  name: `${modules}-through-ports`,
  severity: 'error',
  comment: 'the outside world is reached through ports; platform alone implements them',
  from: { path: '^src/', pathNot: allowed.map(layer) },
  to: { path: modules },
});
module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-orphans', severity: 'error', from: { orphan: true, path: '^src/' }, to: {} },
    only('base', []),
    only('ports', ['base']),
    only('engine', ['ports', 'base']),
    only('bandwidth', ['ports', 'base']),
    only('remote', ['engine', 'ports', 'base', 'bandwidth']),
    only('scsi', ['ports', 'base']),
    only('frontends', ['scsi', 'ports', 'base']),
    only('nbd-client', ['frontends', 'ports', 'base']),
    only('platform', ['ports', 'base']),
    only('metrics', ['ports', 'base']),
    only('config', ['ports', 'base']),
    only('page', []),
    only('api', ['config', 'metrics', 'ports', 'base']),
    nodeOnlyIn('^(node:)?(fs|fs/promises|net|tls|dgram|http|https)$', ['platform']),
    nodeOnlyIn('^node_modules/@aws-sdk|^node_modules/@smithy|^native|^build', ['platform']),
    nodeOnlyIn('^node_modules/fastify|^node_modules/@fastify', ['api']),
    nodeOnlyIn('^node_modules/prom-client', ['metrics']),
    nodeOnlyIn('^node_modules/convict', ['config']),
    nodeOnlyIn('^node_modules/(commander|cli-progress|cli-table3)', ['cli']),
    nodeOnlyIn('^(node:)?worker_threads$', ['platform', 'gateway']),
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(dist|build|test/.cache)/' },
  },
};
