// The filtered and sorted fleet, recomputed at once when the operator changes the view and otherwise
// every few seconds: rows that jump each second cannot be read, and values are patched in place anyway.
import { useEffect, useState } from 'react';
import type { Clock } from '../clock';
import type { FleetStore } from './store';
import { select, type Selection, type View } from './view';

const reselectMs = 3_000;

interface Made {
  of: { view: View; membership: number; store: FleetStore };
  at: number;
  changes: number;
  selection: Selection;
}

function make(store: FleetStore, clock: Clock, view: View): Made {
  return {
    of: { view, membership: store.membership(), store },
    at: clock.exact(),
    changes: store.changes(),
    selection: select(store.all(), view, store.sites, clock.exact()),
  };
}

export function useSelection(store: FleetStore, clock: Clock, view: View): Selection {
  const [made, setMade] = useState<Made>(() => make(store, clock, view));
  useEffect(() => {
    // Staleness changes with time alone, so this runs whether or not anything arrived.
    const timer = setInterval(() => setMade(make(store, clock, view)), reselectMs);
    return () => clearInterval(timer);
  }, [store, clock, view]);
  if (made.of.view !== view || made.of.membership !== store.membership() || made.of.store !== store) {
    // The view changed in this very render: what is painted next must already be the new one.
    const now = make(store, clock, view);
    setMade(now);
    return now.selection;
  }
  return made.selection;
}
