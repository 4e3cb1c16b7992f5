// Proof files written by hand from the byte tables of packages proof and evidence: every field is hex with its name beside it, nothing is encoded by the code
// that is tested. Only hashes, signatures and the log's tree are computed, by the library and by RFC 6962 as it is written.
import { getPublicKey, hashes, sign } from '@noble/ed25519';
import { sha256, sha512 } from '@noble/hashes/sha2.js';

hashes.sha512 = sha512;

export const h = (...parts: readonly (string | Uint8Array)[]): Uint8Array =>
  Uint8Array.from(parts.flatMap((p) => [...(typeof p === 'string' ? Uint8Array.from(Buffer.from(p.replaceAll(' ', ''), 'hex')) : p)]));
export const text = (s: string): Uint8Array => new Uint8Array(Buffer.from(s, 'latin1'));
const be = (n: number, width: number): Uint8Array => Uint8Array.from(Buffer.from(n.toString(16).padStart(2 * width, '0'), 'hex'));

// Secret keys of RFC 8032 section 7.1, tests 1 to 3.
const secrets = {
  site: h('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60'),
  hub: h('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb'),
  log: h('c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7'),
};
export const keys = { site: getPublicKey(secrets.site), hub: getPublicKey(secrets.hub), log: getPublicKey(secrets.log) };

export const site = '51000000 0000 4000 8000 000000000001';
export const miner = '31000000 0000 4000 8000 000000000001';
const otherMiner = '31000000 0000 4000 8000 000000000002';
const absentMiner = '31000000 0000 4000 8000 000000000003';
const spool = '01000000 0000 0000 0000 000000000000';
export const hour = '00079a11'; // 498193: 2026-11-01 01:00 UTC
const contractId = 'aaaaaaaa 0000 4000 8000 000000000001';

const leafOf = (of: string) =>
  h(
    '6873692f6c6561662f763100', // tag "hsi/leaf/v1\0"
    site,
    of,
    hour,
    spool,
    // slot 0: polls, answered, source, zero, flags, hashes, difficulty, energy
    '001e 001d 01 00 0003 0000000001c9c380 0000000000000fa0 00000000000fd2d0',
    // slot 1: by the rate, bridged and sleeping
    '001e 0000 02 00 0014 0000000000000001 0000000000000000 7fffffffffffffff',
    // slots 2 to 11: not polled
    '0000 0000 00 00 0000 0000000000000000 0000000000000000 0000000000000000'.repeat(10),
    '0000000000000005', // first sequence number
    '0000000000000169', // last
    '000102030405060708090a0b0c0d0e0f', // salt
  );
export const leaf = leafOf(miner);

const leafHash = (entry: Uint8Array) => sha256(h('00', entry));
const nodeHash = (l: Uint8Array, r: Uint8Array) => sha256(h('01', l, r));

/** Root and path as RFC 6962 section 2.1 writes them. */
function rootOf(d: readonly Uint8Array[]): Uint8Array {
  const [only] = d;
  if (only !== undefined && d.length === 1) return only;
  let k = 1;
  while (k * 2 < d.length) k *= 2;
  return nodeHash(rootOf(d.slice(0, k)), rootOf(d.slice(k)));
}
function pathOf(m: number, d: readonly Uint8Array[]): Uint8Array[] {
  if (d.length === 1) return [];
  let k = 1;
  while (k * 2 < d.length) k *= 2;
  return m < k ? [...pathOf(m, d.slice(0, k)), rootOf(d.slice(k))] : [...pathOf(m - k, d.slice(k)), rootOf(d.slice(0, k))];
}

// The hour's tree: the entries of two miners and of one that stands for those of another customer, in order of their hashes.
const stranger = sha256(text('a miner of somebody else'));
const inHour = [
  ...[miner, otherMiner].map((m) => ({ minerHash: sha256(h(m)), sum: sha256(leafOf(m)), leaf: leafOf(m), of: m })),
  { minerHash: stranger, sum: sha256(text('its leaf')), leaf: undefined, of: '' },
].sort((a, b) => Buffer.compare(a.minerHash, b.minerHash));
const hourLeaves = inHour.map((e) => leafHash(h(e.minerHash, e.sum)));
const hourRoot = rootOf(hourLeaves);

export const hourPayload = h(
  '6873692f686f75722f763100', // tag "hsi/hour/v1\0"
  site,
  hour,
  spool,
  '0000000000000005', // first sequence number
  '0000000000000169', // last
  '00000003', // leaves
  hourRoot,
);
export const header = h(
  '6873692f62617463682f763100', // tag "hsi/batch/v1\0"
  '03 01 00', // kind, schema, codec
  site,
  sha256(keys.site).subarray(0, 8), // key id
  spool,
  '000000000000016a', // sequence number
  'ab'.repeat(32), // hash of the header before
  sha256(hourPayload),
  '00000064', // payload's length
  '00000003', // miners
  '00000000', // samples
  '000001a1958fe280', // first time
  '000001a195c6d100', // last time
  '0000000000007a69', // beacon: chain id
  '0000000000000010', // block number
  'cd'.repeat(32), // block hash
);
const signature = sign(h(text('hsi/sig/v1\0'), header), secrets.site);

const entry = (kind: string, ...body: readonly (string | Uint8Array)[]) => h('6873692f6c6f672f763100' /* tag "hsi/log/v1\0" */, kind, '000001a195c7bb60', ...body);
export const hourEntry = entry('01', header, signature, hourPayload);
export const siteKeyEntry = entry('02', site, '01', keys.site, '00'.repeat(32));
const hubKeyEntry = entry('03', '01 01', keys.hub);

const hex = (b: Uint8Array) => Buffer.from(b).toString('hex');
const id = (s: string) => hex(h(s)).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
const zeros = '{"not_contracted":0,"curtailment":0,"maintenance":0,"up":1,"degraded":0,"down":0,"unknown_down":0,"unknown_excused":0},"hashes":"30000001","needed":"30000000"';
const terms = text(`{"form":"hsi/terms/v1","contract":"${id(contractId)}","version":1}`);
const termsEntry = entry('04', contractId, '00000001', sha256(terms));
const excuse = text(
  `{"form":"hsi/excuse/v1","id":"1d000000-0000-4000-8000-00000000000c","kind":"curtailment","site":"${id(site)}","miners":[],"from_ms":1793491200000,"to_ms":1793491500000,"recorded_ms":1794010440000,"ends":"00000000-0000-0000-0000-000000000000"}`,
);
const excuseEntry = h('6873692f6c6f672f763100 05 000001a1b35ae140', '1d000000 0000 4000 8000 00000000000c', sha256(excuse));
const assignments = [miner, otherMiner, absentMiner].map((m, i) =>
  text(
    `{"form":"hsi/assignment/v1","id":"1d000000-0000-4000-8000-00000000000${i}","contract":"${id(contractId)}","site":"${id(site)}","miner":"${id(m)}","from_ms":1793491200000,"to_ms":0,"rate_mhs":0}`,
  ),
);
export const statement = text(
  `{"form":"hsi/statement/v1","engine":1,"contract":"${id(contractId)}","customer":"cccccccc-0000-4000-8000-000000000001","month":"2026-11","issued_ms":1796342400001,"accept_until_ms":0,"supersedes":"","reason":"",` +
    `"terms":[{"version":1,"hash":"${hex(sha256(terms))}"}],` +
    `"assignments":[${assignments.map((a, i) => `{"id":"1d000000-0000-4000-8000-00000000000${i}","hash":"${hex(sha256(a))}"}`).join(',')}],` +
    `"excuses":[{"id":"1d000000-0000-4000-8000-00000000000c","hash":"${hex(sha256(excuse))}","counted":12}],` +
    `"hours":[{"site":"${id(site)}","hour":498193,"spool":"${id(spool)}","root":"${hex(hourRoot)}","header_hash":"${hex(sha256(header))}","state":"agreed","skewed":0,"received_ms":1793498460000}],` +
    `"result":{"metric":"time","target_ppm":990000,"num":"14493","den":"14711","ppm":985181,"met":false},"credit":{"bp":500,"minor":5001,"fee_minor":100001,"currency":"EUR"},` +
    `"totals":{"slots":${zeros}},"miners":[{"site":"${id(site)}","miner":"${id(miner)}","slots":${zeros},"num":"1","den":"1","ppm":1000000}]}`,
);
const statementEntry = entry(
  '06',
  contractId,
  '00005f02', // month 24322: November 2026
  '00000001',
  sha256(statement),
  '00'.repeat(32),
  keys.hub,
  sign(h(text('hsi/statement/v1\0'), statement), secrets.hub),
);

const log = [text('an entry of somebody else'), siteKeyEntry, termsEntry, hourEntry, excuseEntry, hubKeyEntry, statementEntry, text('and another')];
const logLeaves = log.map(leafHash);
export const logRoot = rootOf(logLeaves);

const placed = (e: Uint8Array) => {
  const at = log.indexOf(e);
  const path = pathOf(at, logLeaves);
  return h(be(at, 8), be(path.length, 1), ...path);
};

const origin = 'hashinsight.log/00112233445566778899aabbccddeeff';
const base64 = (b: Uint8Array) => Buffer.from(b).toString('base64');
const note = `${origin}\n8\n${base64(logRoot)}\n`;
const keyHash = sha256(h(text(`${origin}\n`), '01', keys.log)).subarray(0, 4);
export const checkpoint = h(text(note), '0a e28094 20', text(`${origin} `), text(base64(h(keyHash, sign(text(note), secrets.log)))), '0a');

export const contract = '00112233445566778899aabbccddeeff00112233';
export const anchor = {
  chainId: '0000000000007a69', // 31337
  seq: '0000000000000007',
  block: '0000000000001000',
  tx: 'ee'.repeat(32),
};
const head = (kind: string, state = '01') =>
  h(
    '6873692f70726f6f662f763100', // tag "hsi/proof/v1\0"
    kind,
    be(checkpoint.length, 2),
    checkpoint,
    keys.log,
    state,
    state === '01' ? h(anchor.chainId, contract, anchor.seq, anchor.block, anchor.tx) : '',
  );

const at = inHour.findIndex((e) => e.of === miner);
export const hourFile = (state?: string) =>
  h(head('01', state), leaf, be(at, 4), be(pathOf(at, hourLeaves).length, 1), ...pathOf(at, hourLeaves), hourEntry, placed(hourEntry), siteKeyEntry, placed(siteKeyEntry));

const statementPart = h(be(statement.length, 4), statement, statementEntry, placed(statementEntry), hubKeyEntry, placed(hubKeyEntry));
export const statementFile = (state?: string) => h(head('02', state), statementPart);

// All three entries of the hour are given: the absent miner's place is between two of them or at an end, and the stranger's is a neighbour or is covered by a hash.
const absent = sha256(h(absentMiner));
const after = inHour.findIndex((e) => Buffer.compare(e.minerHash, absent) > 0);
const place = after < 0 ? inHour.length : after;
const given = inHour.map((e, i) => ({ ...e, i })).filter((e) => e.leaf !== undefined || e.i === place || e.i === place - 1);
const covered = given.length === inHour.length ? [] : [hourLeaves[inHour.findIndex((e) => e.of === '')] ?? h()];
export const bundleFile = (state?: string) =>
  h(
    head('03', state),
    statementPart,
    '0001', be(terms.length, 4), terms, '000001a195c7bb60', placed(termsEntry),
    '00000003', ...assignments.flatMap((a) => [be(a.length, 4), a]),
    '00000001', be(excuse.length, 4), excuse, placed(excuseEntry),
    '00000001', siteKeyEntry, placed(siteKeyEntry),
    '00000001', '01', hourEntry, placed(hourEntry),
    be(2, 4), be(given.length - 2, 4),
    ...given.flatMap((e) => [be(e.i, 4), e.leaf === undefined ? h('02', e.minerHash, e.sum) : h('01', e.leaf)]),
    be(covered.length, 4), ...covered,
  );

export const entryFile = (state?: string) => h(head('04', state), termsEntry, placed(termsEntry));
