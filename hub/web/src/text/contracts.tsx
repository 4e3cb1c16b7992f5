// The texts of contracts, their months, excuses and statements. They load with those areas.
import { contractsEn, type ContractMessages } from './contracts.en';
import { contractsZhCN } from './contracts.zh-CN';
import { useLanguage, type Language } from './text';

export type { ContractMessages };

const catalogues: Record<Language, ContractMessages> = { en: contractsEn, 'zh-CN': contractsZhCN };

export const useContractText = (): ContractMessages => catalogues[useLanguage().language];
