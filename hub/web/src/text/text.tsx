// The language of the page, for its components.
import { createContext, use, useState, type ReactNode } from 'react';
import { en, type Messages } from './en';
import { initialLanguage, keepLanguage, readLanguage, type Language } from './language';
import { zhCN } from './zh-CN';

export { initialLanguage, languages, type Language } from './language';

const catalogues: Record<Language, Messages> = { en, 'zh-CN': zhCN };

interface TextContext {
  text: Messages;
  language: Language;
  setLanguage: (l: Language) => void;
}

const Context = createContext<TextContext>({ text: en, language: 'en', setLanguage: () => undefined });

export function TextProvider({ children }: { children: ReactNode }) {
  const [language, set] = useState<Language>(() => initialLanguage(readLanguage(), navigator.languages));
  const setLanguage = (l: Language) => {
    keepLanguage(l);
    set(l);
  };
  return <Context value={{ text: catalogues[language], language, setLanguage }}>{children}</Context>;
}

export const useText = (): Messages => use(Context).text;
export const useLanguage = () => use(Context);
