/** `npm run screenshots`: the pictures of the README, light and dark, of a gateway that is made up. */
import { join, resolve } from 'node:path';
import { openBrowser } from './browser.js';
import { servePage } from './page-server.js';

const docs = resolve(import.meta.dirname, '../../../docs');
const { app, url } = await servePage();
const browser = await openBrowser();
try {
  for (const colorScheme of ['light', 'dark'] as const) {
    const context = await browser.newContext({
      colorScheme,
      viewport: { width: 960, height: 940 },
      locale: 'en-GB',
      timezoneId: 'UTC',
    });
    const page = await context.newPage();
    await page.goto(url);
    await page
      .getByRole('img', { name: /Written.*highest \d/ })
      .first()
      .waitFor();
    await page.screenshot({ path: join(docs, `status-page-${colorScheme}.png`) });
    await context.close();
  }
} finally {
  await browser.close();
  await app.close();
}
