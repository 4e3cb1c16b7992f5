/** The text of verify/src/sha256-rounds.ts. */
export const source: string;
