import { languages, useLanguage, useText, type Language } from './text';

export function LanguageChoice() {
  const t = useText();
  const { language, setLanguage } = useLanguage();
  return (
    <select
      className="select select-quiet"
      aria-label={t.account.language}
      value={language}
      onChange={(e) => setLanguage(e.target.value as Language)}
    >
      {Object.entries(languages).map(([code, name]) => (
        <option key={code} value={code}>
          {name}
        </option>
      ))}
    </select>
  );
}
