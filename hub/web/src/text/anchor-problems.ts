// What keeps a hub from anchoring, by the codes of its API, in each language. Whoever may not see the numbers gets the sentence without them. A code that is
// not here is shown in the hub's own words, which are English.
import type { AnchorProblemParams } from '../api/types';
import type { Language } from './text';

type Say = (p: AnchorProblemParams) => string;

/** What is said of numbers: a text with them where all are there, and one without. */
const given = <T extends keyof AnchorProblemParams>(names: readonly T[], say: (v: Record<T, string>) => string, otherwise: string): Say => (p) => {
  const v = {} as Record<T, string>;
  for (const name of names) {
    const x = p[name];
    if (x === undefined || (Array.isArray(x) && x.length === 0)) return otherwise;
    v[name] = typeof x === 'number' ? x.toLocaleString('en') : Array.isArray(x) ? x.join(', ') : String(x);
  }
  return say(v);
};

/** Wei for a unit of gas, in the unit that wallets show. */
export function gwei(wei: string | undefined): string {
  if (wei === undefined || !/^[0-9]{1,30}$/.test(wei)) return wei ?? '';
  const whole = wei.slice(0, -9) || '0';
  const rest = wei.slice(-9).padStart(9, '0').replace(/0+$/, '');
  return rest === '' ? `${whole} gwei` : `${whole}.${rest} gwei`;
}

const en = {
  no_endpoint: given(['endpoints'], (v) => `No chain endpoint gives an answer that can be used: ${v.endpoints}.`, 'No chain endpoint gives an answer that can be used.'),
  too_few_endpoints: given(['endpoints', 'need', 'total'], (v) => `${v.need} of ${v.total} chain endpoints must agree, and these do not answer: ${v.endpoints}. One more endpoint would help.`, 'Too few chain endpoints answer.'),
  no_finality: () => 'Too few chain endpoints say which blocks are safe and which are final.',
  endpoints_disagree: given(['endpoints'], (v) => `The chain endpoints contradict each other: ${v.endpoints}.`, 'The chain endpoints contradict each other.'),
  event_missing: given(['seq', 'head_seq'], (v) => `The contract is at anchor ${v.head_seq}, and no endpoint shows anchor ${v.seq}.`, 'The chain endpoints do not show an anchor that the contract has.'),
  event_hole: given(['seq'], (v) => `The chain endpoints leave out anchor ${v.seq}.`, 'The chain endpoints leave out an anchor.'),
  event_of_block: given(['seq', 'block'], (v) => `Anchor ${v.seq} is said to be in block ${v.block}, and is not shown there.`, 'An anchor is said to be in a block and is not shown there.'),
  chain_shorter: given(['seq', 'block', 'latest_block'], (v) => `The chain is said to end at block ${v.latest_block}, and anchor ${v.seq} is in block ${v.block}.`, 'The chain is said to end before the block of an anchor.'),
  contract_behind: given(['seq', 'head_seq'], (v) => `The contract is said to be at anchor ${v.head_seq}, and was at ${v.seq} before.`, 'The contract is said to have fewer anchors than before.'),
  contract_moved: () => 'The contract went on while an anchor was made. The hub looks again.',
  old_block_missing: () => 'A chain endpoint does not give out a block that the chain has long passed.',
  wrong_chain: given(['chain_id', 'endpoints'], (v) => `These endpoints serve another chain than ${v.chain_id}: ${v.endpoints}.`, 'A chain endpoint serves another chain.'),
  wrong_contract: given(['contract'], (v) => `At ${v.contract} there is no AnchorLog contract.`, 'At the address there is no AnchorLog contract.'),
  fee_above_ceiling: (p) => (p.fee_wei && p.ceiling_wei ? `Gas costs ${gwei(p.fee_wei)}, and at most ${gwei(p.ceiling_wei)} are allowed.` : 'Gas costs more than is allowed.'),
  out_of_funds: given(['account'], (v) => `The account ${v.account} cannot pay for a transaction.`, 'The account that pays has too little.'),
  transaction_refused: () => 'Every chain endpoint refuses the transaction.',
  key_does_not_sign: () => 'The chain key gives no signature.',
  stuck: given(['tx_hash'], (v) => `Transaction ${v.tx_hash} waits for a block, and may not be replaced by a dearer one.`, 'A transaction waits for a block, and may not be replaced by a dearer one.'),
  nonce_blocked: given(['nonce', 'account'], (v) => `A transaction with nonce ${v.nonce} of ${v.account}, which the hub’s database does not know, waits and may not be replaced by a dearer one.`, 'A transaction that the hub’s database does not know waits, and may not be replaced by a dearer one.'),
  nonce_taken: given(['nonce', 'account'], (v) => `Something else has used nonce ${v.nonce} of ${v.account}: nothing but this hub may send from it.`, 'Something else has sent a transaction from the hub’s account.'),
  contract_refuses: given(['seq'], (v) => `The contract refuses anchor ${v.seq}.`, 'The contract refuses an anchor.'),
  no_role: given(['account', 'contract'], (v) => `The account ${v.account} may not anchor in the contract ${v.contract}.`, 'The hub’s account may not anchor in the contract.'),
  foreign_root: given(['seq', 'size'], (v) => `Anchor ${v.seq} in the contract has another root than this log over its first ${v.size} entries.`, 'An anchor in the contract has another root than this log.'),
  head_not_ours: given(['seq'], (v) => `The contract’s newest anchor, ${v.seq}, is not the one that this hub knows under that number.`, 'The contract’s newest anchor is not this hub’s.'),
  database_older: given(['size', 'log_size'], (v) => `The contract covers ${v.size} entries, and the log has ${v.log_size}: the database is older. What is missing is being read back.`, 'The database is older than what is anchored. What is missing is being read back.'),
  contract_ahead: given(['size', 'log_size'], (v) => `The contract covers ${v.size} entries, and the log has only ${v.log_size}: the hub was set back with its directory, or another log is anchored there.`, 'The contract covers more than this log has.'),
  reading_back: given(['block', 'head_seq'], (v) => `Anchors that the database lacks are read back from the chain, up to number ${v.head_seq}: at block ${v.block} so far.`, 'Anchors that the database lacks are read back from the chain.'),
  log_unreadable: given(['size'], (v) => `The first ${v.size} entries of the log cannot be read.`, 'The first entries of the log cannot be read.'),
  log_waits: () => 'The log has no checkpoint yet that may be anchored.',
  log_shorter: given(['size', 'log_size'], (v) => `${v.size} entries are anchored, and the log has ${v.log_size}.`, 'More entries are anchored than the log has.'),
  log_not_longer: given(['seq', 'size'], (v) => `Anchor ${v.seq} is made again once the log has more than ${v.size} entries.`, 'An anchor is made again once the log is longer.'),
  log_changed: given(['seq', 'size'], (v) => `The first ${v.size} entries of the log are not those that anchor ${v.seq} holds. This must not happen.`, 'The log’s first entries are not those that were anchored. This must not happen.'),
  vanished: given(['seq'], (v) => `Anchor ${v.seq} was final and is gone from the chain. It is being anchored again.`, 'An anchor was final and is gone from the chain. It is being anchored again.'),
  no_key: () => 'The key that signs transactions is missing or cannot be used.',
  settings: () => 'The settings of the chain are wrong.',
} satisfies Record<string, Say>;

const zhCN: Record<keyof typeof en, Say> = {
  no_endpoint: given(['endpoints'], (v) => `没有链节点给出可用的应答：${v.endpoints}。`, '没有链节点给出可用的应答。'),
  too_few_endpoints: given(['endpoints', 'need', 'total'], (v) => `${v.total} 个链节点中须有 ${v.need} 个一致，而以下节点没有应答：${v.endpoints}。增加一个节点会有帮助。`, '应答的链节点过少。'),
  no_finality: () => '说明哪些区块安全、哪些区块最终的链节点过少。',
  endpoints_disagree: given(['endpoints'], (v) => `各链节点互相矛盾：${v.endpoints}。`, '各链节点互相矛盾。'),
  event_missing: given(['seq', 'head_seq'], (v) => `智能合约已到锚定 ${v.head_seq}，但没有节点给出锚定 ${v.seq}。`, '链节点没有给出智能合约已有的一个锚定。'),
  event_hole: given(['seq'], (v) => `链节点遗漏了锚定 ${v.seq}。`, '链节点遗漏了一个锚定。'),
  event_of_block: given(['seq', 'block'], (v) => `据称锚定 ${v.seq} 在区块 ${v.block} 中，但该区块没有给出它。`, '据称某锚定在某区块中，但该区块没有给出它。'),
  chain_shorter: given(['seq', 'block', 'latest_block'], (v) => `据称链止于区块 ${v.latest_block}，而锚定 ${v.seq} 在区块 ${v.block} 中。`, '据称链在某锚定的区块之前就已结束。'),
  contract_behind: given(['seq', 'head_seq'], (v) => `据称智能合约在锚定 ${v.head_seq}，而此前已到 ${v.seq}。`, '据称智能合约的锚定比以前少。'),
  contract_moved: () => '生成锚定期间智能合约已前进。中心会重新查看。',
  old_block_missing: () => '有链节点不提供链早已越过的一个区块。',
  wrong_chain: given(['chain_id', 'endpoints'], (v) => `以下节点所属的链不是 ${v.chain_id}：${v.endpoints}。`, '有链节点属于另一条链。'),
  wrong_contract: given(['contract'], (v) => `地址 ${v.contract} 上没有 AnchorLog 智能合约。`, '该地址上没有 AnchorLog 智能合约。'),
  fee_above_ceiling: (p) => (p.fee_wei && p.ceiling_wei ? `Gas 价格为 ${gwei(p.fee_wei)}，上限为 ${gwei(p.ceiling_wei)}。` : 'Gas 价格超过上限。'),
  out_of_funds: given(['account'], (v) => `账户 ${v.account} 无力支付交易。`, '付费账户余额不足。'),
  transaction_refused: () => '所有链节点都拒绝了交易。',
  key_does_not_sign: () => '链密钥没有给出签名。',
  stuck: given(['tx_hash'], (v) => `交易 ${v.tx_hash} 正在等待入块，且不得以更高费用的交易替换。`, '有交易正在等待入块，且不得以更高费用的交易替换。'),
  nonce_blocked: given(['nonce', 'account'], (v) => `账户 ${v.account} 有一笔中心数据库不认识的交易（nonce ${v.nonce}）在等待，且不得以更高费用的交易替换。`, '有一笔中心数据库不认识的交易在等待，且不得以更高费用的交易替换。'),
  nonce_taken: given(['nonce', 'account'], (v) => `账户 ${v.account} 的 nonce ${v.nonce} 已被其他程序使用：只有此中心可以用该账户发送交易。`, '有其他程序用中心的账户发送了交易。'),
  contract_refuses: given(['seq'], (v) => `智能合约拒绝了锚定 ${v.seq}。`, '智能合约拒绝了一个锚定。'),
  no_role: given(['account', 'contract'], (v) => `账户 ${v.account} 无权在智能合约 ${v.contract} 中锚定。`, '中心的账户无权在智能合约中锚定。'),
  foreign_root: given(['seq', 'size'], (v) => `智能合约中锚定 ${v.seq} 的根与此日志前 ${v.size} 个条目的根不同。`, '智能合约中某锚定的根与此日志不同。'),
  head_not_ours: given(['seq'], (v) => `智能合约的最新锚定 ${v.seq} 不是此中心以该编号记录的锚定。`, '智能合约的最新锚定不属于此中心。'),
  database_older: given(['size', 'log_size'], (v) => `智能合约涵盖 ${v.size} 个条目，而日志有 ${v.log_size} 个：数据库较旧。正在读回缺失的内容。`, '数据库比已锚定的内容旧。正在读回缺失的内容。'),
  contract_ahead: given(['size', 'log_size'], (v) => `智能合约涵盖 ${v.size} 个条目，而日志只有 ${v.log_size} 个：中心连同其目录被恢复到较早状态，或有另一日志在此锚定。`, '智能合约涵盖的内容多于此日志。'),
  reading_back: given(['block', 'head_seq'], (v) => `正在从链上读回数据库缺失的锚定，直到编号 ${v.head_seq}：目前在区块 ${v.block}。`, '正在从链上读回数据库缺失的锚定。'),
  log_unreadable: given(['size'], (v) => `无法读取日志的前 ${v.size} 个条目。`, '无法读取日志最前面的条目。'),
  log_waits: () => '日志尚无可以锚定的检查点。',
  log_shorter: given(['size', 'log_size'], (v) => `已锚定 ${v.size} 个条目，而日志有 ${v.log_size} 个。`, '已锚定的条目多于日志的条目。'),
  log_not_longer: given(['seq', 'size'], (v) => `待日志超过 ${v.size} 个条目后，将重新生成锚定 ${v.seq}。`, '待日志变长后，将重新生成一个锚定。'),
  log_changed: given(['seq', 'size'], (v) => `日志的前 ${v.size} 个条目与锚定 ${v.seq} 所涵盖的不同。这不应发生。`, '日志最前面的条目与已锚定的不同。这不应发生。'),
  vanished: given(['seq'], (v) => `锚定 ${v.seq} 曾为最终状态，现已从链上消失。正在重新锚定。`, '有锚定曾为最终状态，现已从链上消失。正在重新锚定。'),
  no_key: () => '签署交易的密钥缺失或无法使用。',
  settings: () => '链的设置有误。',
};

const catalogues: Record<Language, Readonly<Record<string, Say>>> = { en, 'zh-CN': zhCN };

/** What is wrong, in a language; undefined for a code that has no text here. */
export function anchorProblem(language: Language, code: string | undefined, params: AnchorProblemParams | undefined): string | undefined {
  const texts = catalogues[language];
  return code !== undefined && Object.hasOwn(texts, code) ? texts[code]?.(params ?? {}) : undefined;
}
