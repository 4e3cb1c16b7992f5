// How far something is on its way to the chain, as steps.

export const anchorStages = ['built', 'signed', 'sent', 'mined', 'safe', 'finalized'] as const;
export const proofStages = ['recorded', 'logged', 'checkpointed', 'sent', 'mined', 'safe', 'finalized'] as const;

export interface Step {
  name: string;
  state: 'done' | 'now' | 'open';
}

export interface Way {
  steps: Step[];
  /** The state, where it is none of the steps: it has left the way, or this page does not know it. */
  off: string | undefined;
}

/** How many steps were done before something left the way. */
const behindIt: Record<string, number> = {
  orphaned: anchorStages.indexOf('mined'), // it waits for a block again
  failed: anchorStages.indexOf('mined'),
  vanished: anchorStages.indexOf('mined'),
  not_anchored: proofStages.indexOf('checkpointed') + 1,
};

export function wayOf(stages: readonly string[], state: string): Way {
  const at = stages.indexOf(state);
  if (at >= 0) {
    const last = at === stages.length - 1;
    return { steps: stages.map((name, i) => ({ name, state: i < at || (last && i === at) ? 'done' : i === at ? 'now' : 'open' })), off: undefined };
  }
  const done = behindIt[state] ?? 0;
  return { steps: stages.map((name, i) => ({ name, state: i < done ? 'done' : 'open' })), off: state };
}
