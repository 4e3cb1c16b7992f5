import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ask, assertAccessible, assertCopied, assertFits, base, enrol, eventually, launch, looks, open, signedIn, signedInWith, skip } from './page.mjs';

const markup = '<img src=x onerror=alert(1)><script>alert(2)</script>';

// A site that joined keeps its keys at the hub: each run has sites of its own.
const run = Math.random().toString(36).slice(2, 8);

const words = {
  'en-US': {
    connect: 'Connect a site', name: 'Site name', make: 'Make token', token: 'Token', copy: 'Copy: Token', done: 'Done', windows: 'Windows (PowerShell)',
    approval: /only after I have compared/, tokens: 'Open tokens', revokeToken: 'Revoke the token for', revoke: 'Revoke', approve: 'Approve', same: /is the same as this one/,
    letIn: 'Let it in', joined: 'The site has joined.', cutOff: 'Revoke', reason: 'Reason', typeName: /^Type the site’s name/, cut: 'Cut the site off', again: 'again', rotate: 'New tunnel keys', rotateDo: 'Ask for new keys', rotateAsked: /asked for \d+ (s|min) ago/,
  },
  'zh-CN': {
    connect: '接入站点', name: '站点名称', make: '生成令牌', token: '令牌', copy: '复制：令牌', done: '完成', windows: 'Windows（PowerShell）',
    approval: /核对其密钥指纹/, tokens: '未使用的令牌', revokeToken: '吊销', revoke: '吊销', approve: '批准', same: /与此相同/,
    letIn: '允许接入', joined: '站点已接入。', cutOff: '吊销', reason: '原因', typeName: /^输入站点名称以确认/, cut: '切断该站点', again: '重新接入', rotate: '隧道密钥', rotateDo: '请求新密钥', rotateAsked: /前已请求/,
  },
};

test('sites join and are cut off', { skip }, async (t) => {
  let browser;
  let storageState;
  before(async () => {
    browser = await launch();
    storageState = await signedIn(browser);
  });
  after(() => browser?.close());

  const sites = async (options) => {
    const opened = await open(browser, { storageState, ...options });
    await opened.page.goto(`${base}/`);
    await opened.page.getByRole('article').first().waitFor();
    return opened;
  };
  /** Makes a token through the page, and leaves the dialog open. */
  const make = async (page, w, name, { approval = false } = {}) => {
    await page.getByRole('button', { name: w.connect, exact: true }).click();
    await page.getByLabel(w.name, { exact: true }).fill(name);
    if (approval) await page.getByLabel(w.approval).check();
    await page.getByRole('button', { name: w.make }).click();
    return (await page.getByRole('group', { name: w.token, exact: true }).innerText()).trim();
  };

  for (const locale of Object.keys(words)) {
    const w = words[locale];

    await t.test(`a token is shown once, with what to type, and can be revoked (${locale})`, async () => {
      const { page, context, wrong } = await sites({ locale });
      const name = `zz ${run} ${locale} ${markup}`;
      const token = await make(page, w, name);
      assert.match(token, /^hsi_(dev|prod)_join_/);
      const dialog = page.getByRole('dialog');
      const commands = () => dialog.getByRole('listitem').getByRole('group').allInnerTexts();
      const linux = await commands();
      assert.equal(linux.length, 3);
      assert.match(linux[1], /hashinsight-agent enrol --hub \S+:\d+ --token-file token\.txt/);
      await dialog.getByRole('button', { name: w.windows }).click();
      await dialog.getByText(/hashinsight-agent\.exe enrol/).waitFor();
      const windows = await commands();
      assert.equal(windows.length, 3);
      assert.ok(![...linux, ...windows].some((c) => c.includes('hsi_')), 'a command holds the token');
      await page.keyboard.press('Escape'); // not copied: it would be lost
      assert.equal(await dialog.count(), 1);
      await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: base });
      await dialog.getByRole('button', { name: w.copy }).click();
      await assertCopied(page, token);
      await assertAccessible(page, `a token, ${locale}`);
      await dialog.getByRole('button', { name: w.done }).click();
      await dialog.waitFor({ state: 'detached' });
      await eventually(async () => {
        const focused = await page.evaluate(() => document.activeElement?.textContent);
        return focused === w.connect || focused;
      }, 'the focus comes back');
      const html = await page.content();
      assert.ok(!html.includes(token), 'the token is still on the page');
      const kept = await page.evaluate(() => JSON.stringify([{ ...window.localStorage }, { ...window.sessionStorage }, document.cookie]));
      assert.ok(!kept.includes(token), 'the token was kept in the browser');

      const row = page.getByRole('region', { name: w.tokens }).getByRole('row').filter({ hasText: name });
      await row.waitFor();
      assert.equal(await page.locator('img[src="x"]').count(), 0, 'the name became markup');
      await row.getByRole('button').click();
      await dialog.getByRole('button', { name: w.revoke, exact: true }).click();
      await row.waitFor({ state: 'detached' });
      assert.deepEqual(wrong, []);
      await context.close();
    });

    await t.test(`a site joins after fingerprints were compared, and is cut off again (${locale})`, async () => {
      const { page, context, wrong } = await sites({ locale });
      const name = `zz joined ${run} ${locale} <b>&amp;`;
      const token = await make(page, w, name, { approval: true });
      const command = await page.getByRole('dialog').getByRole('listitem').nth(1).getByRole('group').innerText();
      const agent = enrol({ hub: /--hub (\S+)/.exec(command)[1], token });
      try {
        await eventually(() => /fingerprint of this site's keys: (\S+)/.test(agent.said()) || agent.said(), 'the agent shows its fingerprint');
        const fingerprint = /fingerprint of this site's keys: (\S+)/.exec(agent.said())[1];
        await page.getByRole('dialog').getByRole('button', { name: w.done }).click();

        await page.getByRole('button', { name: w.approve, exact: false }).and(page.locator(`[aria-label*="zz joined ${run} ${locale}"]`)).click();
        const dialog = page.getByRole('dialog');
        await dialog.locator('.fingerprint span').first().waitFor();
        const groups = (await dialog.locator('.fingerprint span').allInnerTexts()).map((g) => g.trim());
        assert.equal(groups.join('-'), fingerprint, 'page and agent show different fingerprints');
        assert.equal(await dialog.getByRole('button', { name: w.letIn, exact: true }).isDisabled(), true, 'approved without comparing');
        await assertAccessible(page, `approving, ${locale}`);
        await dialog.getByLabel(w.same).check();
        await dialog.getByRole('button', { name: w.letIn, exact: true }).click();
        assert.equal(await agent.ended, 0, agent.said());
      } finally {
        agent.stop();
      }
      const card = page.getByRole('article').filter({ has: page.getByRole('heading', { name, exact: true }) });
      await card.waitFor();

      const rotate = card.getByRole('button', { name: w.rotate });
      await rotate.click();
      await page.getByRole('dialog').getByRole('button', { name: w.rotateDo }).click();
      await page.getByRole('dialog').waitFor({ state: 'detached' });
      await card.getByText(w.rotateAsked).waitFor();

      await card.getByRole('button', { name: w.cutOff }).click();
      const dialog = page.getByRole('dialog');
      const cut = dialog.getByRole('button', { name: w.cut });
      await dialog.getByLabel(w.reason, { exact: true }).fill(`stolen ${markup}`);
      assert.equal(await cut.isDisabled(), true, 'cut off without confirming');
      await dialog.getByLabel(w.typeName).fill('another');
      assert.equal(await cut.isDisabled(), true, 'cut off by another name');
      await assertAccessible(page, `cutting off, ${locale}`);
      await dialog.getByLabel(w.typeName).fill(name);
      await cut.click();
      await card.getByText(markup).waitFor(); // the reason, as text
      // The list may be a moment older than what the hub has told the page.
      await eventually(async () => Boolean((await ask('GET', '/api/sites')).items.find((s) => s.name === name).revoked_at), 'the hub knows that it is cut off');
      await card.getByRole('button', { name: w.again }).click();
      assert.equal(await page.getByLabel(w.name, { exact: true }).inputValue(), name);
      assert.deepEqual(wrong, []);
      await context.close();
    });
  }

  await t.test('whoever may not is shown nothing to do, and nothing is asked for it', async () => {
    const { page, context, wrong } = await sites({ storageState: await signedInWith(browser, ['sites:read', 'agents:read', 'miners:read']) });
    const asked = [];
    page.on('request', (r) => asked.push(new URL(r.url()).pathname));
    await page.reload();
    await page.getByRole('article').first().waitFor();
    await page.getByText('Live', { exact: true }).waitFor();
    assert.equal(await page.getByRole('button', { name: 'Connect a site' }).count(), 0);
    assert.equal(await page.getByRole('button', { name: /^Revoke|^New tunnel keys/ }).count(), 0);
    assert.equal(await page.getByRole('link', { name: /^(Keys|Audit log)$/ }).count(), 0);
    assert.deepEqual(asked.filter((p) => /join-tokens|peers|apikeys|audit|certificates/.test(p)), []);
    assert.deepEqual(wrong, []);
    await context.close();
  });

  await t.test('a part of the hub that is off shows so in its own area', async () => {
    for (const [route, says] of [
      ['**/api/peers*', 'The state of the tunnels could not be loaded.'],
      ['**/api/join-tokens/waiting', 'What joins could not be loaded.'],
      ['**/api/certificates*', 'The state of the certificate authority could not be loaded.'],
    ]) {
      const { page, context, wrong } = await open(browser, { storageState });
      await page.route(route, (r) =>
        r.fulfill({ status: 503, contentType: 'application/problem+json', body: JSON.stringify({ status: 503, code: 'API_004', detail: 'off <b>here</b>', help: 'turn it on' }) }),
      );
      await page.goto(`${base}/`);
      await page.getByRole('article').first().waitFor();
      const alert = page.getByRole('alert').filter({ hasText: says });
      await alert.waitFor();
      assert.match(await alert.innerText(), /off <b>here<\/b>/);
      await page.getByText('Live', { exact: true }).waitFor();
      await page.getByRole('button', { name: 'Connect a site' }).waitFor();
      assert.deepEqual(wrong, []);
      await context.close();
    }
  });

  await t.test('a quarantined tunnel says why', async () => {
    const { page, context, wrong } = await open(browser, { storageState });
    const site = (await ask('GET', '/api/sites')).items[0];
    // The device of a hub refuses a peer only where there is a device; what the page makes of the answer is what is looked at here.
    await page.route('**/api/peers*', async (r) => {
      const answer = await (await r.fetch()).json();
      answer.tunnel = { enabled: true, problem: 'no <i>device</i>' };
      answer.items = [
        {
          site_id: site.id, site_name: site.name, state: 'quarantined', public_key: 'k', address: '10.8.0.2', networks: [], keepalive_s: 25, quarantined_at: new Date().toISOString(),
          quarantine_reason: `overlaps ${markup}`, added_at: new Date().toISOString(), changed_at: new Date().toISOString(), handshake_at: new Date().toISOString(),
          observed_endpoint: '203.0.113.7:51820', received_bytes: 1_234_567, sent_bytes: 890, rotate_wanted_at: new Date().toISOString(),
        },
      ];
      await r.fulfill({ json: answer });
    });
    await page.goto(`${base}/`);
    const card = page.getByRole('article').filter({ has: page.getByRole('heading', { name: site.name, exact: true }) });
    await card.getByText(`overlaps ${markup}`).waitFor();
    await card.getByText('1.2 MB / 890 B').waitFor();
    await page.getByText('no <i>device</i>').waitFor();
    await assertAccessible(page, 'a quarantined tunnel');
    await page.unrouteAll({ behavior: 'ignoreErrors' });
    assert.deepEqual(wrong, []);
    await context.close();
  });

  for (const [name, options] of looks) {
    await t.test(`axe finds nothing serious in the dialog (${name})`, async () => {
      const { page, context } = await sites(options);
      await page.getByRole('button', { name: /Connect a site|接入站点/ }).click();
      await page.getByRole('dialog').waitFor();
      await assertFits(page, name);
      await assertAccessible(page, `connect dialog, ${name}`);
      await context.close();
    });
  }
});
