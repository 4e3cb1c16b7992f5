// The page "Verify": a proof file is dropped, the reader names the contract and the endpoints he trusts, and the report is shown. Nothing is kept, and
// nothing of the file is sent anywhere.
import mark from '../../public/mark.svg?inline';
import { initialLanguage, keepLanguage, languages, readLanguage, type Language } from '../../src/text/language';
import type { Report } from './check';
import { el } from './dom';
import { readContract, readEndpoints } from './form';
import { show } from './show';
import { en, type Messages } from './text/en';
import { zhCN } from './text/zh-CN';
import { checkAway, type Job } from './work';

const catalogues: Record<Language, Messages> = { en, 'zh-CN': zhCN };

type Outcome = { readonly report: Report } | { readonly unreadable: string };

/** Everything that the page knows. It is drawn again whenever the language changes, also in the middle of a check. */
interface State {
  language: Language;
  file?: File;
  contract: string;
  endpoints: string;
  outcome?: Outcome;
  running?: { readonly stop: AbortController; part: number };
  view?: View;
  readonly code: string | undefined; // of the worker
}

/** What of the drawn page follows a check. */
interface View {
  /** Shows what is being done, if anything is. */
  act(): void;
  /** Shows what came of it, and leads the reader there. */
  ended(): void;
}

/** Draws the page. What checks is a worker that runs code. */
export function start(code: string | undefined): void {
  const root = document.getElementById('root');
  if (!root) throw new Error('index.html has no #root');
  draw(root, { language: initialLanguage(readLanguage(), navigator.languages), contract: '', endpoints: '', code });
}

function draw(at: HTMLElement, state: State): void {
  const t = catalogues[state.language];
  document.documentElement.lang = state.language;
  document.title = t.title;

  const language = el('select', { class: 'select select-quiet', 'aria-label': t.language }, ...Object.entries(languages).map(([id, name]) => el('option', { value: id, selected: id === state.language }, name)));
  language.addEventListener('change', () => {
    state.language = language.value as Language;
    keepLanguage(state.language);
    draw(at, state);
    at.querySelector('select')?.focus();
  });

  const input = el('input', { type: 'file', id: 'file', class: 'sr', accept: '.hsproof,application/octet-stream', 'aria-describedby': 'chosen' });
  const chosen = el('p', { id: 'chosen', role: 'status' });
  const zone = el('div', { class: 'drop' }, el('p', {}, t.form.drop), el('label', { for: 'file', class: 'button button-main' }, t.form.choose), input, chosen);
  const contract = el('input', { id: 'contract', class: 'input input-key', spellcheck: 'false', autocomplete: 'off', autocapitalize: 'off', placeholder: '0x…', 'aria-describedby': 'contract-error contract-help' });
  const contractError = el('p', { id: 'contract-error', class: 'form-error', role: 'alert' });
  const endpoints = el('textarea', { id: 'endpoints', class: 'input input-key', rows: 2, spellcheck: 'false', autocapitalize: 'off', placeholder: 'https://…', 'aria-describedby': 'endpoints-error endpoints-help' });
  const endpointsError = el('p', { id: 'endpoints-error', class: 'form-error', role: 'alert' });
  const submit = el('button', { type: 'submit', class: 'button button-main' });
  const progress = el('progress', { max: 1, value: 0, 'aria-label': t.form.progress });
  const part = el('span', { class: 'quiet' });
  const cancel = el('button', { type: 'button', class: 'button' }, t.form.cancel);
  const stale = el('p', { class: 'stale', role: 'status' });
  const report = el('div', { class: 'report' });
  contract.value = state.contract;
  endpoints.value = state.endpoints;

  const name = () => {
    chosen.textContent = state.file ? t.form.chosen(state.file.name, state.file.size) : t.form.none;
    act();
  };
  const act = () => {
    const { running } = state;
    submit.disabled = state.file === undefined || running !== undefined;
    submit.textContent = running ? t.form.checking : state.outcome ? t.form.again : t.form.check;
    for (const e of [progress, part, cancel]) e.hidden = running === undefined;
    progress.value = running?.part ?? 0;
    part.textContent = running ? t.form.part(Math.floor(100 * running.part)) : '';
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
    else return { contract: c, endpoints: e.urls };
    return undefined;
  };

  const run = async () => {
    const { file } = state;
    const brought = trust();
    if (file === undefined || brought === undefined) return;
    stale.textContent = '';
    giveUp();
    await checkIn(state, { file, ...brought });
  };
  const giveUp = () => {
    state.running?.stop.abort();
    delete state.running;
    act();
  };
  cancel.addEventListener('click', () => {
    giveUp();
    stale.textContent = t.form.cancelled;
    submit.focus();
  });

  const take = (files: FileList | null) => {
    if (files === null || files.length === 0) return;
    if (files.length > 1) {
      chosen.textContent = t.form.one;
      return;
    }
    giveUp();
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
    el('div', { class: 'verify-act' }, submit, progress, part, cancel, stale),
  );
  form.addEventListener('submit', (e) => {
    e.preventDefault();
    void run();
  });

  const saved = location.protocol === 'file:';
  const brand = [el('img', { src: mark, alt: '', width: 22, height: 22 }), ' ', el('span', {}, t.product)];
  const elsewhere = el('nav', { 'aria-label': t.elsewhere }, el('a', { class: 'nav-link', href: '/log' }, t.log), el('a', { class: 'nav-link', href: '/anchors' }, t.anchors));
  const keep = el('p', {}, el('a', { href: '/verify/index.html', download: 'hashinsight-verify.html' }, t.keep), ' ', el('span', { class: 'quiet' }, t.keepHelp));
  at.replaceChildren(
    el('a', { class: 'skip', href: '#content' }, t.skip),
    el('header', { class: 'top' }, saved ? el('span', { class: 'brand' }, ...brand) : el('a', { class: 'brand', href: '/' }, ...brand), !saved && elsewhere, el('div', { class: 'account' }, language)),
    el('main', { id: 'content', class: 'verify', tabindex: -1 }, el('h1', {}, t.heading), el('p', { class: 'quiet' }, t.lead), !saved && keep, form, report),
  );
  state.view = {
    act,
    ended: () => {
      act();
      if (!state.outcome) return;
      result(state.outcome);
      report.querySelector<HTMLElement>('#result')?.focus();
    },
  };
  name();
  if (state.outcome) result(state.outcome);
}

/** Checks a file, and shows what comes of it where the page is then, which may have been drawn again in another language. */
async function checkIn(state: State, job: Job): Promise<void> {
  const running: NonNullable<State['running']> = { stop: new AbortController(), part: 0 };
  state.running = running;
  state.view?.act();
  let outcome: Outcome;
  try {
    outcome = {
      report: await checkAway(
        state.code,
        job,
        (part) => {
          running.part = part;
          if (state.running === running) state.view?.act();
        },
        running.stop.signal,
      ),
    };
  } catch (err) {
    outcome = { unreadable: err instanceof Error ? err.message : String(err) };
  }
  if (state.running !== running) return; // given up, or another file was taken
  delete state.running;
  state.outcome = outcome;
  state.view?.ended();
}
