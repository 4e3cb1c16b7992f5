// Which languages the pages speak, and which one a reader gets: chosen from the browser's, or by the reader, who is remembered.
export const languages = { en: 'English', 'zh-CN': '简体中文' } as const;
export type Language = keyof typeof languages;

const storageKey = 'hsi.language';

/** The language that the operator chose before, else the first of the browser's that the page speaks. */
export function initialLanguage(stored: string | null, preferred: readonly string[]): Language {
  if (stored === 'en' || stored === 'zh-CN') return stored;
  for (const tag of preferred) {
    const t = tag.toLowerCase();
    if (t.startsWith('zh')) return 'zh-CN';
    if (t.startsWith('en')) return 'en';
  }
  return 'en';
}

export function readLanguage(): string | null {
  try {
    return localStorage.getItem(storageKey);
  } catch {
    return null; // storage is switched off: the choice lasts as long as the page
  }
}

export function keepLanguage(l: Language): void {
  try {
    localStorage.setItem(storageKey, l);
  } catch {
    // As above.
  }
}
