import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertAccessible, assertFits, base, eventually, launch, open, signedIn, skip } from './page.mjs';

test('sites and documentation', { skip }, async (t) => {
  let browser;
  let storageState;
  before(async () => {
    browser = await launch();
    storageState = await signedIn(browser);
  });
  after(() => browser?.close());

  await t.test('each site shows its link, and leads to its miners', async () => {
    const { page, context, wrong } = await open(browser, { storageState });
    await page.goto(`${base}/`);
    // A link may come or go between a look at the hub and one at the page.
    let sites;
    await eventually(async () => {
      sites = (await (await context.request.get(`${base}/api/sites`)).json()).items;
      const shown = await page.getByRole('article').evaluateAll((all) => all.map((a) => ({ name: a.querySelector('h2').textContent, badge: a.querySelector('.site-head .badge').textContent })));
      const says = (site) => (site.revoked_at ? /Cut off/ : site.connected ? /Connected/ : /Link cut|Never connected/);
      const right = sites.every((site) => shown.some((s) => s.name === site.name && says(site).test(s.badge)));
      return (sites.length > 0 && shown.length === sites.length && right) || { sites: sites.map((s) => [s.name, s.connected, s.revoked_at]), shown };
    }, 'a card for each site, with its link');
    await page.getByRole('link', { name: sites[0].name, exact: true }).click();
    await page.getByRole('grid').waitFor();
    await page.waitForURL((u) => u.searchParams.get('site') === sites[0].id);
    assert.deepEqual(wrong, []);
    await context.close();
  });

  await t.test('a site shows its last day, or that there are no sums yet', async () => {
    const { page, context, wrong } = await open(browser, { storageState });
    await page.goto(`${base}/`);
    const card = page.getByRole('article').first();
    await card.waitFor();
    const show = card.getByRole('button', { name: 'Show 24 hours' });
    if ((await show.count()) > 0) await show.click();
    await card.locator('.site-history canvas').or(card.getByText('No sums of this site yet')).first().waitFor();
    await card.getByRole('button', { name: 'Hide 24 hours' }).click();
    await card.locator('.site-history canvas').first().waitFor({ state: 'detached' });
    assert.deepEqual(wrong, []);
    await context.close();
  });

  for (const [name, options] of [
    ['light', { colorScheme: 'light' }],
    ['dark', { colorScheme: 'dark' }],
    ['on a phone', { viewport: { width: 390, height: 844 } }],
    ['in Chinese', { locale: 'zh-CN' }],
  ]) {
    await t.test(`axe finds nothing serious (${name})`, async () => {
      const { page, context } = await open(browser, { storageState, ...options });
      await page.goto(`${base}/`);
      await page.getByRole('article').first().waitFor();
      if (name === 'in Chinese') assert.equal(await page.locator('html').getAttribute('lang'), 'zh-CN');
      await assertFits(page, name);
      await assertAccessible(page, `sites, ${name}`);
      await context.close();
    });
  }

  await t.test('the API reference is drawn from this hub alone', async () => {
    const { page, context, wrong } = await open(browser);
    await page.goto(`${base}/docs`);
    await page.getByText('/api/miners', { exact: false }).first().waitFor();
    assert.deepEqual(wrong, []);
    await context.close();
  });
});
