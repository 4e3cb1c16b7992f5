import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertAccessible, base, key, launch, open, signIn, skip } from './page.mjs';

test('signing in', { skip }, async (t) => {
  let browser;
  before(async () => {
    browser = await launch();
  });
  after(() => browser?.close());

  await t.test('a wrong key is refused, with what to do about it', async () => {
    const { page, context, wrong } = await open(browser);
    await page.goto(`${base}/fleet`);
    await page.getByLabel('API key').fill('hsi_dev_key_this-is-not-a-key');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('alert').filter({ hasText: 'does not accept this key' }).waitFor();
    assert.equal(await page.getByRole('grid').count(), 0);
    await assertAccessible(page, 'sign-in page with an error');
    assert.deepEqual(wrong, []);
    await context.close();
  });

  await t.test('an empty key asks nothing of the hub', async () => {
    const { page, context } = await open(browser);
    await page.goto(`${base}/`);
    let asked = false;
    page.on('request', (r) => (asked ||= r.method() === 'POST'));
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('Paste a key first.').waitFor();
    assert.equal(asked, false);
    await context.close();
  });

  await t.test('the right key opens the page asked for; the key stays nowhere in the browser', async () => {
    const { page, context, wrong } = await open(browser);
    await page.goto(`${base}/fleet`);
    await page.getByLabel('API key').fill(key());
    await page.keyboard.press('Enter');
    await page.getByRole('grid').waitFor();
    assert.equal(new URL(page.url()).pathname, '/fleet');
    const cookies = await context.cookies();
    const session = cookies.find((c) => c.name === 'hsi_session');
    assert.ok(session, 'no session cookie');
    assert.equal(session.httpOnly, true);
    assert.equal(session.sameSite, 'Strict');
    const kept = await page.evaluate(() => JSON.stringify([{ ...window.localStorage }, { ...window.sessionStorage }, document.cookie]));
    assert.ok(!kept.includes(key()), 'the key was kept in the browser');
    assert.deepEqual(wrong, []);
    await context.close();
  });

  await t.test('signing out ends it', async () => {
    const { page, context } = await open(browser);
    await signIn(page);
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('API key').waitFor();
    await page.goto(`${base}/fleet`);
    await page.getByLabel('API key').waitFor();
    await context.close();
  });
});
