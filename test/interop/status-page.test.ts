/** The status page in a real browser: what it shows, live; that it asks nobody else; that everybody can use it. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, it } from 'node:test';
import type { Browser, BrowserContext, Locator, Page } from 'playwright-core';
import type { FastifyInstance } from 'fastify';
import { CMD, NbdClient } from '../fake/nbd-client.js';
import { openBrowser, watch } from '../tool/browser.js';
import { TestGateway } from '../tool/gateway.js';
import { servePage } from '../tool/page-server.js';
import { suite } from '../tool/suite.js';

const buffer = { size: '64MiB' };

suite('the status page in Chromium', ['chromium'], () => {
  let gateway: TestGateway;
  let madeUp: { readonly app: FastifyInstance; readonly url: string };
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let seen: ReturnType<typeof watch>;

  /** The newest first; what was started before something failed is ended too. */
  const endings: (() => Promise<unknown>)[] = [];

  before(async () => {
    madeUp = await servePage();
    endings.unshift(() => madeUp.app.close());
    gateway = await TestGateway.start({
      volumes: [
        { name: 'disk0', size: '16MiB', buffer },
        { name: 'local', size: '16MiB', buffer, replicate: { enabled: false } },
      ],
    });
    endings.unshift(() => gateway.dispose());
    browser = await openBrowser();
    endings.unshift(() => browser.close());
  });
  after(async () => {
    for (const end of endings) await end();
  });
  beforeEach(async () => {
    context = await browser.newContext({ viewport: { width: 1000, height: 800 } });
    context.setDefaultTimeout(60_000);
    page = await context.newPage();
    seen = watch(page);
  });
  afterEach(() => context.close());

  const volume = (name: string): Locator => page.getByRole('article', { name, exact: true });
  const connection = (hasText: string | RegExp): Locator => page.locator('#connection').filter({ hasText });
  const token = async (): Promise<string> => (await readFile(join(gateway.dataDir, 'api-token'), 'utf8')).trim();
  const giveToken = async (text: string): Promise<void> => {
    await page.getByText('Token', { exact: true }).click();
    await page.getByLabel('API token').fill(text);
    await page.getByRole('button', { name: 'Use it' }).click();
  };

  it('shows the volumes, and a client as it comes and goes', async () => {
    await page.goto(gateway.apiUrl);
    await volume('disk0').getByText('online', { exact: true }).waitFor();
    await volume('local').getByText('none: it does not replicate').waitFor();
    assert.equal(await page.getByRole('article').count(), 2);
    await volume('disk0').getByText('nobody').waitFor();
    const client = await NbdClient.attach({ host: '127.0.0.1', port: gateway.nbdPort }, 'disk0');
    await volume('disk0').getByText('nbd 127.0.0.1 (1 connection)').waitFor();
    await volume('local').getByText('nobody').waitFor();
    const payload = randomBytes(64 * 1024);
    assert.equal((await client.request({ type: CMD.WRITE, offset: 0, payload })).error, 0);
    // The next sample of the rates has it.
    await volume('disk0')
      .getByRole('img', { name: /Written over the last hour: now .*highest [^0]/ })
      .waitFor();
    await client.disconnect();
    await volume('disk0').getByText('nobody').waitFor();
    assert.deepEqual(seen.complaints, []);
  });

  it('only reads without the token, and shows how far a drain is with it', async () => {
    await page.goto(gateway.apiUrl);
    await volume('disk0').waitFor();
    assert.equal(await page.getByRole('button', { name: 'Drain disk0' }).count(), 0);
    assert.equal(await page.getByText('None since the gateway started.').isVisible(), true);
    await giveToken('wrong');
    await page.getByRole('button', { name: 'Drain disk0' }).click();
    await page.getByText('this request needs the API token').waitFor();
    await page.getByLabel('API token').fill(await token());
    await page.getByRole('button', { name: 'Use it' }).click();
    await page.getByRole('button', { name: 'Drain disk0' }).click();
    await page.getByRole('listitem').filter({ hasText: 'drain of disk0: done' }).waitFor();
    // It answered 401 once, as it should, and the browser says so.
    assert.deepEqual(
      seen.complaints.filter((text) => !text.includes('401')),
      [],
    );
  });

  it('says when it is not live, and goes on once the gateway is back', async () => {
    const own = await TestGateway.start({ volumes: [{ name: 'disk0', size: '16MiB', buffer }] });
    try {
      await page.goto(own.apiUrl);
      await connection(/^Live$/).waitFor();
      // It ends in order, whoever is looking.
      await own.stop();
      await connection(/^Not live: .* Trying again…$/).waitFor();
      await own.startAgain();
      await connection(/^Live$/).waitFor();
      await volume('disk0').getByText('online', { exact: true }).waitFor();
      process.kill(own.pid, 'SIGSTOP');
      await connection('Not live: the gateway does not answer. Trying again…').waitFor();
      process.kill(own.pid, 'SIGCONT');
      await connection(/^Live$/).waitFor();
    } finally {
      await own.dispose();
    }
  });

  it('asks nobody but its gateway, and has nothing to complain of, nor has the document', async () => {
    await page.goto(madeUp.url);
    await page
      .getByRole('img', { name: /Written.*highest \d/ })
      .first()
      .waitFor();
    assert.deepEqual(
      seen.requests.filter((url) => !url.startsWith(`${madeUp.url}/`)),
      [],
    );
    assert.ok(seen.requests.some((url) => url.endsWith('/v1/events')));
    await page.goto(`${madeUp.url}/docs/`);
    await page.getByText('Replicate all that is acknowledged now').waitFor();
    const elsewhere = seen.requests.filter((url) => !url.startsWith(`${madeUp.url}/`) && !url.startsWith('data:'));
    assert.deepEqual(elsewhere, []);
    assert.deepEqual(seen.complaints, []);
  });

  it('lets nothing run that is not its own', async () => {
    await page.goto(madeUp.url);
    const ran = await page.evaluate(`new Promise((resolve) => {
      document.addEventListener('securitypolicyviolation', ({ effectiveDirective }) => resolve(effectiveDirective));
      const script = document.createElement('script');
      script.textContent = 'document.title = "run"';
      document.body.append(script);
    })`);
    assert.equal(ran, 'script-src-elem');
    assert.equal(await page.title(), 'Keepgate');
  });

  it('can be used by keyboard alone', async () => {
    await page.goto(gateway.apiUrl);
    await volume('local').waitFor();
    const reached: string[] = [];
    const next = async (): Promise<string> => {
      await page.keyboard.press('Tab');
      const { name, marked } = await page.evaluate<{ name: string; marked: boolean }>(`(() => {
        const { activeElement: at } = document;
        const name = at.getAttribute('aria-label') ?? at.id ?? '';
        return { name: name || at.textContent.trim(), marked: getComputedStyle(at).outlineStyle !== 'none' };
      })()`);
      assert.ok(marked, `${name} shows that it has the focus`);
      return name;
    };
    for (let at = 0; at < 4; at++) reached.push(await next());
    assert.deepEqual(reached, ['Skip to the volumes', 'API', 'Metrics', 'Token']);
    await page.keyboard.press('Enter');
    assert.deepEqual([await next(), await next()], ['token', 'Use it']);
    await page.keyboard.press('Shift+Tab');
    await page.keyboard.type(await token());
    await page.keyboard.press('Enter');
    await page.getByText('Used from now on.').waitFor();
    await page.keyboard.press('Shift+Tab');
    const back: string[] = [];
    for (let at = 0; at < 4; at++) {
      await page.keyboard.press('Shift+Tab');
      back.push(await page.evaluate<string>('document.activeElement.getAttribute("aria-label")'));
    }
    assert.deepEqual(back, ['Scrub local', 'Drain local', 'Scrub disk0', 'Drain disk0']);
    await page.keyboard.press('Enter');
    await page.getByRole('listitem').filter({ hasText: 'drain of disk0' }).first().waitFor();
  });

  it('has a name for everything, and a structure, in the tree that screen readers read', async () => {
    await page.goto(madeUp.url);
    await page
      .getByRole('img', { name: /Written.*highest \d/ })
      .first()
      .waitFor();
    const tree = await page.locator('body').ariaSnapshot();
    for (const part of [
      /- heading "Keepgate 0\.1\.0" \[level=1\]/,
      /- navigation "More":/,
      /- heading "Volumes" \[level=2\]/,
      /- article "archive":/,
      /- heading "web" \[level=3\]/,
      /- meter "Buffer of web"/,
      /- progressbar "Restore of archive"/,
      /- progressbar "drain of mail"/,
      /- 'img "Lag of the bucket over the last hour: now .*, highest .*"/,
      /- term: Recovery point/,
    ]) {
      assert.match(tree, part);
    }
    const nameless = tree
      .split('\n')
      .filter((line) => /- '?(article|button|link|img|meter|progressbar|textbox)( \[.*\])?:?$/.test(line));
    assert.deepEqual(nameless, []);
    // What changes is said in a place that is read out, and only what matters.
    assert.equal(await page.getByRole('status').first().textContent(), 'Live');
  });

  for (const colorScheme of ['light', 'dark'] as const) {
    it(`can be read: ${colorScheme}`, async () => {
      await page.emulateMedia({ colorScheme });
      await page.goto(madeUp.url);
      await page
        .getByRole('img', { name: /Written.*highest \d/ })
        .first()
        .waitFor();
      await page.getByText('Token', { exact: true }).click();
      const { ground, pale } = await page.evaluate<{ ground: number; pale: string[] }>(contrastScript);
      assert.equal(ground > 0.5, colorScheme === 'light');
      assert.deepEqual(pale, []);
    });
  }

  it('fits a small screen', async () => {
    await page.setViewportSize({ width: 360, height: 640 });
    await page.goto(madeUp.url);
    await page
      .getByRole('img', { name: /Written.*highest \d/ })
      .first()
      .waitFor();
    assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 360);
  });
});

/** Text with less than 4.5:1 on what is behind it (WCAG 2.2, 1.4.3), and the luminance of the ground. */
const contrastScript = `(() => {
  const colour = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = (text) => {
    const [r, g, b] = colour(text).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at !== null; at = at.parentElement) {
      const [, , , alpha = 1] = colour(getComputedStyle(at).backgroundColor);
      if (alpha > 0) return getComputedStyle(at).backgroundColor;
    }
    return 'rgb(255, 255, 255)';
  };
  const pale = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim() !== '');
    if (!own || element.closest('noscript') !== null || element.getClientRects().length === 0) continue;
    const [light, dark] = [luminance(getComputedStyle(element).color), luminance(behind(element))].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) pale.push(element.textContent.trim() + ' ' + ratio.toFixed(2));
  }
  return { ground: luminance(getComputedStyle(document.body).backgroundColor), pale };
})()`;
