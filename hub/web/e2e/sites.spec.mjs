import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertAccessible, assertFits, base, launch, open, signedIn, skip } from './page.mjs';

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
    const { items } = await (await context.request.get(`${base}/api/sites`)).json();
    assert.ok(items.length > 0, 'the hub has no sites');
    await page.getByRole('article').nth(items.length - 1).waitFor();
    assert.equal(await page.getByRole('article').count(), items.length);
    for (const site of items) {
      const badge = page.getByRole('article').filter({ has: page.getByRole('heading', { name: site.name, exact: true }) }).locator('.site-head .badge');
      assert.match(await badge.innerText(), site.revoked_at ? /Cut off/ : site.connected ? /Connected/ : /Link cut|Never connected/);
    }
    await page.getByRole('link', { name: items[0].name, exact: true }).click();
    await page.getByRole('grid').waitFor();
    assert.equal(new URL(page.url()).searchParams.get('site'), items[0].id);
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
    assert.equal(await card.locator('.site-history canvas').count(), 0);
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
