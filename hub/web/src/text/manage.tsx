// The texts of what only some keys may do: letting sites join, tunnels, keys, the audit log. They load with those areas.
import { manageEn, type ManageMessages } from './manage.en';
import { manageZhCN } from './manage.zh-CN';
import { useLanguage, type Language } from './text';

const catalogues: Record<Language, ManageMessages> = { en: manageEn, 'zh-CN': manageZhCN };

export const useManageText = (): ManageMessages => catalogues[useLanguage().language];
