import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ask, assertAccessible, assertCopied, assertFits, base, launch, looks, open, signedIn, signedInWith, skip } from './page.mjs';

const markup = '<img src=x onerror=alert(1)>';
const run = Math.random().toString(36).slice(2, 8);

const words = {
  'en-US': { keys: 'Keys', make: 'Make a key', name: 'Name', makeDo: 'Make key', key: 'API key', copy: 'Copy: API key', done: 'Done', replace: 'Replace', revoke: 'Revoke', revokeDo: 'Revoke key', why: /^Reason/, days: 'Ends after days', ended: 'Show keys that have ended' },
  'zh-CN': { keys: '密钥', make: '新建密钥', name: '名称', makeDo: '生成密钥', key: 'API 密钥', copy: '复制：API 密钥', done: '完成', replace: '替换', revoke: '吊销', revokeDo: '吊销密钥', why: /^原因/, days: '有效天数', ended: '显示已失效的密钥' },
};

test('API keys', { skip }, async (t) => {
  let browser;
  let storageState;
  before(async () => {
    browser = await launch();
    storageState = await signedIn(browser);
  });
  after(() => browser?.close());

  const keysPage = async (options) => {
    const opened = await open(browser, { storageState, ...options });
    await opened.page.goto(`${base}/keys`);
    await opened.page.getByRole('table').waitFor();
    return opened;
  };

  for (const locale of Object.keys(words)) {
    const w = words[locale];
    await t.test(`a key is made, shown once, replaced and revoked (${locale})`, async () => {
      const { page, context, wrong } = await keysPage({ locale });
      const dialog = page.getByRole('dialog');
      const name = `${run} ${locale} ${markup}`;
      await page.getByRole('button', { name: w.make, exact: true }).click();
      assert.equal(await dialog.getByRole('button', { name: w.makeDo }).isDisabled(), true, 'a key that may do nothing');
      await dialog.getByLabel(w.name, { exact: true }).fill(name);
      await dialog.getByRole('checkbox', { name: /^sites:read/ }).check();
      await dialog.getByLabel(w.days, { exact: true }).fill('10');
      await assertAccessible(page, `making a key, ${locale}`);
      await dialog.getByRole('button', { name: w.makeDo }).click();
      const secret = (await dialog.getByRole('group', { name: w.key, exact: true }).innerText()).trim();
      assert.match(secret, /^hsi_(dev|prod)_key_/);
      const res = await fetch(`${base}/api/sites`, { headers: { Authorization: `Bearer ${secret}` } });
      assert.equal(res.status, 200, 'the key that was shown does not work');
      await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: base });
      await dialog.getByRole('button', { name: w.copy }).click();
      await assertCopied(page, secret);
      await dialog.getByRole('button', { name: w.done }).click();
      await dialog.waitFor({ state: 'detached' });
      assert.ok(!(await page.content()).includes(secret), 'the key is still on the page');

      const rows = page.getByRole('row').filter({ hasText: name });
      await rows.first().waitFor();
      assert.equal(await rows.locator('.badge-warn').count(), 1, 'ten days to its end are not marked');
      assert.equal(await page.locator('img[src="x"]').count(), 0, 'the name became markup');

      await rows.getByRole('button', { name: `${w.replace} ${name}` }).click();
      assert.equal(await dialog.getByLabel(w.name, { exact: true }).inputValue(), name);
      assert.equal(await dialog.getByRole('checkbox', { name: /^sites:read/ }).isChecked(), true);
      await dialog.getByRole('button', { name: w.makeDo }).click();
      const second = (await dialog.getByRole('group', { name: w.key, exact: true }).innerText()).trim();
      assert.notEqual(second, secret);
      await dialog.getByRole('button', { name: w.done }).click();
      await dialog.waitFor({ state: 'detached' });
      for (const k of [secret, second]) {
        const both = await fetch(`${base}/api/sites`, { headers: { Authorization: `Bearer ${k}` } });
        assert.equal(both.status, 200, 'old and new key do not both work');
      }
      await rows.nth(1).waitFor();

      await rows.first().getByRole('button', { name: `${w.revoke} ${name}` }).click();
      await dialog.getByLabel(w.why).fill(`lost ${markup}`);
      await dialog.getByRole('button', { name: w.revokeDo }).click();
      await dialog.waitFor({ state: 'detached' });
      await rows.nth(1).waitFor({ state: 'detached' });
      await page.getByLabel(w.ended).check();
      await page.getByText(`lost ${markup}`).first().waitFor();
      assert.deepEqual(wrong, []);
      await context.close();
    });
  }

  await t.test('nobody gives away, or decides about, more than they hold', async () => {
    const { page, context, wrong } = await keysPage({ storageState: await signedInWith(browser, ['sites:read', 'miners:read', 'apikeys:read', 'apikeys:write']) });
    const ownersRow = page.getByRole('row').filter({ hasText: 'everything (owner)' }).first();
    await ownersRow.waitFor();
    assert.equal(await ownersRow.getByRole('button').count(), 0);
    await page.getByRole('button', { name: 'Make a key' }).click();
    await page.getByRole('dialog').getByRole('checkbox').first().waitFor();
    const offered = await page.getByRole('dialog').getByRole('checkbox').evaluateAll((all) => all.map((c) => c.closest('label').querySelector('code').textContent));
    assert.deepEqual(offered.sort(), ['apikeys:read', 'apikeys:write', 'miners:read', 'sites:read']);
    assert.deepEqual(wrong, []);
    await context.close();
  });

  await t.test('who may only read is shown nothing to do', async () => {
    const { page, context } = await keysPage({ storageState: await signedInWith(browser, ['sites:read', 'miners:read', 'apikeys:read']) });
    assert.equal(await page.getByRole('button', { name: /^(Make a key|Replace|Revoke)/ }).count(), 0);
    await context.close();
  });

  await t.test('revoking the key of one’s own session ends it', async () => {
    const { page, context } = await keysPage({ storageState: await signedInWith(browser, ['sites:read', 'apikeys:read', 'apikeys:write']) });
    await page.getByRole('row').filter({ hasText: 'this session' }).getByRole('button', { name: /^Revoke/ }).click();
    await page.getByText('This is the key of your own session').waitFor();
    await page.getByRole('button', { name: 'Revoke key' }).click();
    await page.getByRole('heading', { name: 'Sign in' }).waitFor();
    await context.close();
  });

  await t.test('a list that does not load shows so, and the rest goes on', async () => {
    const { page, context } = await open(browser, { storageState });
    await page.route('**/api/apikeys*', (r) => r.fulfill({ status: 403, contentType: 'application/problem+json', body: JSON.stringify({ status: 403, code: 'AUTH_002', detail: 'not <b>yours</b>' }) }));
    await page.goto(`${base}/keys`);
    await page.getByRole('alert').filter({ hasText: 'not <b>yours</b>' }).waitFor();
    await page.getByText('Live', { exact: true }).waitFor();
    await page.getByRole('link', { name: 'Fleet', exact: true }).click();
    await page.getByRole('grid').waitFor();
    await context.close();
  });

  for (const [name, options] of looks) {
    await t.test(`axe finds nothing serious (${name})`, async () => {
      const { page, context } = await keysPage(options);
      await assertFits(page, name);
      await assertAccessible(page, `keys, ${name}`);
      await page.getByRole('button', { name: /^(Make a key|新建密钥)$/ }).click();
      await assertFits(page, `dialog, ${name}`);
      await assertAccessible(page, `key dialog, ${name}`);
      await context.close();
    });
  }

  await t.test('what the tests made is ended', async () => {
    for (const k of (await ask('GET', '/api/apikeys?limit=500')).items) {
      if ((k.name.startsWith(run) || k.name.startsWith('browser test ')) && k.state !== 'revoked') await ask('DELETE', `/api/apikeys/${k.id}?why=test`);
    }
  });
});
