// The page "Verify": a proof file is dropped, the reader names the contract and the endpoints he trusts, and the report is shown. Nothing is kept, and
// nothing of the file is sent anywhere.
import '../../src/ui/base.css';
import '../../src/ui/shell.css';
import './verify.css';
import { initialLanguage, keepLanguage, languages, readLanguage, type Language } from '../../src/text/language';
import { chainOf } from './chain';
import { check, type Report } from './check';
import { el } from './dom';
import { readContract, readEndpoints } from './form';
import { show } from './show';
import { en, type Messages } from './text/en';
import { zhCN } from './text/zh-CN';

const catalogues: Record<Language, Messages> = { en, 'zh-CN': zhCN };

type Outcome = { readonly report: Report } | { readonly unreadable: string };

/** Everything that the page knows. It is drawn again whenever the language changes. */
const state: { language: Language; file?: File; contract: string; endpoints: string; outcome?: Outcome; run: number } = {
  language: initialLanguage(readLanguage(), navigator.languages),
  contract: '',
  endpoints: '',
  run: 0,
};

const root = document.getElementById('root');
if (!root) throw new Error('index.html has no #root');

function draw(at: HTMLElement): void {
  const t = catalogues[state.language];
  document.documentElement.lang = state.language;
  document.title = t.title;

  const language = el('select', { class: 'select select-quiet', 'aria-label': t.language }, ...Object.entries(languages).map(([id, name]) => el('option', { value: id, selected: id === state.language }, name)));
  language.addEventListener('change', () => {
    state.language = language.value as Language;
    keepLanguage(state.language);
    draw(at);
    at.querySelector('select')?.focus();
  });

  const input = el('input', { type: 'file', id: 'file', class: 'sr', accept: '.hsproof,application/octet-stream', 'aria-describedby': 'chosen' });
  const chosen = el('p', { id: 'chosen', role: 'status' });
  const zone = el('div', { class: 'drop' }, el('p', {}, t.form.drop), el('label', { for: 'file', class: 'button button-main' }, t.form.choose), input, chosen);
  const contract = el('input', { id: 'contract', class: 'input input-key', spellcheck: 'false', autocomplete: 'off', autocapitalize: 'off', placeholder: '0x…', 'aria-describedby': 'contract-error contract-help' });
  const contractError = el('p', { id: 'contract-error', class: 'form-error', role: 'alert' });
  const endpoints = el('textarea', { id: 'endpoints', class: 'input input-key', rows: 2, spellcheck: 'false', autocapitalize: 'off', placeholder: 'https://…', 'aria-describedby': 'endpoints-error endpoints-help' });
  const endpointsError = el('p', { id: 'endpoints-error', class: 'form-error', role: 'alert' });
  const submit = el('button', { type: 'submit', class: 'button button-main' }, state.outcome ? t.form.again : t.form.check);
  const progress = el('progress', { max: 1, value: 0, 'aria-label': t.form.progress, hidden: true });
  const stale = el('p', { class: 'stale', role: 'status' });
  const report = el('div', { class: 'report' });
  contract.value = state.contract;
  endpoints.value = state.endpoints;

  const name = () => {
    chosen.textContent = state.file ? t.form.chosen(state.file.name, state.file.size) : t.form.none;
    submit.disabled = state.file === undefined;
  };
  const result = (outcome: Outcome) =>
    report.replaceChildren(
      ...('report' in outcome
        ? show(t, outcome.report)
        : [el('section', { class: 'panel verdict verdict-warn', role: 'alert' }, el('h2', { id: 'result', tabindex: -1 }, t.result.name[3] ?? ''), el('p', {}, t.result.unreadable(outcome.unreadable)))]),
    );

  /** Reads the fields; undefined, with the reason beside the field, where one is wrong. */
  const trust = () => {
    const c = readContract(contract.value);
    const e = readEndpoints(endpoints.value);
    contractError.textContent = c === 'bad' ? t.form.badContract : '';
    contract.setAttribute('aria-invalid', String(c === 'bad'));
    endpointsError.textContent = e === 'too many' ? t.form.manyEndpoints : 'bad' in e ? t.form.badEndpoint(e.bad) : '';
    endpoints.setAttribute('aria-invalid', String(e === 'too many' || 'bad' in e));
    if (c === 'bad') contract.focus();
    else if (e === 'too many' || 'bad' in e) endpoints.focus();
    else return { contract: c, chain: e.urls.length > 0 ? chainOf(e.urls) : undefined };
    return undefined;
  };

  const run = async () => {
    const { file } = state;
    const brought = trust();
    if (file === undefined || brought === undefined) return;
    const mine = ++state.run; // a later one makes this one void
    submit.disabled = true;
    submit.textContent = t.form.checking;
    stale.textContent = '';
    progress.hidden = false;
    let outcome: Outcome;
    try {
      outcome = { report: await check(file, brought, (part) => (progress.value = part)) };
    } catch (err) {
      outcome = { unreadable: err instanceof Error ? err.message : String(err) };
    }
    if (mine !== state.run) return;
    state.outcome = outcome;
    progress.hidden = true;
    submit.disabled = false;
    submit.textContent = t.form.again;
    result(outcome);
    report.querySelector<HTMLElement>('#result')?.focus();
  };

  const take = (files: FileList | null) => {
    if (files === null || files.length === 0) return;
    if (files.length > 1) {
      chosen.textContent = t.form.one;
      return;
    }
    state.run++;
    state.file = files[0];
    delete state.outcome;
    report.replaceChildren();
    stale.textContent = '';
    name();
    void run();
  };
  input.addEventListener('change', () => {
    take(input.files);
    input.value = ''; // the same file may be chosen again
  });
  for (const [field, key] of [[contract, 'contract'], [endpoints, 'endpoints']] as const) {
    field.addEventListener('input', () => {
      state[key] = field.value;
      if (state.outcome) stale.textContent = t.result.changed;
    });
  }

  // Wherever on the page a file is dropped, the browser must not leave the page for it.
  at.ondragover = (e) => {
    e.preventDefault();
    zone.classList.add('drop-over');
  };
  at.ondragleave = (e) => {
    if (e.relatedTarget === null) zone.classList.remove('drop-over');
  };
  at.ondrop = (e) => {
    e.preventDefault();
    zone.classList.remove('drop-over');
    take(e.dataTransfer?.files ?? null);
  };

  const form = el(
    'form',
    { class: 'panel verify-form', novalidate: true },
    el('h2', {}, t.form.file),
    zone,
    el('label', { for: 'contract' }, t.form.contract),
    contract,
    contractError,
    el('p', { id: 'contract-help', class: 'quiet small' }, t.form.contractHelp),
    el('label', { for: 'endpoints' }, t.form.endpoints),
    endpoints,
    endpointsError,
    el('p', { id: 'endpoints-help', class: 'quiet small' }, t.form.endpointsHelp),
    el('div', { class: 'verify-act' }, submit, progress, stale),
  );
  form.addEventListener('submit', (e) => {
    e.preventDefault();
    void run();
  });

  at.replaceChildren(
    el('a', { class: 'skip', href: '#content' }, t.skip),
    el('header', { class: 'top' }, el('a', { class: 'brand', href: '/' }, el('img', { src: '/mark.svg', alt: '', width: 22, height: 22 }), ' ', el('span', {}, t.product)), el('div', { class: 'account' }, language)),
    el('main', { id: 'content', class: 'verify', tabindex: -1 }, el('h1', {}, t.heading), el('p', { class: 'quiet' }, t.lead), form, report),
  );
  name();
  if (state.outcome) result(state.outcome);
}

draw(root);
