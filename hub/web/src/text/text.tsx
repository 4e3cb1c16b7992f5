// The language of the page: chosen from the browser's, or by the operator, who is remembered.
import { createContext, use, useState, type ReactNode } from 'react';
import { en, type Messages } from './en';
import { zhCN } from './zh-CN';

export const languages = { en: 'English', 'zh-CN': '简体中文' } as const;
export type Language = keyof typeof languages;

const catalogues: Record<Language, Messages> = { en, 'zh-CN': zhCN };
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

function readStored(): string | null {
  try {
    return localStorage.getItem(storageKey);
  } catch {
    return null; // storage is switched off: the choice lasts as long as the page
  }
}

interface TextContext {
  text: Messages;
  language: Language;
  setLanguage: (l: Language) => void;
}

const Context = createContext<TextContext>({ text: en, language: 'en', setLanguage: () => undefined });

export function TextProvider({ children }: { children: ReactNode }) {
  const [language, set] = useState<Language>(() => initialLanguage(readStored(), navigator.languages));
  const setLanguage = (l: Language) => {
    try {
      localStorage.setItem(storageKey, l);
    } catch {
      // As above.
    }
    set(l);
  };
  return <Context value={{ text: catalogues[language], language, setLanguage }}>{children}</Context>;
}

export const useText = (): Messages => use(Context).text;
export const useLanguage = () => use(Context);
