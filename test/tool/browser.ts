/** Debian's Chromium without a window, driven over its own protocol; playwright-core brings no browser with it. */
import { chromium } from 'playwright-core';
import type { Browser, Page } from 'playwright-core';
import { isUnpacked, packagedFile, requiredTool } from './clients.js';

export async function openBrowser(): Promise<Browser> {
  const { env, path } = requiredTool('chromium');
  // Debian's own start script knows only where the package is when it is installed.
  const executablePath = packagedFile('/usr/lib/chromium/chromium') ?? path;
  const fonts = packagedFile('/etc/fonts/fonts.conf');
  return chromium.launch({
    executablePath,
    // Tests run as root in containers, where its sandbox cannot be made; it sees pages of this project only.
    chromiumSandbox: false,
    timeout: 120_000,
    args: ['--disable-gpu', '--disable-dev-shm-usage'],
    env: {
      ...process.env,
      ...env,
      ...(fonts !== undefined && isUnpacked({ path: fonts, env: {} }) ? { FONTCONFIG_FILE: fonts } : {}),
    },
  });
}

/** What a page asked for and complained of, from now on. */
export function watch(page: Page): { readonly requests: string[]; readonly complaints: string[] } {
  const requests: string[] = [];
  const complaints: string[] = [];
  page.on('request', (request) => requests.push(request.url()));
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  return { requests, complaints };
}
