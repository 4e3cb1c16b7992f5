import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { after, before, test } from 'node:test';
import { assertAccessible, base, eventually, launch, looks, open, skip } from './page.mjs';

const file = (path) => fileURLToPath(new URL(path, import.meta.url));

// A miner-hour whose anchor a small chain has, written by hand (verify/testdata/world.ts), so that this needs no hub with a chain.
const proof = readFileSync(file('../verify/testdata/hour.hsproof'));
const contract = '0x00112233445566778899aabbccddeeff00112233';
const topic = '0x208da491ab95e0f6410d80976eda128ff8c81a76c6cc0349241164cd49a7144c';
const word = (n) => `0x${n.toString(16).padStart(64, '0')}`;

/** Plays an endpoint on loopback, and keeps what it was asked. */
async function endpoint(root, { finalized = 0x1010, until = Promise.resolve() } = {}) {
  const asked = [];
  const code = readFileSync(file('../../contracts/out/AnchorLog.runtime.bin'), 'utf8').trim().replace(/^0x/, '');
  const hash = `0x${'77'.repeat(32)}`;
  const blocks = { latest: 0x1020, finalized };
  const answer = (method, params) => {
    switch (method) {
      case 'eth_chainId':
        return '0x7a69';
      case 'eth_getCode':
        return params[0] === contract ? `0x${code}` : '0x';
      case 'eth_getBlockByNumber':
        return { number: `0x${(blocks[params[0]] ?? Number(params[0])).toString(16)}`, hash, timestamp: `0x${(1_796_343_000).toString(16)}` };
      case 'eth_getLogs': {
        const data = [498_900, 0].map((n) => word(n).slice(2)).join('') + root + word(8).slice(2);
        return [{ address: contract, topics: [topic, word(7)], data: `0x${data}`, blockNumber: '0x1000', blockHash: hash, transactionHash: `0x${'ee'.repeat(32)}`, logIndex: '0x0', removed: false }];
      }
      default:
        return null;
    }
  };
  const server = createServer((req, res) => {
    res.setHeader('Access-Control-Allow-Origin', '*');
    res.setHeader('Access-Control-Allow-Headers', 'content-type');
    let body = '';
    req.on('data', (b) => (body += b));
    req.on('end', async () => {
      if (req.method === 'OPTIONS') return res.end();
      await until;
      const call = JSON.parse(body);
      asked.push(body);
      res.setHeader('Content-Type', 'application/json');
      res.end(JSON.stringify({ jsonrpc: '2.0', id: call.id, result: answer(call.method, call.params) }));
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    asked,
    stop: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

const note = proof.subarray(16, 16 + proof.readUInt16BE(14)).toString('utf8');
const root = Buffer.from(note.split('\n')[2], 'base64').toString('hex');

const words = {
  'en-US': { file: 'Choose a file', contract: 'Address of the log’s contract', rpc: /^RPC endpoints/, again: 'Check again', proven: 'Proven', false: 'False', unknown: 'Could not check', early: 'Not yet final', says: 'What the file says', steps: 'Steps', not: 'What is not proven', cancel: 'Cancel', cancelled: /^Cancelled/, keep: 'Download this page' },
  'zh-CN': { file: '选择文件', contract: '日志合约地址', rpc: /^链的 RPC 端点/, again: '重新检查', proven: '已证明', false: '不属实', unknown: '无法检查', early: '尚未最终确定', says: '文件内容', steps: '步骤', not: '未证明的内容', cancel: '取消', cancelled: /^已取消/, keep: '下载本页面' },
};

test('verifying proof files', { skip }, async (t) => {
  let browser;
  let rpc;
  before(async () => {
    browser = await launch();
    rpc = await endpoint(root);
  });
  after(async () => {
    await browser?.close();
    await rpc?.stop();
  });

  /** The page, and every request after it was loaded. */
  const verifyPage = async (options) => {
    const opened = await open(browser, options);
    await opened.page.goto(`${base}/verify`);
    await opened.page.getByRole('heading', { level: 1 }).waitFor();
    const requests = [];
    opened.context.on('request', (r) => {
      if (!r.url().startsWith(`blob:${base}/`)) requests.push(`${r.method()} ${r.url()}`); // its own script, for its worker
    });
    return { ...opened, requests };
  };
  const drop = (page, bytes, name = 'hour.hsproof') => page.locator('input[type=file]').setInputFiles({ name, mimeType: 'application/octet-stream', buffer: bytes });
  const result = (page, name) => page.locator('#result').filter({ hasText: name }).waitFor();
  const stateOf = (page, id) => page.locator(`[data-step="${id}"]`).getAttribute('data-state');

  for (const locale of Object.keys(words)) {
    const w = words[locale];
    await t.test(`a file is proven, and with one changed byte it is refused (${locale})`, async () => {
      const { page, context, wrong, requests } = await verifyPage({ locale });
      rpc.asked.length = 0;
      await page.getByLabel(w.contract).fill(contract);
      await page.getByLabel(w.rpc).fill(rpc.url);
      await drop(page, proof);
      await result(page, w.proven);
      for (const heading of [w.steps, w.not, w.says]) await page.getByRole('heading', { name: heading, exact: true }).waitFor();
      for (const id of ['decode', 'leaf', 'site-signature', 'site-key', 'log', 'checkpoint', 'anchor', 'time']) assert.equal(await stateOf(page, id), 'ok', id);
      assert.equal(await page.getByRole('table').getByRole('row').count(), 13, 'an hour has twelve slots');
      await eventually(() => page.evaluate(() => document.activeElement?.id === 'result' || document.activeElement?.tagName), 'the result has the focus');
      assert.equal(await page.evaluate(() => document.documentElement.lang), locale === 'en-US' ? 'en' : locale);
      await assertAccessible(page, `a proven file, ${locale}`);

      for (const at of [16, 400, 900, 1200, proof.length - 1]) {
        const other = Buffer.from(proof);
        other[at] ^= 1;
        await drop(page, other, `changed at ${at}.hsproof`);
        await page.locator('#chosen').filter({ hasText: `changed at ${at}.` }).waitFor(); // the result of the file before has gone
        await result(page, w.false);
      }
      await assertAccessible(page, `a refused file, ${locale}`);

      // Nothing has left but questions to the one endpoint, and none holds anything of the site or the miner.
      assert.deepEqual([...new Set(requests)].filter((r) => !r.endsWith(`${rpc.url}/`)), []);
      assert.ok(requests.length > 0, 'what the worker asks is not seen here');
      for (const body of rpc.asked) {
        assert.match(body, /"method":"eth_(chainId|getCode|getBlockByNumber|getLogs)"/);
        assert.ok(body.length < 400, body);
        assert.ok(!/51000000|31000000/.test(body), body);
      }
      assert.deepEqual(wrong.filter((x) => x !== `request to ${rpc.url}`), []);
      await context.close();
    });
  }

  await t.test('without a contract, an endpoint or an answer nothing is called proven', async () => {
    const w = words['en-US'];
    const { page, context, requests } = await verifyPage();
    await drop(page, proof);
    await result(page, w.unknown);
    assert.equal(await stateOf(page, 'anchor'), 'unknown');
    assert.deepEqual(requests, [], 'something was asked without an endpoint');
    await page.getByLabel(w.contract).fill(contract);
    await page.getByLabel(w.rpc).fill('http://127.0.0.1:1');
    await page.getByRole('button', { name: w.again }).click();
    await page.locator('[data-step="anchor"]').filter({ hasText: 'gave no answer' }).waitFor();
    await result(page, w.unknown);
    await page.getByLabel(w.contract).fill(contract.replace('33', '34'));
    await page.getByRole('button', { name: w.again }).click();
    await result(page, w.false);
    await page.getByLabel(w.contract).fill('0x123');
    await page.getByRole('button', { name: w.again }).click();
    await page.getByRole('alert').filter({ hasText: '40 hexadecimal digits' }).waitFor();
    await page.getByLabel(w.contract).fill(contract);
    await page.getByLabel(w.rpc).fill('http://example.com');
    await page.getByRole('button', { name: w.again }).click();
    await page.getByRole('alert').filter({ hasText: 'http://example.com cannot be asked' }).waitFor();
    await assertAccessible(page, 'fields that are wrong');
    await context.close();
  });

  await t.test('a block that is not final, and endpoints that disagree', async () => {
    const w = words['en-US'];
    const early = await endpoint(root, { finalized: 0xfff });
    const liar = await endpoint('00'.repeat(32));
    const { page, context } = await verifyPage();
    await page.getByLabel(w.contract).fill(contract);
    await page.getByLabel(w.rpc).fill(`${rpc.url}\n${early.url}`);
    await drop(page, proof);
    await result(page, w.early);
    await page.getByLabel(w.rpc).fill(`${rpc.url}\n${liar.url}`);
    await page.getByRole('button', { name: w.again }).click();
    await page.locator('[data-step="anchor"]').filter({ hasText: 'different things' }).waitFor();
    await result(page, w.unknown);
    await page.getByLabel(w.rpc).fill(liar.url);
    await page.getByRole('button', { name: w.again }).click();
    await result(page, w.false);
    await context.close();
    await early.stop();
    await liar.stop();
  });

  await t.test('it goes on working when the hub is away, and keeps nothing', async () => {
    const w = words['en-US'];
    const { page, context } = await verifyPage();
    await context.route(`${base}/**`, (r) => r.abort());
    await page.getByLabel(w.contract).fill(contract);
    await page.getByLabel(w.rpc).fill(rpc.url);
    await drop(page, proof);
    await result(page, w.proven);
    await page.getByLabel('Language').selectOption('zh-CN');
    await result(page, words['zh-CN'].proven);
    const kept = await page.evaluate(() => JSON.stringify([{ ...window.localStorage }, { ...window.sessionStorage }]));
    assert.equal(kept, JSON.stringify([{ 'hsi.language': 'zh-CN' }, {}]));
    await context.close();
  });

  for (const locale of Object.keys(words)) {
    const w = words[locale];
    await t.test(`the page answers while a file is checked, which can be given up (${locale})`, async () => {
      const never = await endpoint(root, { until: new Promise(() => undefined) });
      const { page, context, wrong } = await verifyPage({ locale });
      await page.getByLabel(w.contract).fill(contract);
      await page.getByLabel(w.rpc).fill(never.url);
      await drop(page, proof);
      await page.getByRole('progressbar').waitFor();
      assert.equal(page.workers().length, 1, 'the page does the work itself');
      await assertAccessible(page, `a check that goes on, ${locale}`);
      await page.getByRole('button', { name: w.cancel, exact: true }).click();
      await page.getByText(w.cancelled).waitFor();
      await page.getByRole('progressbar').waitFor({ state: 'hidden' });
      await eventually(() => page.workers().length === 0 || page.workers().length, 'the worker has ended');
      assert.equal(await page.locator('#result').count(), 0);
      await page.getByLabel(w.rpc).fill(rpc.url);
      await page.getByRole('button', { name: locale === 'en-US' ? 'Check' : '检查', exact: true }).click();
      await result(page, w.proven);
      assert.deepEqual(wrong.filter((x) => !x.startsWith('request to http://127.0.0.1:')), []);
      await context.close();
      await never.stop();
    });
  }

  await t.test('a check goes on when the language changes, and another file takes its place', async () => {
    let release;
    const slow = await endpoint(root, { until: new Promise((resolve) => (release = resolve)) });
    const { page, context } = await verifyPage();
    await page.getByLabel(words['en-US'].contract).fill(contract);
    await page.getByLabel(words['en-US'].rpc).fill(slow.url);
    const other = Buffer.from(proof);
    other[16] ^= 1;
    await drop(page, proof);
    await page.getByRole('progressbar').waitFor();
    await drop(page, other, 'other.hsproof');
    await result(page, words['en-US'].false);
    await drop(page, proof);
    await page.getByRole('progressbar').waitFor();
    await page.getByLabel('Language').selectOption('zh-CN');
    await page.getByRole('button', { name: words['zh-CN'].cancel, exact: true }).waitFor();
    release();
    await result(page, words['zh-CN'].proven);
    await context.close();
    await slow.stop();
  });

  for (const locale of Object.keys(words)) {
    const w = words[locale];
    await t.test(`kept on a disk it is one file that checks without any hub (${locale})`, async () => {
      const dir = mkdtempSync(join(tmpdir(), 'hsi-verify-'));
      const { page, context } = await verifyPage({ locale });
      const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: w.keep }).click()]);
      assert.equal(file.suggestedFilename(), 'hashinsight-verify.html');
      assert.equal(readFileSync(await file.path(), 'utf8'), await (await fetch(`${base}/verify`)).text(), 'the file is not the page');
      const downloaded = join(dir, 'downloaded.html');
      await file.saveAs(downloaded);
      // What a browser writes that saves the page itself: the document as it stands, with what the script has drawn.
      await drop(page, proof);
      await result(page, w.unknown);
      const asItStands = join(dir, 'as it stands.html');
      writeFileSync(asItStands, await page.content());
      await context.close();

      for (const path of [downloaded, asItStands]) {
        const saved = await open(browser, { locale });
        await saved.context.route(`${base}/**`, (r) => r.abort());
        await saved.page.goto(pathToFileURL(path).href);
        await saved.page.getByRole('heading', { level: 1 }).waitFor();
        assert.equal(await saved.page.getByRole('link', { name: w.keep }).count(), 0);
        await saved.page.getByLabel(w.contract).fill(contract);
        await saved.page.getByLabel(w.rpc).fill(rpc.url);
        const worked = saved.page.waitForEvent('worker');
        await drop(saved.page, proof);
        await worked;
        await result(saved.page, w.proven);
        await assertAccessible(saved.page, `${path}, ${locale}`);
        const other = Buffer.from(proof);
        other[900] ^= 1;
        await drop(saved.page, other, 'other.hsproof');
        await result(saved.page, w.false);
        // The document, and the chain; its policy lets it ask nobody else, and refuses nothing of its own.
        assert.deepEqual([...new Set(saved.wrong)].filter((x) => x !== 'request to null' && x !== `request to ${rpc.url}`), []);
        await saved.context.close();
      }
      rmSync(dir, { recursive: true, force: true });
    });
  }

  await t.test('what it may do stands in the document as well, and is no more than the hub says', async () => {
    const answer = await fetch(`${base}/verify`);
    const inside = /<meta http-equiv="Content-Security-Policy" content="([^"]+)"/.exec(await answer.text())?.[1];
    assert.equal(answer.headers.get('Content-Security-Policy'), `${inside}; frame-ancestors 'none'`);
    assert.match(inside, /script-src 'sha256-[^ ]+';/);
  });

  for (const [name, options] of looks) {
    await t.test(`it is readable and fits ${name}`, async () => {
      const { page, context } = await verifyPage(options);
      await drop(page, proof);
      await page.locator('#result').waitFor();
      await assertAccessible(page, name);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(wide <= 0, `${wide} px too wide`);
      await context.close();
    });
  }

  await t.test('it is found without a key', async () => {
    const { page, context } = await open(browser);
    await page.goto(`${base}/`);
    await page.getByRole('link', { name: 'Verify a proof file' }).click();
    await page.getByRole('heading', { level: 1, name: 'Verify a proof file' }).waitFor();
    for (const name of ['Log', 'Anchors']) assert.equal(await page.getByRole('link', { name, exact: true }).getAttribute('href'), `/${name.toLowerCase()}`);
    await context.close();
  });
});
