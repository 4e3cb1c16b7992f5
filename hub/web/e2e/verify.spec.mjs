import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { assertAccessible, base, launch, looks, open, skip } from './page.mjs';

const file = (path) => fileURLToPath(new URL(path, import.meta.url));

// A miner-hour whose anchor a small chain has, written by hand (verify/testdata/world.ts), so that this needs no hub with a chain.
const proof = readFileSync(file('../verify/testdata/hour.hsproof'));
const contract = '0x00112233445566778899aabbccddeeff00112233';
const topic = '0x208da491ab95e0f6410d80976eda128ff8c81a76c6cc0349241164cd49a7144c';
const word = (n) => `0x${n.toString(16).padStart(64, '0')}`;

/** Plays an endpoint on loopback, and keeps what it was asked. */
async function endpoint(root, { finalized = 0x1010 } = {}) {
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
    req.on('end', () => {
      if (req.method === 'OPTIONS') return res.end();
      const call = JSON.parse(body);
      asked.push(body);
      res.setHeader('Content-Type', 'application/json');
      res.end(JSON.stringify({ jsonrpc: '2.0', id: call.id, result: answer(call.method, call.params) }));
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, asked, stop: () => new Promise((resolve) => server.close(resolve)) };
}

const note = proof.subarray(16, 16 + proof.readUInt16BE(14)).toString('utf8');
const root = Buffer.from(note.split('\n')[2], 'base64').toString('hex');

const words = {
  'en-US': { file: 'Choose a file', contract: 'Address of the log’s contract', rpc: /^RPC endpoints/, again: 'Check again', proven: 'Proven', false: 'False', unknown: 'Could not check', early: 'Not yet final', says: 'What the file says', steps: 'Steps', not: 'What is not proven' },
  'zh-CN': { file: '选择文件', contract: '日志合约地址', rpc: /^链的 RPC 端点/, again: '重新检查', proven: '已证明', false: '不属实', unknown: '无法检查', early: '尚未最终确定', says: '文件内容', steps: '步骤', not: '未证明的内容' },
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
    opened.context.on('request', (r) => requests.push(`${r.method()} ${r.url()}`));
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
      assert.equal(await page.evaluate(() => document.activeElement?.id), 'result', 'the result has not got the focus');
      assert.equal(await page.evaluate(() => document.documentElement.lang), locale === 'en-US' ? 'en' : locale);
      await assertAccessible(page, `a proven file, ${locale}`);

      for (const at of [16, 400, 900, 1200, proof.length - 1]) {
        const other = Buffer.from(proof);
        other[at] ^= 1;
        await drop(page, other);
        await result(page, w.false);
      }
      await assertAccessible(page, `a refused file, ${locale}`);

      // Nothing has left but questions to the one endpoint, and none holds anything of the site or the miner.
      assert.deepEqual([...new Set(requests)].filter((r) => !r.endsWith(`${rpc.url}/`)), []);
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
    await context.close();
  });
});
