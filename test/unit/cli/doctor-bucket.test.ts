/** What `keepgate doctor` says of a bucket's settings, as a store answers them. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { bucketFindings } from '../../../src/cli/doctor-bucket.js';
import { readBucketRules } from '../../../src/platform/s3-bucket-rules.js';

type Answers = Readonly<Record<'lifecycle' | 'versioning' | 'object-lock', readonly [status: number, body: string]>>;

const error = (code: string): string => `<Error><Code>${code}</Code><Message>no</Message></Error>`;
const plain: Answers = {
  lifecycle: [404, error('NoSuchLifecycleConfiguration')],
  versioning: [200, '<VersioningConfiguration></VersioningConfiguration>'],
  'object-lock': [404, error('ObjectLockConfigurationNotFoundError')],
};
const rule = (inside: string, status = 'Enabled'): string =>
  `<Rule><ID>r1</ID><Status>${status}</Status>${inside}</Rule>`;
const rules = (...inside: string[]): Answers['lifecycle'] => [
  200,
  `<LifecycleConfiguration>${inside.join('')}</LifecycleConfiguration>`,
];
const prefix = (of: string): string => `<Filter><Prefix>${of}</Prefix></Filter>`;
const expiry = '<Expiration><Days>30</Days></Expiration>';

describe('doctor on a bucket', () => {
  let answers: Answers = plain;
  let endpoint: string;
  const server = createServer((request, response) => {
    const query = [...new URL(request.url ?? '', 'http://localhost').searchParams.keys()];
    const [status, body] = answers[query.find((key) => key in answers) as keyof Answers];
    response.writeHead(status, { 'content-type': 'application/xml' }).end(`<?xml version="1.0"?>${body}`);
  });
  before(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  const findings = async (changed: Partial<Answers>): Promise<string[]> => {
    answers = { ...plain, ...changed };
    const credentials = { accessKeyId: 'id', secretAccessKey: 'secret' };
    const connection = { endpoint, region: 'us-east-1', forcePathStyle: true, credentials };
    const found = await readBucketRules({ url: 's3://bucket/some/prefix', ...connection }, AbortSignal.timeout(10_000));
    return [...bucketFindings(found)].map(({ verdict, what, text }) => `${verdict} ${what}: ${text}`);
  };

  it('finds nothing in a plain one', async () => {
    assert.deepEqual(await findings({}), [
      'ok life-cycle rules: none touches the objects under the prefix',
      'ok versioning: off: what is deleted is gone, and costs nothing more',
      'ok object lock: off: whoever has the credentials can delete',
    ]);
  });

  for (const [name, inside] of [
    ['of the whole bucket', expiry],
    ['of the prefix', `${prefix('some/')}${expiry}`],
    ['of a part of it', `${prefix('some/prefix/0000')}${expiry}`],
    ['by size', `<Filter><ObjectSizeGreaterThan>100</ObjectSizeGreaterThan></Filter>${expiry}`],
    ['in the old form', `<Prefix>some</Prefix>${expiry}`],
  ] as const) {
    it(`names a rule that would delete objects: ${name}`, async () => {
      const [first] = await findings({ lifecycle: rules(rule(inside)) });
      assert.match(first ?? '', /^wrong life-cycle rules: rule "r1" deletes objects after 30 days/);
    });
  }

  it('names a rule that would move objects out of reach, and one that makes them dearer', async () => {
    const to = (storageClass: string) =>
      `<Transition><Days>5</Days><StorageClass>${storageClass}</StorageClass></Transition>`;
    const [archive, move] = await findings({ lifecycle: rules(rule(to('DEEP_ARCHIVE')), rule(to('STANDARD_IA'))) });
    assert.match(archive ?? '', /^wrong .* to DEEP_ARCHIVE after 5 days, where they cannot be read at once/);
    assert.match(move ?? '', /^note .* to STANDARD_IA after 5 days/);
  });

  it('leaves alone rules for others, and those that only tidy up', async () => {
    const [first] = await findings({
      lifecycle: rules(
        rule(`${prefix('other/')}${expiry}`),
        rule(`${prefix('some/prefixes')}${expiry}`),
        rule(`<Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter>${expiry}`),
        rule(expiry, 'Disabled'),
        rule(
          '<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>',
        ),
      ),
    });
    assert.equal(first, 'ok life-cycle rules: none touches the objects under the prefix');
  });

  it('says what versioning and a lock cost', async () => {
    const on: Answers['versioning'] = [
      200,
      '<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>',
    ];
    const locked: Answers['object-lock'] = [
      200,
      '<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>90</Days></DefaultRetention></Rule></ObjectLockConfiguration>',
    ];
    const said = (await findings({ versioning: on, 'object-lock': locked })).join('\n');
    assert.match(said, /^note versioning: on: .* costs as much as before, for ever\. Add a rule with Noncurrent/m);
    assert.match(said, /^note object lock: COMPLIANCE, 90 days: nobody deletes an object before, and each costs/m);
    const expiring = '<NoncurrentVersionExpiration><NoncurrentDays>7</NoncurrentDays></NoncurrentVersionExpiration>';
    const fine = (await findings({ versioning: on, lifecycle: rules(rule(expiring)) })).join('\n');
    assert.match(fine, /^ok versioning: on, and old versions expire/m);
  });

  it('says what it may not see, and where to look', async () => {
    const denied = [403, error('AccessDenied')] as const;
    const said = await findings({
      lifecycle: denied,
      versioning: denied,
      'object-lock': [501, error('NotImplemented')],
    });
    assert.equal(said.length, 3);
    for (const line of said) assert.match(line, /^note .* cannot be read \(.*\): allow s3:Get\w+, or look yourself /);
  });
});
