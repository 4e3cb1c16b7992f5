// What the browser tests share: where the hub is, a browser, and a watch over what the page must never
// do. The tests run against a real hub with data; without its address they skip and say so.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AxeBuilder } from '@axe-core/playwright';
import { chromium } from 'playwright-core';
import assert from 'node:assert/strict';

const url = process.env.HSI_PAGE_URL ?? '';
const keyFile = process.env.HSI_PAGE_KEY_FILE ?? '';
const browserPath = process.env.HSI_CHROMIUM ?? '/usr/bin/chromium';

/** Why these tests cannot run here; false when they can. */
export const skip =
  url === '' || keyFile === ''
    ? 'HSI_PAGE_URL and HSI_PAGE_KEY_FILE are not set: start a hub with miners (make run) and name its page and the file with its key'
    : false;

export const base = url.replace(/\/$/, '');
export const key = () => readFileSync(keyFile, 'utf8').trim();

export function launch() {
  return chromium.launch({
    executablePath: browserPath,
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
    ],
  });
}

/** How long anything is waited for, ms: it only bounds a failure, on a machine that is busy too. */
const patience = 60_000;

/** A page, and what it did that it must not: requests to another host, errors, dialogs. */
export async function open(browser, options = {}) {
  // Without motion: a colour half way between two is neither.
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, locale: 'en-US', reducedMotion: 'reduce', ...options });
  context.setDefaultTimeout(patience);
  const page = await context.newPage();
  const wrong = [];
  const host = new URL(base).host;
  context.on('request', (r) => {
    const to = new URL(r.url());
    if (to.host !== host && to.protocol !== 'data:' && to.protocol !== 'blob:') wrong.push(`request to ${to.origin}`);
  });
  page.on('pageerror', (e) => wrong.push(`error: ${e.message}`));
  page.on('dialog', (d) => {
    wrong.push(`dialog: ${d.message()}`);
    void d.dismiss();
  });
  page.on('console', (m) => {
    if (m.type() === 'error' && /content security policy/i.test(m.text())) wrong.push(m.text());
  });
  return { context, page, wrong };
}

export async function signIn(page) {
  await page.goto(`${base}/`);
  await page.getByLabel('API key').fill(key());
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('navigation', { name: 'Main' }).waitFor();
}

/** One sign-in for a whole file of tests: the hub rightly limits how often one may try. */
export async function signedIn(browser) {
  const { context, page } = await open(browser);
  await signIn(page);
  const state = await context.storageState();
  await context.close();
  return state;
}

export async function openFleet(page, query = '') {
  await page.goto(`${base}/fleet${query}`);
  await page.getByRole('grid').waitFor();
  await page.getByText('Live', { exact: true }).waitFor();
}

/** Fails on findings that axe calls serious or critical. */
export async function assertAccessible(page, what) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const grave = violations
    .filter((v) => v.impact === 'serious' || v.impact === 'critical')
    .map((v) => `${v.impact} ${v.id}: ${v.help}\n    ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200)).join('\n    ')}`);
  assert.equal(grave.length, 0, `${what}:\n  ${grave.join('\n  ')}`);
}

export const rowCount = async (page) => Number(await page.getByRole('grid').getAttribute('aria-rowcount')) - 1;

/** Repeats a look at the page until it holds, or says what was seen last; what could not be looked at does not hold yet. */
export async function eventually(look, what, timeoutMs = patience) {
  const end = Date.now() + timeoutMs;
  let last;
  for (;;) {
    try {
      last = await look();
    } catch (err) {
      last = String(err);
    }
    if (last === true) return;
    if (Date.now() > end) assert.fail(`${what}: ${JSON.stringify(last)} after ${timeoutMs / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const agentPath = process.env.HSI_AGENT ?? fileURLToPath(new URL('../../../bin/hashinsight-agent', import.meta.url));

/** Runs the agent's enrol command as somebody at a site would, with the token on standard input. */
export function enrol({ hub, token }) {
  const dir = mkdtempSync(join(tmpdir(), 'hsi-site-'));
  const child = spawn(agentPath, ['enrol', '--hub', hub, '--token-file', '-', '--dir', join(dir, 'identity')], { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  child.stdout.on('data', (b) => (said += b));
  child.stderr.on('data', (b) => (said += b));
  const ended = new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  child.stdin.end(`${token}\n`);
  return {
    said: () => said,
    /** Its exit code; what it made is removed. */
    ended: ended.finally(() => rmSync(dir, { recursive: true, force: true })),
    stop: () => child.kill(),
  };
}

/** Asks the hub's API with the owner's key. */
export async function ask(method, path, body) {
  const res = await fetch(`${base}${path}`, {
    method,
    headers: { Authorization: `Bearer ${key()}`, ...(body ? { 'Content-Type': 'application/json' } : {}) },
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
  const text = await res.text();
  assert.ok(res.ok, `${method} ${path}: ${res.status} ${text}`);
  return text === '' ? null : JSON.parse(text);
}

/** A browser signed in with a new key that may do these things and no others. */
export async function signedInWith(browser, permissions) {
  const made = await ask('POST', '/api/apikeys', { name: `browser test ${permissions.join(' ')}`.slice(0, 100), permissions, expires_in_days: 1 });
  const { context, page } = await open(browser);
  await page.goto(`${base}/`);
  await page.getByLabel('API key').fill(made.key);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('navigation', { name: 'Main' }).waitFor();
  const state = await context.storageState();
  await context.close();
  return state;
}

/** Fails when the page is wider than its window. */
export const assertNotWide = (page, what) =>
  eventually(async () => {
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    return wide <= 0 || `${wide} px too wide`;
  }, `${what}: the page fits its window`);

/** Fails when the page is wider than its window, or its frame higher: only the content scrolls. */
export async function assertFits(page, what) {
  await assertNotWide(page, what);
  await eventually(async () => {
    const high = await page.evaluate(() => document.documentElement.scrollHeight - window.innerHeight);
    return high <= 0 || `${high} px too high`;
  }, `${what}: the frame itself does not scroll`);
}

/** Fails unless the clipboard comes to hold a text, which is no part of the message: it may be a secret. */
export const assertCopied = (page, text) =>
  eventually(async () => (await page.evaluate(() => navigator.clipboard.readText())) === text || 'something else', 'what was copied is in the clipboard');

/** The ways in which every area is looked at. */
export const looks = [
  ['light', { colorScheme: 'light' }],
  ['dark', { colorScheme: 'dark' }],
  ['on a phone', { viewport: { width: 390, height: 844 } }],
  ['in Chinese', { locale: 'zh-CN' }],
];
