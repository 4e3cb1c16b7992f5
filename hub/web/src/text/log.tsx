// The texts of the log, its anchors and proof files. They load with those areas.
import { logEn, type LogMessages } from './log.en';
import { logZhCN } from './log.zh-CN';
import { useLanguage, type Language } from './text';

const catalogues: Record<Language, LogMessages> = { en: logEn, 'zh-CN': logZhCN };

export const useLogText = (): LogMessages => catalogues[useLanguage().language];
